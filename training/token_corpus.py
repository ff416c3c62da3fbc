"""The corpus as token ids: every document encoded once, into a file that memory is mapped to.

A token is two bytes where its text was four, and only identities stay in memory, so one machine
packs a corpus many times its memory; ``training.data.packing`` then reads the documents in the
order of training.
"""

import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from datalake import charts
from datalake.tables import Lake
from training.data.packing import Documents
from training.tokenizer.bpe import Tokenizer

COLUMNS = ("doc_id", "source", "cluster", "weight", "num_bytes", "text")


@dataclass(frozen=True, slots=True, eq=False)
class TokenCorpus:
    """The columns of ``corpus`` ``[documents]``, with ids in place of text."""

    documents: Documents
    sources: np.ndarray  # str
    clusters: np.ndarray  # str
    weights: np.ndarray  # float64
    num_bytes: np.ndarray  # int64, of the text

    @property
    def num_tokens(self) -> np.ndarray:
        """How many ids each document has, int64 ``[documents]``."""
        return np.diff(self.documents.offsets)

    def report(
        self, repeats: Mapping[str, np.ndarray], context_length: int
    ) -> dict[str, int | float | str]:
        """What each split holds; ``repeats`` says how often it shows each document."""
        report: dict[str, int | float | str] = {}
        for split, times in repeats.items():
            num_tokens = int(times @ (self.num_tokens + 1))  # with the one that opens each
            num_bytes = int(times @ self.num_bytes)
            report |= {
                f"{split} documents": int(np.count_nonzero(times)),
                f"{split} rows": -(-(num_tokens - 1) // context_length),
                f"{split} tokens": num_tokens,
                f"{split} bytes per token": round(num_bytes / num_tokens, 4),
            }
        return report

    def chart(self, repeats: Mapping[str, np.ndarray], title: str) -> str:
        """Tokens that each split shows of each source."""
        rows = []
        for source in np.unique(self.sources).tolist():
            own = self.sources == source
            parts = {
                split: int(times[own] @ self.num_tokens[own]) for split, times in repeats.items()
            }
            rows.append((source, parts, ", ".join(f"{n:,} {split}" for split, n in parts.items())))
        return charts.bars(rows, title=title)


def encode_corpus(
    lake: Lake, version: int, tokenizer: Tokenizer, file: Path, say: Callable[[str], None]
) -> TokenCorpus:
    """Encode ``corpus`` at ``version`` into ``file`` (ids end to end, uint16 or uint32)."""
    columns: dict[str, list[np.ndarray]] = {name: [] for name in COLUMNS if name != "text"}
    lengths = [np.empty(0, np.int64)]
    said, num_tokens = time.monotonic(), 0
    with file.open("wb") as out:
        for batch in lake.batches("corpus", version, COLUMNS):
            ids, offsets = tokenizer.encode_batch(batch["text"])
            ids.tofile(out)
            lengths.append(np.diff(offsets))
            for name, parts in columns.items():
                parts.append(batch[name].to_numpy(zero_copy_only=False))
            num_tokens += len(ids)
            if time.monotonic() > said + 5:
                said = time.monotonic()
                say(f"{num_tokens:,} tokens encoded")
    whole = {name: np.concatenate(parts) for name, parts in columns.items()}
    tokens = np.memmap(file, tokenizer.dtype, "r") if num_tokens else np.empty(0, tokenizer.dtype)
    return TokenCorpus(
        documents=Documents(
            doc_ids=whole["doc_id"].astype(str),
            offsets=np.append(0, np.cumsum(np.concatenate(lengths))),
            tokens=tokens,
        ),
        sources=whole["source"].astype(str),
        clusters=whole["cluster"].astype(str),
        weights=whole["weight"],
        num_bytes=whole["num_bytes"],
    )
