"""How large a vocabulary should be: bytes per token of each source, and what the embedding costs.

Merges are learned once, at the largest size; those that come first are the smaller vocabularies.
Text is the corpus of this installation, or else source code and documentation of the environment's
packages; every tenth document is held out, and only these are encoded. Bytes per token are compared
with half the vocabulary: what a doubling buys. The share of parameters that belongs to tokens
(embeddings and head) is that of the recipe's model at each size of its ladder.

``tarn bench vocab [MEGABYTES] [LARGEST]``: how much text, 30 by default, and the largest size.
"""

import sys
import sysconfig
import tempfile
import zlib
from collections import defaultdict
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path

import numpy as np

from datalake.config import Refusal
from orchestration import resources
from tests.benchmarks.report import Result, show
from training.models import accounting
from training.models.variants import ModelConfig
from training.tokenizer import chat
from training.tokenizer.bpe import Tokenizer
from training.tokenizer.learning.bpe_trainer import learn_merges
from training.tokenizer.learning.pretokens import PretokenCounter
from training.tokenizer.patterns import character_classes
from training.tokenizer.texts import Texts

MEGABYTES = 30
LARGEST = 32_768
SMALLEST = 512
HELD_OUT = 10  # of so many documents one is encoded, and not learned from
KINDS = {
    "Python": {".py"},
    "other code": {".c", ".cc", ".cpp", ".h", ".hpp", ".cuh", ".js", ".ts", ".pyi", ".java"},
    "documentation": {".md", ".rst", "METADATA"},  # a package's METADATA has its README
}

Documents = Mapping[str, Sequence[str]]  # texts by source


def documents(num_bytes: int) -> tuple[str, Documents]:
    """Where texts are from, and texts of every source, alike in bytes as far as there are any."""
    lake = resources.workspace().lake
    if lake.latest("corpus") is not None:
        found = _corpus(num_bytes)
        if found:
            return "the corpus", found
    return "packages of the environment", _packages(num_bytes)


def _corpus(num_bytes: int) -> Documents:
    lake = resources.workspace().lake
    texts: dict[str, list[str]] = defaultdict(list)
    sizes: dict[str, int] = defaultdict(int)
    for batch in lake.batches("corpus", None, ("source", "text")):
        for source, text in zip(
            batch["source"].to_pylist(), batch["text"].to_pylist(), strict=True
        ):
            if sizes[source] < num_bytes:
                texts[source].append(text)
                sizes[source] += len(text.encode())
    return _shared_out(texts, num_bytes)


def _packages(num_bytes: int) -> Documents:
    texts: dict[str, list[str]] = {kind: [] for kind in KINDS}
    left = dict.fromkeys(KINDS, num_bytes)
    for path in _files():
        for kind, suffixes in KINDS.items():
            if (path.suffix or path.name) in suffixes and left[kind] > 0:
                texts[kind].append(path.read_text(encoding="utf-8", errors="replace"))
                left[kind] -= len(texts[kind][-1].encode())
    return _shared_out(texts, num_bytes)


def _files() -> Iterator[Path]:
    """Files of the packages in an order that depends on their names alone."""
    root = Path(sysconfig.get_paths()["purelib"])
    suffixes = set().union(*KINDS.values())
    found = [path for path in root.rglob("*") if (path.suffix or path.name) in suffixes]
    found.sort(key=lambda path: (zlib.crc32(str(path.relative_to(root)).encode()), str(path)))
    yield from (path for path in found if path.is_file() and 1000 < path.stat().st_size < 400_000)


def _shared_out(texts: Mapping[str, list[str]], num_bytes: int) -> Documents:
    """The first texts of each source, as many as its share of ``num_bytes`` holds."""
    shared: dict[str, list[str]] = {}
    for source, found in texts.items():
        sizes = np.cumsum([len(text.encode()) for text in found])
        kept = found[: int(np.searchsorted(sizes, num_bytes / len(texts))) + 1]
        if len(kept) >= HELD_OUT:
            shared[source] = kept
    return shared


def _learned(texts: Documents, pattern: str, classes: np.ndarray, largest: int) -> np.ndarray:
    """Merges of all texts but those held out, int32 ``[merges, 2]``."""
    counter = PretokenCounter(pattern, classes)
    for found in texts.values():
        counter.add(Texts.of([text for n, text in enumerate(found) if n % HELD_OUT]))
    merges = learn_merges(counter.counts(), largest, len(chat.SPECIAL_TOKENS))
    return merges.pairs


def bytes_per_token(texts: Sequence[str], tokenizer: Tokenizer) -> float:
    """Of the documents that are held out."""
    held = Texts.of(texts[::HELD_OUT])
    ids, _ = tokenizer.encode_batch(texts[::HELD_OUT])
    return held.num_bytes / len(ids)


def token_share(model: ModelConfig, vocab_size: int) -> float:
    """Share of a model's parameters that belongs to its tokens, 0..1: embeddings and head."""
    sized = model.model_copy(update={"vocab_size": vocab_size})
    of_tokens = accounting.num_table_params(sized) + vocab_size * sized.d_model
    return of_tokens / accounting.num_params(sized)


def main(words: Sequence[str] = ()) -> None:
    """``words``: megabytes of text, and the largest vocabulary."""
    megabytes, largest = _numbers(words)
    recipe = resources.recipe().training
    pattern = recipe.tokenizer.pattern
    runs = recipe.scaling_runs
    models = {
        f"d_model {size.d_model}, {size.num_layers} layers": runs.model.resized(
            size.d_model, size.num_layers
        )
        for size in runs.ladder
    }
    where, texts = documents(megabytes * 1_000_000)
    if not texts:
        raise Refusal(f"{where} must have {HELD_OUT} documents of a source, got fewer")
    classes, _ = character_classes()
    merges = _learned(texts, pattern, classes, largest)
    reached = 256 + len(merges) + len(chat.SPECIAL_TOKENS)
    sizes = [largest >> k for k in range(20) if SMALLEST <= largest >> k <= reached][::-1]
    if not sizes:
        raise Refusal(f"text must support {SMALLEST} tokens, got {reached}: ask for more megabytes")

    measured: dict[str, list[float]] = {source: [] for source in texts}
    for size in sizes:
        kept = merges[: size - 256 - len(chat.SPECIAL_TOKENS)]
        tokenizer = Tokenizer(kept, pattern, classes, chat.SPECIAL_TOKENS)
        for source, found in texts.items():
            measured[source].append(bytes_per_token(found, tokenizer))
    shares = {name: [token_share(model, size) for size in sizes] for name, model in models.items()}

    total = sum(len(text.encode()) for found in texts.values() for text in found)
    print(
        f"{total / 1e6:.1f} MB of {where}, pattern {pattern}, one document in {HELD_OUT} held out"
    )
    _table("bytes per token", sizes, measured, "{:.3f}")
    _table("share of parameters that are of tokens", sizes, shares, "{:.1%}")
    print(f"plot: {_plot(sizes, measured, shares)}")
    show("vocab", [*_results(sizes, measured), *_share_results(sizes, shares)], ["numpy", "numba"])


def _numbers(words: Sequence[str]) -> tuple[int, int]:
    try:
        megabytes, largest = [*map(int, words), *(MEGABYTES, LARGEST)[len(words) :]]
    except ValueError:
        raise Refusal(
            f"words must be megabytes and the largest vocabulary, got {' '.join(words)}"
        ) from None
    if megabytes < 1 or largest < SMALLEST:
        raise Refusal(
            f"megabytes must be at least 1 and the largest vocabulary {SMALLEST}, "
            f"got {megabytes} and {largest}"
        )
    return megabytes, largest


def _table(
    title: str, sizes: Sequence[int], rows: Mapping[str, Sequence[float]], form: str
) -> None:
    width = max(len(title), *map(len, rows)) + 2
    print(f"\n{title:<{width}}" + "".join(f"{size:>10,}" for size in sizes))
    for name, values in rows.items():
        print(f"{name:<{width}}" + "".join(f"{form.format(value):>10}" for value in values))


def _results(sizes: Sequence[int], measured: Mapping[str, Sequence[float]]) -> Iterator[Result]:
    for source, values in measured.items():
        for place, (size, value) in enumerate(zip(sizes, values, strict=True)):
            yield Result(
                case=f"{source}, {size:,} tokens",
                unit="bytes/token",
                ours=value,
                peer_name="half of the vocabulary",
                peer=values[place - 1] if place else None,
                why=None if place else "it is the smallest",
            )


def _share_results(sizes: Sequence[int], shares: Mapping[str, Sequence[float]]) -> Iterator[Result]:
    for name, values in shares.items():
        for size, value in zip(sizes, values, strict=True):
            yield Result(
                case=f"{name}, {size:,} tokens",
                unit="of params",
                ours=value,
                peer_name="none",
                why="it is counted, not measured",
            )


def _plot(
    sizes: Sequence[int],
    measured: Mapping[str, Sequence[float]],
    shares: Mapping[str, Sequence[float]],
) -> Path:
    """Left what a source's text comes to, right what the vocabulary costs."""
    import matplotlib as mpl
    from matplotlib.figure import Figure

    path = Path(tempfile.mkdtemp(prefix="tarn-vocab-")) / "vocabulary.svg"
    with mpl.rc_context({"svg.hashsalt": "tarn", "font.size": 9, "axes.grid": True}):
        figure = Figure(figsize=(9, 3.8), layout="constrained")
        left, right = figure.subplots(1, 2)
        for axes, lines, title in (
            (left, measured, "bytes per token, held-out text"),
            (
                right,
                {name: [100 * v for v in values] for name, values in shares.items()},
                "% of the parameters that are of tokens",
            ),
        ):
            for name, values in lines.items():
                axes.plot(sizes, values, marker="o", ms=3, lw=1.4, label=name)
            axes.set_xscale("log", base=2)
            axes.set(xlabel="vocabulary", title=title, xticks=sizes)
            axes.set_xticklabels([f"{size:,}" for size in sizes], rotation=30)
            axes.grid(alpha=0.25)
            axes.legend(frameon=False, fontsize=8)
        figure.savefig(path, metadata={"Date": None})
    return path


if __name__ == "__main__":
    main(sys.argv[1:])
