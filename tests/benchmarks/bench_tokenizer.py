"""The tokenizer and the packing of rows, on source code of the environment's packages.

tiktoken, given our merges, is the peer for encoding; it hands back Python lists, we hand back one
array. Hugging Face's tokenizers, where it is installed, is the peer for training.
"""

import importlib.util
import os
import random
import sysconfig
from collections import Counter
from pathlib import Path

import numpy as np
import pyarrow as pa
import regex
import tiktoken

from tests.benchmarks.report import Result, seconds_in_turn, show
from training.data.packing import Documents, pack, shuffled
from training.tokenizer import scanner
from training.tokenizer.bpe import END_OF_TEXT, Tokenizer
from training.tokenizer.bpe_trainer import learn_merges
from training.tokenizer.patterns import PATTERNS, character_classes
from training.tokenizer.pretokens import PretokenCounter
from training.tokenizer.texts import Texts

NUM_BYTES = 50_000_000
PATTERN = "cl100k_digits"
VOCAB_SIZE = 8192
CONTEXT_LENGTH = 256
SLOW = 10  # of so many documents one is given to a slow peer
REPEATS = 3
CORES = os.cpu_count() or 1


def source_texts() -> list[str]:
    """Python files of the environment, about ``NUM_BYTES`` in all."""
    root = Path(sysconfig.get_paths()["purelib"])
    paths = sorted(p for p in root.rglob("*.py") if 300 < p.stat().st_size < 1_000_000)
    random.Random(0).shuffle(paths)
    texts: list[str] = []
    size = 0
    for path in paths:
        texts.append(path.read_text(encoding="utf-8", errors="replace"))
        size += len(texts[-1].encode())
        if size > NUM_BYTES:
            break
    return texts


def _train(texts: Texts, vocab_size: int, num_threads: int) -> Tokenizer:
    classes, _ = character_classes()
    counter = PretokenCounter(PATTERN, classes, num_threads)
    counter.add(texts)
    merges = learn_merges(counter.counts(), vocab_size, num_special=1)
    return Tokenizer(merges.pairs, PATTERN, classes)


def _train_hugging_face(texts: list[str], vocab_size: int) -> None:
    import tokenizers  # type: ignore[import-not-found]

    model = tokenizers.Tokenizer(tokenizers.models.BPE())
    cut = tokenizers.pre_tokenizers.Split(tokenizers.Regex(PATTERNS[PATTERN]), "isolated")
    level = tokenizers.pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False)
    model.pre_tokenizer = tokenizers.pre_tokenizers.Sequence([cut, level])
    trainer = tokenizers.trainers.BpeTrainer(
        vocab_size=vocab_size,
        special_tokens=[END_OF_TEXT],
        show_progress=False,
        initial_alphabet=tokenizers.pre_tokenizers.ByteLevel.alphabet(),
    )
    model.train_from_iterator(texts, trainer)


def _training(texts: list[str], column: Texts, vocab_size: int) -> Result:
    megabytes = column.num_bytes / 1e6
    found = importlib.util.find_spec("tokenizers") is not None
    jobs = {
        "ours": lambda: _train(column, vocab_size, CORES),
        "floor": lambda: int(column.data.sum(dtype=np.int64)),
    }
    if found:
        jobs["peer"] = lambda: _train_hugging_face(texts, vocab_size)
    taken = seconds_in_turn(jobs, REPEATS)
    return Result(
        case=f"train {vocab_size:,} tokens, all cores",
        unit="MB/s",
        ours=megabytes / taken["ours"],
        peer_name="tokenizers BpeTrainer, all cores",
        peer=megabytes / taken["peer"] if found else None,
        floor=megabytes / taken["floor"],
        why=None if found else "tokenizers is not installed",
    )


def _counting(texts: list[str], column: Texts, classes: np.ndarray) -> Result:
    sample = texts[::SLOW]
    compiled = regex.compile(PATTERNS[PATTERN])

    def ours() -> None:
        counter = PretokenCounter(PATTERN, classes, 1)
        counter.add(column)
        counter.counts()

    def peer() -> None:
        counts: Counter[str] = Counter()
        for text in sample:
            counts.update(compiled.findall(text))

    table, ends = scanner.scan_table(classes), np.empty(column.num_bytes, np.int64)

    def cut() -> None:  # without counting
        scanner.scan(column.data, 0, column.num_bytes, table, scanner.RULES[PATTERN], ends)

    taken = seconds_in_turn({"ours": ours, "peer": peer, "floor": cut}, REPEATS)
    return Result(
        case="count pre-tokens, one core",
        unit="MB/s",
        ours=column.num_bytes / 1e6 / taken["ours"],
        peer_name="regex and Counter",
        peer=sum(len(text.encode()) for text in sample) / 1e6 / taken["peer"],
        floor=column.num_bytes / 1e6 / taken["floor"],
    )


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


def _packing(column: pa.Array, tokenizer: Tokenizer) -> Result:
    ids, offsets = tokenizer.encode_batch(column)
    documents = Documents(
        doc_ids=np.array([f"{i:032x}" for i in range(len(column))]), offsets=offsets, tokens=ids
    )
    order = shuffled(documents.doc_ids, np.ones(len(column), np.int64))
    end = tokenizer.special_tokens[END_OF_TEXT]

    def plain() -> list[list[int]]:
        """The rows alone, from Python lists, as they are usually packed; no spans."""
        stream: list[int] = []
        for i in order[::SLOW].tolist():
            stream += [end, *ids[offsets[i] : offsets[i + 1]].tolist()]
        last = len(stream) - 1
        return [stream[k : k + CONTEXT_LENGTH + 1] for k in range(0, last, CONTEXT_LENGTH)]

    taken = seconds_in_turn(
        {
            "ours": lambda: list(pack(documents, order, "train", CONTEXT_LENGTH, end)),
            "peer": plain,
            "floor": lambda: ids.copy(),
        },
        REPEATS,
    )
    sampled = int(np.diff(offsets)[order[::SLOW]].sum())
    return Result(
        case=f"pack rows of {CONTEXT_LENGTH} with their spans",
        unit="M tokens/s",
        ours=len(ids) / 1e6 / taken["ours"],
        peer_name="Python lists, without spans",
        peer=sampled / 1e6 / taken["peer"],
        floor=len(ids) / 1e6 / taken["floor"],
    )


def main() -> None:
    """Run every case and print the results."""
    texts = source_texts()
    column = pa.array(texts, pa.large_string())
    joined = Texts.of(column)
    tokenizer = _train(joined, VOCAB_SIZE, CORES)
    results = [
        _training(texts, joined, VOCAB_SIZE),
        _training(texts, joined, 4 * VOCAB_SIZE),
        _counting(texts, joined, tokenizer.classes),
        _encoding(texts, column, tokenizer, 1),
        *([_encoding(texts, column, tokenizer, CORES)] if CORES > 1 else []),
        _packing(column, tokenizer),
    ]
    show("tokenizer", results, ("numba", "numpy", "pyarrow", "regex", "tiktoken"))


if __name__ == "__main__":
    main()
