"""Every kind of source, by the name that a recipe calls it by."""

from typing import Annotated, get_args

from pydantic import Field

from datalake.config import Config
from datalake.sources.arxiv import ArxivConfig
from datalake.sources.common_crawl import CommonCrawlConfig
from datalake.sources.crawl import CrawlConfig
from datalake.sources.directories import DirectoriesConfig
from datalake.sources.packages import PackagesConfig
from datalake.sources.pdf import PdfConfig
from datalake.sources.pydoc_site import PydocConfig
from datalake.sources.repositories import RepositoriesConfig
from datalake.sources.source import SourceConfig
from datalake.sources.table_files import TablesConfig
from datalake.sources.warc_files import WarcFilesConfig
from datalake.sources.wikipedia import WikipediaConfig

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
