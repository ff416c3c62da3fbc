"""Where texts are cut: every rule that looks at less than a document, gathered in one table.

Lines that the rules of a recipe refuse and personal data are found document by document; lines and
passages that stand elsewhere are found among all documents that survive; items of benchmarks come
from ``contamination``. Only documents that ``duplicates`` lets survive are looked at; above
``MAX_BROADCAST`` of them all are, since cuts of the others do no harm.
"""

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
import pyarrow as pa

from datalake.config import Config
from datalake.cuts import SCHEMA
from datalake.dedup.benchmarks.contamination import cuts_of_contamination
from datalake.dedup.clustering.survivors import surviving_ids
from datalake.dedup.repeats.lines import RepeatedLinesConfig, repeated_lines
from datalake.dedup.repeats.substrings import RepeatedPassagesConfig, repeated_passages
from datalake.filters.lines import cut_lines
from datalake.filters.measures.signals import Words
from datalake.tables import Commit
from datalake.transforms.personal.personal_data import PersonalDataConfig, find
from datalake.workspace import Inputs, Workspace

MAX_BROADCAST = 5_000_000  # survivors; 32 bytes each in every worker
_COLUMNS = ("doc_id", "source", "language", "text")


class CutsConfig(Config):
    """What is cut out of texts, or masked in them."""

    personal_data: PersonalDataConfig | None = PersonalDataConfig()
    repeated_lines: RepeatedLinesConfig | None = None
    repeated_passages: RepeatedPassagesConfig | None = None
    # Kinds of source in which repeats are looked for, all where None: code repeats what it must.
    repeats_in: tuple[str, ...] | None = None


class AllCutsConfig(CutsConfig):
    """The same, with what other sections of the recipe have to say."""

    lines: Mapping[str, tuple[str, ...]]  # kind of source -> line rules, of the sets in its rules
    words: Words  # as in the signals


def write_cuts(workspace: Workspace, inputs: Inputs, config: AllCutsConfig) -> Commit:
    """Write ``cuts`` from documents, duplicates and, where it is among the inputs, contamination.

    Raises Refusal where more text than one machine holds would be searched for passages.
    """
    from datalake import spark

    lake, parts = workspace.lake, []
    if config.personal_data or config.lines:
        workspace.say("looking for lines that rules refuse, and for personal data")
        own = _OwnCuts(surviving_ids(lake, int(inputs["duplicates"]), MAX_BROADCAST), config)
        version = int(inputs["documents"])
        parts += spark.map_parts(workspace, "documents", version, _COLUMNS, own, "cuts")
    if config.repeated_lines:
        workspace.say("looking for lines that stand in several documents")
        lines = repeated_lines(workspace, inputs, config.repeated_lines, config.repeats_in)
        parts += spark.write_parts(workspace, "cuts", lines)
    if config.repeated_passages:
        workspace.say("looking for passages that stand in several places")
        parts += lake.write_parts(
            "cuts",
            repeated_passages(workspace, inputs, config.repeated_passages, config.repeats_in),
        )
    if (found := inputs.get("contamination")) is not None:
        items = cuts_of_contamination(lake.read("contamination", int(found)))
        parts += lake.write_parts("cuts", items)
    return lake.commit("cuts", parts, "overwrite", inputs)


@dataclass(frozen=True)
class _OwnCuts:
    """Cuts that follow from a document alone."""

    survivors: np.ndarray | None
    config: AllCutsConfig

    def __call__(self, documents: pa.RecordBatch) -> pa.RecordBatch:
        if self.survivors is not None:
            ids = np.array(documents["doc_id"].to_pylist(), "S32")
            documents = documents.filter(pa.array(np.isin(ids, self.survivors)))
        found = [cut_lines(documents, self.config.lines, self.config.words)]
        if self.config.personal_data:
            found.append(find(documents, self.config.personal_data))
        cuts = pa.Table.from_batches(found, SCHEMA).combine_chunks().to_batches()
        return cuts[0] if cuts else pa.RecordBatch.from_pylist([], SCHEMA)
