"""From matched n-grams to which items were found where: pure functions on batches and arrays.

Two readings of the documents. The first tallies which indexed n-grams occur, and in how many
documents; with that the driver decides which items were found. The second writes the places of
those, and reads only parts that have any. What comes back is the same however the documents are
spread over parts.
"""

from collections.abc import Iterable
from dataclasses import dataclass

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from pydantic import Field

from datalake.config import Config, Refusal
from datalake.dedup.benchmarks.index import (
    BYTES_PER_TOKEN,
    Index,
    build,
    count_tokens,
    token_starts,
)
from datalake.dedup.benchmarks.items import Items
from datalake.dedup.benchmarks.styles import Style
from datalake.schemas import TABLES
from datalake.text_bytes import text_bytes

MAX_ROWS = 50_000_000  # of the table; above, wordings that all items share were matched
READ = ("doc_id", "source", "text")  # of documents


class Removal(Config):
    """What goes with a match, in characters: GPT-3's way (arXiv:2005.14165, appendix C)."""

    margin_characters: int = Field(default=200, ge=0)  # removed on each side of a match
    min_piece_characters: int = Field(default=200, ge=0)  # shorter pieces go, too
    max_pieces: int = Field(default=10, ge=1)  # a document in more of them, short ones too, goes


@dataclass(frozen=True)
class Search:
    """What is looked for, and the rule: all that a task needs."""

    index: Index
    style: Style
    names: tuple[str, ...]  # of benchmarks
    benchmarks: np.ndarray  # int64 [items] into ``names``
    lengths: np.ndarray  # int64 [items]: n of each, 0 where it cannot be matched
    sizes: np.ndarray  # int64 [items]: what a fraction is of, n-grams or tokens

    @property
    def matchable(self) -> np.ndarray:
        """Which items have an n-gram in the index."""
        return (self.lengths > 0) & (self.sizes > 0)

    def names_of(self, items: np.ndarray) -> list[str]:
        return [self.names[b] for b in self.benchmarks[items].tolist()]

    def covered(self, keys: np.ndarray, items: np.ndarray, hits: np.ndarray) -> "Fractions":
        """The fraction of its item that the hits of each key cover; a key belongs to one item."""
        from datalake.dedup.benchmarks import kernels as kernels

        counted = hits[:, kernels.NUM_TOKENS] == self.lengths[items]
        if self.style.follow:
            counted[:] = True
        begins = hits[counted, kernels.TOKEN]
        size = hits[counted, kernels.NUM_TOKENS] if self.style.counts_tokens else 1
        whose, starts, ends = merged(keys[counted], begins, begins + size)
        unique, heads = np.unique(whose, return_index=True)
        sums = np.add.reduceat(ends - starts, heads) if len(heads) else np.zeros(0, np.int64)
        item = self.index.items_of(starts[heads])
        return Fractions(unique, item, sums / np.maximum(1, self.sizes[item]))


@dataclass(frozen=True)
class Fractions:
    """Keys in ascending order, the item of each, and how much of it was found."""

    keys: np.ndarray  # int64
    items: np.ndarray  # int64
    values: np.ndarray  # float64, 0..1

    def of(self, keys: np.ndarray) -> np.ndarray:
        """The fraction of each key; 0 for those that are not known."""
        if not len(self.keys):
            return np.zeros(len(keys))
        place = np.minimum(np.searchsorted(self.keys, keys), len(self.keys) - 1)
        return np.where(self.keys[place] == keys, self.values[place], 0.0)


def plan(items: Items, style: Style, num_columns: dict[str, int], max_index_bytes: int) -> Search:
    """The index of ``items`` for a style.

    Raises Refusal where it would take more than ``max_index_bytes``.
    """
    num_tokens = count_tokens(items.text, style.tokens)
    needed = int(num_tokens.sum()) * BYTES_PER_TOKEN
    if needed > max_index_bytes:
        rule = f"at least {needed:,} for items of {int(num_tokens.sum()):,} tokens"
        raise Refusal(f"contamination.max_index_bytes must be {rule}, got {max_index_bytes:,}")
    lengths = np.zeros(len(items), np.int64)
    for number, name in enumerate(items.names):
        if style.needs_label and num_columns[name] < 2:
            rule = f"a query and, last, a label for style {style.kind}"
            raise Refusal(f"contamination: the text of {name} must be {rule}, got one column")
        rows = items.benchmarks == number
        lengths[rows] = style.lengths(name, num_tokens[rows])
    labels = np.zeros(len(items), np.int64)
    if style.needs_label:
        starts, firsts = token_starts(items.text, style.tokens)
        for k in range(len(items)):  # once for each item, in the driver
            labels[k] = np.searchsorted(starts[firsts[k] : firsts[k + 1]], items.labels[k])
    index = build(
        items.text,
        style.tokens,
        style.grams(lengths, num_tokens, labels),
        (style.follow, style.budget, style.least),
        style.max_items_per_gram,
    )
    gram_of_place = np.repeat(np.arange(index.num_grams), np.diff(index.arrays.place_firsts))
    item = index.items_of(index.arrays.places)
    counted = index.arrays.gram_lengths[gram_of_place] == lengths[item]
    sizes = np.bincount(item[counted], minlength=len(items)).astype(np.int64)
    if style.counts_tokens:
        sizes = np.where(sizes > 0, num_tokens, 0)
    return Search(index, style, items.names, items.benchmarks, lengths, sizes)


@dataclass(frozen=True)
class Tally:
    """What the n-grams of the items have in common with some documents."""

    grams: np.ndarray  # int64, ascending
    documents: np.ndarray  # int64: how many have each
    keys: np.ndarray  # int64: items that were followed, see ``begins``
    begins: np.ndarray  # int64: tokens of the items that are in a match
    ends: np.ndarray  # int64, one past
    num_documents: int
    num_bytes: int

    @classmethod
    def total(cls, tallies: Iterable["Tally"]) -> "Tally":
        """Of all their documents together; the same in any order."""
        every = list(tallies)

        def joined(name: str) -> np.ndarray:
            arrays = [getattr(one, name) for one in every]
            return np.concatenate([np.zeros(0, np.int64), *arrays]).astype(np.int64)

        grams, inverse = np.unique(joined("grams"), return_inverse=True)
        documents = np.bincount(inverse, weights=joined("documents"), minlength=len(grams))
        return cls(
            grams,
            documents.astype(np.int64),
            *merged(joined("keys"), joined("begins"), joined("ends")),
            sum(one.num_documents for one in every),
            sum(one.num_bytes for one in every),
        )


def tally(documents: pa.RecordBatch, search: Search) -> Tally:
    """Which n-grams a batch of ``READ`` has."""
    from datalake.dedup.benchmarks import kernels as kernels

    hits = search.index.hits(documents["text"])
    num_grams = max(1, search.index.num_grams)
    pairs = np.unique(hits[:, kernels.DOCUMENT] * num_grams + hits[:, kernels.GRAM])
    grams, counts = np.unique(pairs % num_grams, return_counts=True)
    keys = begins = ends = np.zeros(0, np.int64)
    if search.style.follow and len(hits):
        begins = hits[:, kernels.TOKEN]
        size = hits[:, kernels.NUM_TOKENS] if search.style.counts_tokens else 1
        keys, begins, ends = merged(search.index.items_of(begins), begins, begins + size)
    num_bytes = pc.sum(pc.binary_length(documents["text"])).as_py() or 0
    return Tally(grams, counts, keys, begins, ends, len(documents), num_bytes)


@dataclass(frozen=True)
class Verdict:
    """Which items were found, how much of each, and which n-grams are acted upon."""

    found: np.ndarray  # bool [items]
    fractions: np.ndarray  # float64 [items], 0..1, in all documents together
    grams: np.ndarray  # bool [grams]: of found items, and in a document
    acting: np.ndarray  # bool [grams]


def decide(total: Tally, search: Search) -> Verdict:
    """The verdict on every item. Raises Refusal where more than ``MAX_ROWS`` rows would follow."""
    from datalake.dedup.benchmarks import kernels as kernels

    arrays, style = search.index.arrays, search.style
    hits = np.zeros((len(total.grams), kernels.NUM_FIELDS), np.int64)
    hits[:, kernels.GRAM] = total.grams
    hits[:, kernels.TOKEN] = -1
    hits[:, kernels.NUM_TOKENS] = arrays.gram_lengths[total.grams]
    hits = search.index.expanded(hits)
    if style.follow:
        hits = np.zeros((len(total.keys), kernels.NUM_FIELDS), np.int64)
        hits[:, kernels.TOKEN], hits[:, kernels.NUM_TOKENS] = (
            total.begins,
            total.ends - total.begins,
        )
    items = search.index.items_of(hits[:, kernels.TOKEN])
    measured = search.covered(items, items, hits)
    fractions = np.zeros(len(search.lengths))
    fractions[measured.items] = measured.values
    every = np.arange(len(fractions))
    found = search.matchable & style.found(fractions, search.names_of(every)) & (fractions > 0)
    seen = np.zeros(search.index.num_grams, bool)
    seen[total.grams] = True
    of_found = found[search.index.items_of(arrays.places)].astype(np.int64)
    sums = np.append(0, np.cumsum(of_found))
    num_places = sums[arrays.place_firsts[1:]] - sums[arrays.place_firsts[:-1]]
    _require_few_rows(total, search, num_places)
    acting = np.ones(search.index.num_grams, bool)
    if (length := style.acting_length()) is not None:
        acting &= arrays.gram_lengths == length
    if style.max_documents is not None:
        acting[total.grams[total.documents > style.max_documents]] = False
    return Verdict(found, fractions, seen & (num_places > 0), acting)


def _require_few_rows(total: Tally, search: Search, num_places: np.ndarray) -> None:
    rows = total.documents * num_places[total.grams]
    if not search.style.follow and rows.sum() > MAX_ROWS:
        arrays = search.index.arrays
        worst = int(total.grams[np.argmax(rows)])
        token = int(arrays.places[arrays.place_firsts[worst]])
        last = token + int(arrays.gram_lengths[worst]) - 1
        said = arrays.text[arrays.starts[token] : arrays.stops[last]].tobytes().decode()
        raise Refusal(
            "contamination.style.max_items_per_gram must be set where items share a wording, got "
            f"{int(rows.max()):,} matches of {said!r} in {int(num_places[worst]):,} items"
        )


def locate(
    documents: pa.RecordBatch,
    ids: tuple[str, ...],
    search: Search,
    verdict: Verdict,
    action: str,
    removal: Removal,
) -> pa.RecordBatch:
    """Rows of ``contamination`` for a batch of ``READ``; ``ids`` are those of the items."""
    from datalake.dedup.benchmarks import kernels as kernels

    hits = search.index.hits(documents["text"])
    hits = _compact(hits[verdict.grams[hits[:, kernels.GRAM]]], search.index)
    hits = search.index.expanded(hits)
    items = search.index.items_of(hits[:, kernels.TOKEN])
    stays = verdict.found[items]
    hits, items = hits[stays], items[stays]
    num_items = len(ids)
    keys = hits[:, kernels.DOCUMENT] * num_items + items
    here = search.covered(keys, items, hits)
    if search.style.in_one_document:
        enough = search.style.found(here.values, search.names_of(here.items))
        stays = np.isin(keys, here.keys[enough])
        hits, items, keys = hits[stays], items[stays], keys[stays]
    acts = np.zeros(len(keys), bool)
    if action != "report":
        act = here.keys[search.style.acts(here.values, search.names_of(here.items))]
        acts = np.isin(keys, act) & verdict.acting[hits[:, kernels.GRAM]]
    data, offsets = text_bytes(documents["text"])
    spans = hits[:, kernels.START], hits[:, kernels.STOP]
    removed = merged(keys[acts], spans[0][acts], spans[1][acts])
    left = merged(keys[~acts], spans[0][~acts], spans[1][~acts])
    left = _without_overlaps(left, removed)
    key, start, stop = (np.concatenate(pair) for pair in zip(removed, left, strict=True))
    remove = np.arange(len(key)) < len(removed[0])
    order = np.lexsort((key, start, key // max(1, num_items)))
    key, start, stop, remove = key[order], start[order], stop[order], remove[order]
    document, item = key // max(1, num_items), key % max(1, num_items)
    cut_starts, cut_stops = start.copy(), stop.copy()
    if action == "drop":
        cut_starts, cut_stops = offsets[document], offsets[document + 1]
    elif remove.any():
        a, b = np.empty(remove.sum(), np.int64), np.empty(remove.sum(), np.int64)
        kernels.widen(
            data,
            offsets,
            document[remove],
            start[remove],
            stop[remove],
            removal.margin_characters,
            removal.min_piece_characters,
            removal.max_pieces,
            a,
            b,
        )
        cut_starts[remove], cut_stops[remove] = a, b
    base = offsets[document]
    columns = {
        "doc_id": documents["doc_id"].take(pa.array(document)),
        "source": documents["source"].take(pa.array(document)),
        "benchmark": pa.array(search.names_of(item), pa.string()),
        "item_id": pa.array([ids[k] for k in item.tolist()], pa.string()),
        "item_fraction": pa.array(here.of(key)),
        "total_fraction": pa.array(verdict.fractions[item]),
        "start": pa.array(start - base),
        "end": pa.array(stop - base),
        "remove": pa.array(remove),
        "cut_start": pa.array(cut_starts - base, mask=~remove),
        "cut_end": pa.array(cut_stops - base, mask=~remove),
    }
    schema = TABLES["contamination"].arrow
    return pa.RecordBatch.from_arrays([columns[n] for n in schema.names], schema=schema)


Spans = tuple[np.ndarray, np.ndarray, np.ndarray]


def merged(keys: np.ndarray, begins: np.ndarray, ends: np.ndarray) -> Spans:
    """Ranges of one key that overlap or touch as one, in order of keys and begins."""
    if not len(keys):
        return keys, begins, ends
    order = np.lexsort((begins, keys))
    keys, begins, ends = keys[order], begins[order], ends[order]
    other = np.append(True, keys[1:] != keys[:-1])
    # Ends grow from key to key, so that one running maximum serves all of them.
    shift = (np.cumsum(other) - 1) * (int(ends.max()) + 2)
    reach = np.maximum.accumulate(ends + shift)
    heads = np.flatnonzero(other | np.append(True, begins[1:] + shift[1:] > reach[:-1]))
    return keys[heads], begins[heads], np.maximum.reduceat(ends, heads)


def _compact(hits: np.ndarray, index: Index) -> np.ndarray:
    """Hits of one n-gram that overlap in a document as one: a word that is repeated a million
    times, in an item that repeats it, would be a million rows for every place in the item."""
    from datalake.dedup.benchmarks import kernels as kernels

    if index.arrays.follow or not len(hits):
        return hits
    keys = hits[:, kernels.DOCUMENT] * index.num_grams + hits[:, kernels.GRAM]
    keys, starts, stops = merged(keys, hits[:, kernels.START], hits[:, kernels.STOP])
    made = np.full((len(keys), kernels.NUM_FIELDS), -1, np.int64)
    made[:, kernels.DOCUMENT], made[:, kernels.GRAM] = np.divmod(keys, index.num_grams)
    made[:, kernels.NUM_TOKENS] = index.arrays.gram_lengths[made[:, kernels.GRAM]]
    made[:, kernels.START], made[:, kernels.STOP] = starts, stops
    return made


def _without_overlaps(spans: Spans, others: Spans) -> Spans:
    """Those of ``spans`` that overlap none of ``others`` of their key; both are merged."""
    if not len(spans[0]) or not len(others[0]):
        return spans
    width = int(max(spans[2].max(), others[2].max())) + 1
    ranks = np.unique(np.concatenate([spans[0], others[0]]))
    shift, other_shift = (np.searchsorted(ranks, s[0]) * width for s in (spans, others))
    # The last of the others that begins before the end.
    place = np.searchsorted(others[1] + other_shift, spans[2] + shift) - 1
    reach = np.where(place >= 0, (others[2] + other_shift)[np.maximum(place, 0)], -1)
    apart = reach <= spans[1] + shift
    return spans[0][apart], spans[1][apart], spans[2][apart]
