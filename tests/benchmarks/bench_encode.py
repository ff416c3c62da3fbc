"""Encoding: text in an Arrow column to one array of ids, beside quicktok and tiktoken.

quicktok compiles its pre-tokenizers by hand, as we do, and hands out one array, too; it is given
the texts as Python strings, which is what it takes. It brings the vocabulary of cl100k, which ours
is made of, and takes ours for its own. Ids are compared before anything is timed. Our words merged
before are forgotten before each run (cold), theirs are not.

The floor reads every byte and writes every id, and does nothing else.
"""

import base64
import importlib.util
import os
import struct
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from shutil import copyfile
from typing import Any

import numpy as np
import pyarrow as pa

from tests.benchmarks.report import Result, seconds_in_turn, show
from tests.benchmarks.source_pieces import source_texts
from tests.training.tokenizer.languages import LANGUAGES, megabyte
from training.tokenizer.bpe import NUM_BYTES, Tokenizer
from training.tokenizer.interchange import from_tiktoken_ranks, tiktoken_encoding
from training.tokenizer.learning.bpe_trainer import learn_merges
from training.tokenizer.learning.pretokens import PretokenCounter
from training.tokenizer.patterns import character_classes
from training.tokenizer.texts import Texts

DOCUMENT = 16_384  # characters
VOCAB_SIZE = 32_768
TRAINED_ON = 10_000_000  # bytes
SLOW = 6  # of so many documents one is given to a slow peer
REPEATS = 5
CORES = os.cpu_count() or 1
MISSING = "quicktok-v1 is not installed"


def main() -> None:
    """Run every case and print the results."""
    code = _documents("".join(source_texts()))
    drawn = {name: _documents(megabyte(name)) for name in LANGUAGES if name != "code"}
    ours = _trained(code)
    results = []
    started = time.perf_counter()
    ours.encode("compile")
    print(f"ready for the first id after {time.perf_counter() - started:.2f} s")
    if importlib.util.find_spec("quicktok"):
        published = _published()
        results += _cases("cl100k_base, Python source", published, code, _quicktok(), 1)
        for name, texts in drawn.items():
            results += _cases(f"cl100k_base, {name}", published, texts, _quicktok(), 1)
        prose = [text for texts in drawn.values() for text in texts]
        results += _cases("cl100k_base, these six kinds", published, prose, _quicktok(), 1)
        results += _cases("cl100k_base, Python source", published, code, _quicktok(), CORES)
    results += _cases(f"our {VOCAB_SIZE:,}, Python source", ours, code, _given(ours), 1)
    results += [_short(ours), _decoding(ours, code)]
    packages = ["numba", "numpy", "pyarrow", "tiktoken"]
    show("encode", results, [*packages, *(["quicktok-v1"] if _given(ours) else [])])


def _documents(text: str) -> list[str]:
    return [text[at : at + DOCUMENT] for at in range(0, len(text), DOCUMENT)]


def _trained(texts: list[str]) -> Tokenizer:
    classes, _ = character_classes()
    counter = PretokenCounter("cl100k", classes, CORES)
    counter.add(Texts.of(texts[: TRAINED_ON // DOCUMENT]))
    merges = learn_merges(counter.counts(), VOCAB_SIZE, num_special=1)
    return Tokenizer(merges.pairs, "cl100k", classes)


def _quicktok() -> Any:
    import quicktok  # type: ignore[import-not-found]

    return quicktok.get_encoding("cl100k_base")


def _quicktok_data() -> Path:
    import quicktok

    return Path(quicktok.__file__).parent / "data"


def _published() -> Tokenizer:
    """cl100k_base out of quicktok's file: a count, then length, bytes and rank of each token."""
    data = (_quicktok_data() / "cl100k.vocab").read_bytes()
    lines, at = [], 4
    for _ in range(struct.unpack_from("<I", data)[0]):
        size = struct.unpack_from("<H", data, at)[0]
        token, rank = data[at + 2 : at + 2 + size], struct.unpack_from("<I", data, at + 2 + size)[0]
        lines.append(f"{base64.b64encode(token).decode()} {rank}\n")
        at += 6 + size
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "cl100k_base.tiktoken"
        path.write_text("".join(lines), encoding="utf-8")
        return from_tiktoken_ranks(path, "cl100k")


def _given(tokenizer: Tokenizer) -> Any:
    """quicktok with the vocabulary of ``tokenizer``; None where it is not installed."""
    if not importlib.util.find_spec("quicktok"):
        return None
    import quicktok

    ordinary = tokenizer.token_bytes[: NUM_BYTES + len(tokenizer.merges)]
    vocabulary = struct.pack("<I", len(ordinary)) + b"".join(
        struct.pack("<H", len(token)) + token + struct.pack("<I", rank)
        for rank, token in enumerate(ordinary)
    )
    with tempfile.TemporaryDirectory() as folder:
        for path in _quicktok_data().iterdir():
            if path.suffix in (".bin", ".meta") or path.name == "cl100k.special":
                copyfile(path, Path(folder) / path.name)
        (Path(folder) / "cl100k.vocab").write_bytes(vocabulary)
        (Path(folder) / "cl100k.special").write_bytes(struct.pack("<I", 0))
        return quicktok.Tokenizer("cl100k_base", folder)


def _cases(
    case: str, tokenizer: Tokenizer, texts: list[str], quicktok: Any, threads: int
) -> list[Result]:
    column = pa.array(texts, pa.large_string())
    sample = texts[::SLOW]
    peer = tiktoken_encoding(tokenizer)
    ids, offsets = tokenizer.encode_batch(column, threads)
    wanted = peer.encode_ordinary_batch(sample, num_threads=threads)
    for i, document in enumerate(wanted):
        assert ids[offsets[i * SLOW] : offsets[i * SLOW + 1]].tolist() == document

    def ours() -> None:
        tokenizer._encoder._idle.clear()  # type: ignore[union-attr]
        tokenizer.encode_batch(column, threads)

    data = np.frombuffer(column.buffers()[2], np.uint8)
    jobs: dict[str, Callable[[], object]] = {
        "ours": ours,
        "tiktoken": lambda: peer.encode_ordinary_batch(sample, num_threads=threads),
        "floor": lambda: (data.view().sum(dtype=np.int64), ids.copy()),
    }
    if quicktok is not None:
        assert np.array_equal(quicktok.encode_batch(texts, threads=threads)[0], ids)
        jobs["quicktok"] = lambda: quicktok.encode_batch(texts, threads=threads)
    taken = seconds_in_turn(jobs, REPEATS)
    megabytes = len(data) / 1e6
    sampled = sum(len(text.encode()) for text in sample) / 1e6
    said = {
        "case": f"{case}, {threads} {'core' if threads == 1 else 'cores'}",
        "unit": "MB/s",
        "ours": megabytes / taken["ours"],
        "floor": megabytes / taken["floor"],
    }
    return [
        Result(
            **said,
            peer_name="quicktok encode_batch",
            peer=megabytes / taken["quicktok"] if quicktok is not None else None,
            why=None if quicktok is not None else MISSING,
        ),
        Result(
            **said, peer_name="tiktoken encode_ordinary_batch", peer=sampled / taken["tiktoken"]
        ),
    ]


def _short(tokenizer: Tokenizer) -> Result:
    peer = tiktoken_encoding(tokenizer)
    text, calls = "How do I sort a list of tuples?", 2000
    taken = seconds_in_turn(
        {
            "ours": lambda: [tokenizer.encode(text) for _ in range(calls)],
            "peer": lambda: [np.array(peer.encode_ordinary(text)) for _ in range(calls)],
        },
        REPEATS,
    )
    return Result(
        case=f"calls with {len(text)} characters",
        unit="calls/s",
        ours=calls / taken["ours"],
        peer_name="tiktoken encode_ordinary, as an array",
        peer=calls / taken["peer"],
    )


def _decoding(tokenizer: Tokenizer, texts: list[str]) -> Result:
    peer = tiktoken_encoding(tokenizer)
    ids = tokenizer.encode_batch(texts)[0]
    assert peer.decode_bytes(ids.tolist()) == tokenizer.decode_bytes(ids)
    taken = seconds_in_turn(
        {
            "ours": lambda: tokenizer.decode_bytes(ids),
            "peer": lambda: peer.decode_bytes(ids.tolist()),
            "floor": lambda: (int(ids.sum(dtype=np.int64)), ids.repeat(2)),
        },
        REPEATS,
    )
    return Result(
        case="decode an array",
        unit="M tokens/s",
        ours=len(ids) / 1e6 / taken["ours"],
        peer_name="tiktoken decode_bytes",
        peer=len(ids) / 1e6 / taken["peer"],
        floor=len(ids) / 1e6 / taken["floor"],
    )


if __name__ == "__main__":
    main()
