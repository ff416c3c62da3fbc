"""A base model at work: openings of held-out documents, as it would go on.

Which documents are shown is decided by the order of their identities, which are digests, so the
choice is neither the model's nor anyone's.
"""

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from evaluation.likelihood import PackedRows

# Token ids of prompts, and a temperature (None is greedy), to the token ids of continuations.
Continue = Callable[[Sequence[Sequence[int]], float | None], Sequence[Sequence[int]]]


@dataclass(frozen=True, kw_only=True, slots=True)
class Opening:
    """How a held-out document begins, and how it goes on."""

    doc_id: str
    prompt_ids: tuple[int, ...]  # with the special token that set the document off, if there is one
    truth_ids: tuple[int, ...]


def openings(
    rows: PackedRows,
    sources: Mapping[str, str],
    bytes_per_token: NDArray[np.integer],
    *,
    per_source: int,
    prompt_tokens: int,
    new_tokens: int,
) -> Iterator[Opening]:
    """The first ``per_source`` documents of each source, by identity, whose opening fits a row.

    ``sources`` names the source of each document. A prompt has ``prompt_tokens`` scored tokens.
    """
    length = prompt_tokens + new_tokens
    found: dict[str, list[Opening]] = {source: [] for source in sorted(set(sources.values()))}
    places = {rows.doc_ids[document]: (row, start) for document, row, start in rows.openings()}
    for doc_id, (row, start) in sorted(places.items()):
        tokens = rows.tokens[row]
        first = start + int(bytes_per_token[tokens[start]] == 0)
        inside = rows.documents[row, start : first + length]
        chosen = found[sources[doc_id]]
        if first + length > len(tokens) or len(set(inside.tolist())) > 1:
            continue
        if len(chosen) < per_source:
            # A separator at the end of the document before sets this one off just as well.
            lead = first - int(bytes_per_token[tokens[first - 1]] == 0)
            cut = first + prompt_tokens
            chosen.append(
                Opening(
                    doc_id=doc_id,
                    prompt_ids=tuple(tokens[lead:cut].tolist()),
                    truth_ids=tuple(tokens[cut : first + length].tolist()),
                )
            )
    for chosen in found.values():
        yield from chosen


def until_special(ids: Sequence[int], bytes_per_token: NDArray[np.integer]) -> list[int]:
    """``ids`` up to the first special token, where the model has ended its text."""
    special = np.flatnonzero(bytes_per_token[np.asarray(ids, np.int64)] == 0)
    return list(ids[: special[0]] if special.size else ids)
