"""A base model at work: openings of held-out documents, as it would go on.

Which documents are shown is decided by the order of their identities, which are digests, so the
choice is neither the model's nor anyone's.
"""

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from evaluation.held_out import Origin
from evaluation.likelihood import PackedRows
from evaluation.scorecard import Sample
from training.tokenizer.bpe import Tokenizer

# Token ids of prompts, and a temperature (None is greedy), to the token ids of continuations.
Continue = Callable[[Sequence[Sequence[int]], float | None], Sequence[Sequence[int]]]


@dataclass(frozen=True, kw_only=True, slots=True)
class Opening:
    """How a held-out document begins, and how it goes on."""

    doc_id: str
    prompt_ids: tuple[int, ...]  # with the special token that set the document off, if there is one
    truth_ids: tuple[int, ...]


@dataclass(frozen=True, kw_only=True, slots=True)
class Continuation:
    """How the model goes on after an opening: the likeliest way, and a drawn one."""

    opening: Opening
    greedy: tuple[int, ...]
    sampled: tuple[int, ...]


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
            cut = first + prompt_tokens
            chosen.append(
                Opening(
                    doc_id=doc_id,
                    prompt_ids=tuple(tokens[start:cut].tolist()),
                    truth_ids=tuple(tokens[cut : first + length].tolist()),
                )
            )
    for chosen in found.values():
        yield from chosen


def continued(
    openings: Sequence[Opening], go_on: Continue, temperature: float
) -> Iterator[Continuation]:
    """What the model makes of each opening."""
    if not openings:  # no document of the split is long enough
        return
    prompts = [one.prompt_ids for one in openings]
    found = zip(openings, go_on(prompts, None), go_on(prompts, temperature), strict=True)
    for opening, greedy, sampled in found:
        yield Continuation(opening=opening, greedy=tuple(greedy), sampled=tuple(sampled))


def sample(continuation: Continuation, origin: Origin, tokenizer: Tokenizer) -> Sample:
    """The same as text, special tokens left out, with where the document is from."""
    opening = continuation.opening
    text = [i for i in opening.prompt_ids if tokenizer.bytes_per_token[i]]
    return Sample(
        doc_id=opening.doc_id,
        source=origin.source,
        title=origin.title,
        licence=origin.licence,
        prompt=tokenizer.decode(text),
        prompt_ids=opening.prompt_ids,
        truth=tokenizer.decode(opening.truth_ids),
        greedy=tokenizer.decode(continuation.greedy),
        sampled=tokenizer.decode(continuation.sampled),
    )
