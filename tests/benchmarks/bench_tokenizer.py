"""The tokenizer on source code of the environment's packages.

tiktoken, given our merges, is the peer for encoding; it hands back Python lists, we hand back one
array. Training is measured by ``bench_bpe``.
"""

import os

import numpy as np
import pyarrow as pa
import tiktoken

from tests.benchmarks.report import Result, seconds_in_turn, show
from tests.benchmarks.source_pieces import source_texts
from training.tokenizer.bpe import Tokenizer
from training.tokenizer.bpe_trainer import learn_merges
from training.tokenizer.patterns import PATTERNS, character_classes
from training.tokenizer.pretokens import PretokenCounter
from training.tokenizer.texts import Texts

PATTERN = "cl100k_digits"
VOCAB_SIZE = 8192
REPEATS = 3
CORES = os.cpu_count() or 1


def _train(texts: Texts, vocab_size: int, num_threads: int) -> Tokenizer:
    classes, _ = character_classes()
    counter = PretokenCounter(PATTERN, classes, num_threads)
    counter.add(texts)
    merges = learn_merges(counter.counts(), vocab_size, num_special=1)
    return Tokenizer(merges.pairs, PATTERN, classes)


def _encoding(texts: list[str], column: pa.Array, tokenizer: Tokenizer, threads: int) -> Result:
    ordinary = tokenizer.token_bytes[: -len(tokenizer.special_tokens)]
    peer = tiktoken.Encoding(
        "ours",
        pat_str=PATTERNS[tokenizer.pattern],
        mergeable_ranks={token: rank for rank, token in enumerate(ordinary)},
        special_tokens=tokenizer.special_tokens,
    )
    ids, _ = tokenizer.encode_batch(column, threads)
    wanted = peer.encode_ordinary_batch(texts, num_threads=CORES)
    assert np.array_equal(ids, np.concatenate([np.array(w, ids.dtype) for w in wanted]))
    taken = seconds_in_turn(
        {
            "ours": lambda: tokenizer.encode_batch(column, threads),
            "peer": lambda: peer.encode_ordinary_batch(texts, num_threads=threads),
            "floor": lambda: int(np.frombuffer(column.buffers()[2], np.uint8).sum(dtype=np.int64)),
        },
        REPEATS,
    )
    megabytes = sum(len(text.encode()) for text in texts) / 1e6
    return Result(
        case=f"encode, {'one core' if threads == 1 else 'all cores'}",
        unit="MB/s",
        ours=megabytes / taken["ours"],
        peer_name="tiktoken encode_ordinary_batch",
        peer=megabytes / taken["peer"],
        floor=megabytes / taken["floor"],
    )


def main() -> None:
    """Run every case and print the results."""
    texts = source_texts()
    column = pa.array(texts, pa.large_string())
    joined = Texts.of(column)
    tokenizer = _train(joined, VOCAB_SIZE, CORES)
    results = [
        _encoding(texts, column, tokenizer, 1),
        *([_encoding(texts, column, tokenizer, CORES)] if CORES > 1 else []),
    ]
    show("tokenizer", results, ("numba", "numpy", "pyarrow", "tiktoken"))


if __name__ == "__main__":
    main()
