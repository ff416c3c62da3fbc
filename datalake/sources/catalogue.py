"""Every kind of source, by the name that a recipe calls it by."""

from typing import Annotated, get_args

from pydantic import Field

from datalake.config import Config
from datalake.sources.files.arxiv import ArxivConfig
from datalake.sources.files.directories import DirectoriesConfig
from datalake.sources.files.pdf import PdfConfig
from datalake.sources.files.table_files import TablesConfig
from datalake.sources.files.wikipedia import WikipediaConfig
from datalake.sources.software.packages import PackagesConfig
from datalake.sources.software.repositories import RepositoriesConfig
from datalake.sources.source import SourceConfig
from datalake.sources.warcs.common_crawl import CommonCrawlConfig
from datalake.sources.warcs.warc_files import WarcFilesConfig
from datalake.sources.web.crawl import CrawlConfig
from datalake.sources.web.pydoc_site import PydocConfig

Source = Annotated[
    CommonCrawlConfig
    | CrawlConfig
    | PydocConfig
    | WarcFilesConfig
    | RepositoriesConfig
    | PackagesConfig
    | WikipediaConfig
    | ArxivConfig
    | PdfConfig
    | DirectoriesConfig
    | TablesConfig,
    Field(discriminator="kind"),
]
RAW_TABLES = (  # in the order in which the graph shows them
    "raw/web",
    "raw/code",
    "raw/wikipedia",
    "raw/arxiv",
    "raw/pdf",
    "raw/directories",
    "raw/tables",
)
KINDS: dict[str, type[SourceConfig]] = {
    config.model_fields["kind"].default: config for config in get_args(get_args(Source)[0])
}


class Sources(Config):
    """The sources of one raw table, by their names in the recipe."""

    sources: dict[str, Source]
