"""Passages that stand more than once, inside a document or across documents, cut to the token.

Lee et al. 2022 (Deduplicating training data makes language models better, arXiv:2107.06499, 4.1)
sort all suffixes of a corpus and cut every run of 50 tokens that two of them begin with. A run of
that length is all that is asked for, so prefix doubling (Manber and Myers 1993) stops there, and
gives names to equal runs instead of sorting them (Karp, Miller and Rosenberg 1972): from the names
of all runs of h tokens come those of 2h, and a run that stands only once needs no further name. The
passages are those of the suffix array, exactly: names are given by comparing, not by hashing. Only
text that hashes of short runs cannot rule out is named at all (winnowing, Schleimer et al. 2003).

A token is a run of ``\\w``, one character of a script without spaces, or one sign; white space is
none, so a passage is found in whatever way it is wrapped. ``Earlier`` means in a document with a
smaller ``doc_id``, or before in the same one.

One machine does it, with 8 bytes of memory for a token, the different tokens once, and a table of
``table_bytes``. Where the table is too small for all runs, the runs are taken in several rounds, by
a hash of what they are, never by where they stand: the result is the same, only later.
"""

from collections.abc import Callable, Iterable, Iterator, Sequence
from typing import Literal

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from pydantic import Field

from datalake.config import Config, Refusal
from datalake.cuts import cuts_of
from datalake.text_bytes import text_bytes
from datalake.workspace import Inputs, Workspace

REASON = "repeated_passage"
LITTLE_LEFT = "little_besides_repeats"

MAX_TOKENS = (1 << 31) - 1  # names are int32
_SLOT_BYTES = 16
_ANCHOR_TOKENS = 16  # of 50: one token in 18 begins an anchor, and few of them occur by chance
_COLUMNS = ("doc_id", "source", "text")


class RepeatedPassagesConfig(Config):
    """What is a repeated passage, and what becomes of it."""

    min_tokens: int = Field(default=50, ge=2)  # Lee et al. 2022; RefinedWeb, arXiv:2306.01116, G.2
    # The earliest copy stays (Lee et al.), or all go (RefinedWeb).
    keep: Literal["first", "none"] = "first"
    # A document with a cut and fewer characters outside its cuts, white space aside, goes as a
    # whole (RefinedWeb).
    min_characters: int = Field(default=20, ge=0)
    # Text that one machine is asked to search. A byte of it takes about 2 of memory.
    max_bytes: int = Field(default=4 << 30, ge=1)
    table_bytes: int = Field(default=1 << 28, ge=1 << 14)


def repeated_passages(
    workspace: Workspace,
    inputs: Inputs,
    config: RepeatedPassagesConfig,
    sources: Sequence[str] | None = None,
) -> Iterator[pa.RecordBatch]:
    """Rows of ``cuts`` for what repeats in the documents that ``duplicates`` lets survive.

    ``inputs`` names versions of ``documents`` and ``duplicates``; ``sources`` are those to look at,
    all where None. Raises Refusal, before any text is read, where there is more than
    ``config.max_bytes`` of it. ``documents`` is read twice.
    """
    columns = ("doc_id", "source", "num_bytes", "survivor")
    ids, num_bytes = [], 0
    for batch in workspace.lake.batches("duplicates", int(inputs["duplicates"]), columns):
        stays = pc.fill_null(pc.equal(batch["doc_id"], batch["survivor"]), False)
        if sources is not None:
            among = pc.is_in(batch["source"], pa.array(sources, pa.string()))
            stays = pc.and_(stays, among)
        rows = batch.filter(stays)
        ids.append(rows["doc_id"])
        num_bytes += pc.sum(rows["num_bytes"]).as_py() or 0
    if num_bytes > config.max_bytes:
        raise Refusal(
            f"text searched for repeated passages must be at most max_bytes = {config.max_bytes:,} "
            f"bytes, got {num_bytes:,}; one machine holds all of it"
        )
    survivors = pa.concat_arrays(ids) if ids else pa.array([], pa.string())
    documents = int(inputs["documents"])

    def surviving() -> Iterator[pa.RecordBatch]:
        for batch in workspace.lake.batches("documents", documents, _COLUMNS):
            yield batch.filter(pc.is_in(batch["doc_id"], survivors))

    yield from passages(surviving, config)


def passages(
    documents: Callable[[], Iterable[pa.RecordBatch]], config: RepeatedPassagesConfig
) -> Iterator[pa.RecordBatch]:
    """Rows of ``cuts`` for what repeats in batches of ``doc_id``, ``source`` and ``text``.

    ``documents`` is called twice and must give the same both times. A batch of cuts for a batch.
    """
    from datalake.dedup.repeats import passage_kernels as kernels

    tokens = Tokens()
    doc_ids = []
    for batch in documents():
        tokens.add(batch["text"])
        doc_ids += batch["doc_id"].to_pylist()
    order = np.array(sorted(range(len(doc_ids)), key=doc_ids.__getitem__), np.int64)
    del doc_ids
    names, starts = tokens.laid_out(order)
    places = first_places(names, tokens.num_known, config.min_tokens, config.table_bytes)
    begins, ends = kernels.ranges(places, config.min_tokens, config.keep == "first")
    del names, places
    # Ranges of the document that came k-th, as tokens of its own.
    owners = np.searchsorted(starts, begins, side="right") - 1
    begins, ends = begins - starts[owners], ends - starts[owners]
    arrived = order[owners]
    by_arrival = np.argsort(arrived, kind="stable")
    arrived, begins, ends = arrived[by_arrival], begins[by_arrival], ends[by_arrival]
    seen = 0
    for batch in documents():
        low, high = np.searchsorted(arrived, (seen, seen + len(batch)))
        rows = arrived[low:high] - seen
        yield _cuts(batch, rows, begins[low:high], ends[low:high], config.min_characters)
        seen += len(batch)


class Tokens:
    """Texts as numbers: equal numbers for equal tokens, each of which is stored once."""

    def __init__(self) -> None:
        self.num_known = 0
        self._slots = np.full(1 << 16, -1, np.int32)
        self._hashes = np.empty(1 << 15, np.uint64)
        self._bounds = np.zeros((1 << 15) + 1, np.int64)
        self._letters = np.empty(1 << 18, np.uint8)
        self._texts: list[np.ndarray] = []

    def add(self, text: pa.Array) -> None:
        """Take up an Arrow column of texts."""
        data, offsets = text_bytes(text)
        for start, end in zip(offsets[:-1].tolist(), offsets[1:].tolist(), strict=True):
            self._texts.append(self._numbers(data, start, end))

    def _numbers(self, data: np.ndarray, start: int, end: int) -> np.ndarray:
        from datalake.dedup.repeats import passage_kernels as kernels
        from datalake.filters.measures.characters import character_classes

        ids = np.empty(max(16, (end - start) // 3), np.int32)
        at, num_ids = start, 0
        while at < end:
            at, self.num_known, num_ids = kernels.intern(
                data,
                at,
                end,
                character_classes(),
                self._slots,
                self._hashes,
                self._bounds,
                self._letters,
                self.num_known,
                ids,
                num_ids,
            )
            if at < end:
                if num_ids == len(ids):
                    ids = np.resize(ids, 2 * len(ids))
                self._make_room(end - at)
        return ids[:num_ids].copy()

    def _make_room(self, longest: int) -> None:
        """Let one more token be known, even one of ``longest`` bytes."""
        from datalake.dedup.repeats import passage_kernels as kernels

        used = int(self._bounds[self.num_known])
        if used + longest > len(self._letters):
            grown = np.empty(max(2 * len(self._letters), used + longest), np.uint8)
            grown[:used] = self._letters[:used]
            self._letters = grown
        if 2 * self.num_known >= len(self._slots) or self.num_known == len(self._hashes):
            self._slots = np.full(2 * len(self._slots), -1, np.int32)
            self._hashes = np.resize(self._hashes, 2 * len(self._hashes))
            self._bounds = np.resize(self._bounds, 2 * len(self._bounds) - 1)
            kernels.rehash(self._hashes, self.num_known, self._slots)

    def laid_out(self, order: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """All texts in ``order`` in one array, int32, each with a DEAD behind it; and their starts.

        The texts are given away: what is left of them here is the known tokens.
        """
        sizes = np.array([len(self._texts[k]) + 1 for k in order], np.int64)
        total = int(sizes.sum())
        if total > MAX_TOKENS:
            raise Refusal(
                f"text searched for repeated passages must be at most {MAX_TOKENS:,} tokens, "
                f"got {total:,}"
            )
        starts = np.cumsum(sizes) - sizes
        names = np.full(total, -1, np.int32)
        for k, start in zip(order.tolist(), starts.tolist(), strict=True):
            ids = self._texts[k]
            names[start : start + len(ids)] = ids
            self._texts[k] = ids[:0].copy()
        return names, starts


def first_places(names: np.ndarray, num_known: int, width: int, table_bytes: int) -> np.ndarray:
    """Where the run of ``width`` tokens that begins at each token stands first: int32 [tokens].

    -1 where it stands nowhere else, or does not fit into its document. ``names``, int32 [tokens]
    with -1 behind every document, is overwritten.
    """
    from datalake.dedup.repeats import passage_kernels as kernels

    kernels.kill_single(names, num_known)
    hashes, windows, untils = kernels.anchors(names, width, min(_ANCHOR_TOKENS, (width + 1) // 2))
    _, which, counts = np.unique(hashes, return_inverse=True, return_counts=True)
    again = counts[which] > 1
    kernels.kill_outside(names, windows[again], untils[again], width)
    del hashes, windows, untils, which, counts
    other = np.empty_like(names)
    known = 1  # tokens that names stand for
    while known < width:
        step = min(known, width - known)
        live = kernels.count_pairs(names, step)
        slots, num_parts = table_size(live, table_bytes)
        keys = np.empty(slots, np.uint64)
        firsts, given = np.empty(slots, np.int32), np.empty(slots, np.int32)
        other[:] = kernels.DEAD
        next_name = 0
        for part in range(num_parts):
            next_name = kernels.name_pairs(
                names,
                step,
                other,
                keys,
                firsts,
                given,
                part,
                num_parts,
                next_name,
                known + step == width,
            )
        names, other = other, names
        known += step
    return names


def table_size(num_keys: int, table_bytes: int) -> tuple[int, int]:
    """Slots of a table, and rounds, both powers of two, that leave half of the slots empty."""
    most = 1 << (max(table_bytes // _SLOT_BYTES, 1024).bit_length() - 1)
    wanted = 1 << max(10, (2 * num_keys).bit_length())
    return min(most, wanted), max(1, wanted // most)


def _cuts(
    documents: pa.RecordBatch,
    rows: np.ndarray,
    begins: np.ndarray,
    ends: np.ndarray,
    min_characters: int,
) -> pa.RecordBatch:
    """Cuts of a batch from ranges of tokens of its documents, in the order of ``rows``."""
    from datalake.dedup.repeats import passage_kernels as kernels
    from datalake.filters.measures.characters import character_classes

    data, offsets = text_bytes(documents["text"])
    starts, stops = np.zeros_like(begins), np.zeros_like(ends)
    reasons = [REASON] * len(rows)
    kept = np.ones(len(rows), bool)
    for row in np.unique(rows):
        low, high = np.searchsorted(rows, (row, row + 1))
        start, end = offsets[row], offsets[row + 1]
        outside = kernels.locate(
            data,
            start,
            end,
            character_classes(),
            begins[low:high],
            ends[low:high],
            starts[low:high],
            stops[low:high],
        )
        if outside < min_characters:
            starts[low], stops[low], reasons[low] = 0, end - start, LITTLE_LEFT
            kept[low + 1 : high] = False
    (taken,) = np.nonzero(kept)
    reason = [reasons[k] for k in taken]
    return cuts_of(documents, rows[taken], starts[taken], stops[taken], reason)
