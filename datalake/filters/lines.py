"""Line rules of C4, FineWeb and RefinedWeb: what they take out of a text, as cuts.

``line_kernels`` judges every line, for the signals and for the cuts alike. What is left of a text
once its cuts are made is what the published code makes of it:

- ``c4``, ``fineweb``: a refused line goes with its line end; of a line that stays, citations and
  the white space at its ends go, and a line end that is no line feed becomes one. Blank lines are
  refused for their few words, or because they do not end as a sentence.
- ``refinedweb``: a refused line goes with its line feed, edits go out of lines that stay, and of
  more than two line feeds in a row two stay.

Where the last line goes, so does the line end before it.
"""

from collections.abc import Mapping
from typing import TYPE_CHECKING

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from datalake.config import Refusal
from datalake.cuts import SCHEMA, cuts_of
from datalake.filters.bounds import nearest
from datalake.filters.measures import line_constants as constants
from datalake.filters.measures.characters import character_classes
from datalake.text_bytes import text_bytes

if TYPE_CHECKING:
    from datalake.filters.measures.signals import Words

VARIANTS = {
    "c4": constants.C4,
    "fineweb": constants.FINEWEB_C4,
    "refinedweb": constants.REFINEDWEB,
}
VERDICTS = {  # reason of the cut, behind the name of the rules
    constants.LONG_WORD: "long_word",
    constants.NO_END_MARK: "no_end_mark",
    constants.FEW_WORDS: "few_words",
    constants.JAVASCRIPT: "javascript",
    constants.POLICY: "policy",
    constants.UPPERCASE: "uppercase",
    constants.NUMERIC: "numeric",
    constants.COUNTER: "counter",
    constants.EMPTIED: "emptied",
}
_CITATION, _EDIT, _MARGIN, _LINE_END, _LINE_FEEDS = range(100, 105)
_NAMES = {
    **VERDICTS,
    _CITATION: "citation",
    _EDIT: "edit",
    _MARGIN: "margin",
    _LINE_END: "line_end",
    _LINE_FEEDS: "line_feeds",
}
_LINE_FEED = 10


def cut_lines(
    documents: pa.RecordBatch, line_rules: Mapping[str, tuple[str, ...]], words: "Words" = "unicode"
) -> pa.RecordBatch:
    """Rows of ``cuts`` of the lines that ``line_rules`` refuse and edit, by document and place.

    documents: ``doc_id``, ``source``, ``text``; line_rules: kind of source -> names of
    ``VARIANTS``, as ``KeptConfig.line_rules_for`` gives them, none where a source is missing;
    words: as the signals were measured. A reason is the name of the rules and why: ``c4_policy``.
    Raises Refusal for a name that is not of ``VARIANTS``.
    """
    for source, names in line_rules.items():
        for name in names:
            if name not in VARIANTS:
                raise Refusal(
                    f"line rules of {source} must be of {', '.join(VARIANTS)}, got {name}"
                    + nearest(name, tuple(VARIANTS))
                )
    found = []
    for name in VARIANTS:
        sources = [source for source, names in line_rules.items() if name in names]
        asked = pc.is_in(documents["source"], pa.array(sources, pa.string()))
        rows = np.flatnonzero(asked.to_numpy(zero_copy_only=False))
        if len(rows):
            found.append(_cuts(documents, rows, name, words))
    cuts = pa.Table.from_batches(found, SCHEMA).combine_chunks()
    return cuts.to_batches()[0] if len(cuts) else pa.RecordBatch.from_pylist([], SCHEMA)


def _cuts(documents: pa.RecordBatch, rows: np.ndarray, name: str, words: "Words") -> pa.RecordBatch:
    """Cuts that the rules ``name`` make in the documents ``rows`` of the batch."""
    from datalake.filters.measures import line_kernels  # numba
    from datalake.filters.measures.signals import alone_class, texts_of

    text = texts_of(documents).take(pa.array(rows))
    data, offsets = text_bytes(text)
    lines, edits = line_kernels.judge_documents(
        data, offsets, character_classes(), alone_class(words), VARIANTS[name]
    )
    document, start, end, following, first, last, verdict = lines.T
    ranges = [_refused(document, start, end, following, verdict)]  # document, start, end, why
    ranges.append(np.stack([document[edits[:, 0]], edits[:, 1], edits[:, 2]]))
    why = [ranges[0][3], np.full(len(edits), _EDIT if name == "refinedweb" else _CITATION)]
    ranges[0] = ranges[0][:3]
    if name == "refinedweb":
        found = _surplus_line_feeds(document, start, end, following)
        ranges.append(found)
        why.append(np.full(found.shape[1], _LINE_FEEDS))
    else:
        stays = verdict == constants.KEPT
        for low, high, of in ((start, first, _MARGIN), (last, end, _MARGIN)):
            some = stays & (high > low)
            ranges.append(np.stack([document[some], low[some], high[some]]))
            why.append(np.full(some.sum(), of))
        some = np.flatnonzero(stays & (following > end))
        feeds = (data[offsets[document[some]] + end[some]] == _LINE_FEED) & (
            following[some] - end[some] == 1
        )
        some = some[~feeds]
        ranges.append(np.stack([document[some], end[some], following[some]]))
        why.append(np.full(len(some), _LINE_END))
    of, low, high = np.concatenate(ranges, axis=1)
    reason = np.concatenate(why)
    order = np.lexsort((high, low, of))
    reasons = [f"{name}_{_NAMES[kind]}" for kind in reason[order].tolist()]
    replacements = ["\n" if kind == _LINE_END else "" for kind in reason[order].tolist()]
    return cuts_of(documents, rows[of[order]], low[order], high[order], reasons, replacements)


def _refused(
    document: np.ndarray,
    start: np.ndarray,
    end: np.ndarray,
    following: np.ndarray,
    verdict: np.ndarray,
) -> np.ndarray:
    """Neighbouring lines refused for one reason: document, start, end, verdict ``[4, runs]``."""
    refused = verdict != constants.KEPT
    goes_on = np.zeros(len(refused), bool)  # with the line before it
    goes_on[1:] = refused[1:] & (verdict[1:] == verdict[:-1]) & (document[1:] == document[:-1])
    heads = np.flatnonzero(refused & ~goes_on)
    tails = np.flatnonzero(refused & ~np.append(goes_on[1:], False))
    low, high = start[heads].copy(), following[tails]
    # The last line that stays ends its document, so its line end goes with those behind it.
    final = np.append(document[1:] != document[:-1], True) & (following == end)
    stays = np.maximum.accumulate(np.where(refused, -1, np.arange(len(refused))))
    for line in np.flatnonzero(final & refused):
        before = stays[line]
        if before >= 0 and document[before] == document[line]:
            low[np.searchsorted(heads, before + 1)] = end[before]
    return np.stack([document[heads], low, high, verdict[heads]])


def _surplus_line_feeds(
    document: np.ndarray, start: np.ndarray, end: np.ndarray, following: np.ndarray
) -> np.ndarray:
    """Blank lines that make three line feeds in a row or more: document, start, end."""
    blank = (start == end) & (following > end)
    number = np.arange(len(blank))
    filled = np.maximum.accumulate(np.where(blank & (start > 0), -1, number))
    some = blank & (number - filled > 1)  # two line feeds end in a blank line, or begin a text
    return np.stack([document[some], start[some], following[some]])
