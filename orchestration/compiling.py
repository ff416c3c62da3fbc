"""Compile what a first run will call while its pages are still being fetched.

Loops are compiled when they are first called and kept on disk. In a fresh installation that is a
minute of work, most of it for one stage, which all of Spark's workers would do at once and the run
would wait for. So a process beside the run calls them on a few lines of text, from the beginning
of the run on, while fetching leaves processors idle. What it compiles is what the stages compile;
if it fails or is late, they do it themselves.
"""

import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager

import pyarrow as pa

from datalake import compiled
from orchestration import resources
from orchestration.recipe import Recipe

_TEXT = '''\
# Tarn reads pages, and measures them
Every line of a text counts: 3 words, 14 letters or so. They said "it is so", and it was.

    def run(self, name="café"):
        """Return what was asked for: {"a": [1, 2.5]}."""
        return name  # https://tarn.example/docs?page=2

- one - two - three; the same words again, the same words again. Write to someone@tarn.example!
'''
_DONE = "compiled"  # a file beside what was compiled


@contextmanager
def ahead() -> Iterator[None]:
    """Compile beside the block, unless it was done; ends with the block."""
    kept = compiled.folder()
    if kept is None or (kept / _DONE).exists():
        yield
        return
    log = resources.home() / "logs" / "compiling.log"
    log.parent.mkdir(parents=True, exist_ok=True)
    with log.open("wb") as out:
        command = [sys.executable, "-m", __name__]
        process = subprocess.Popen(command, stdin=subprocess.DEVNULL, stdout=out, stderr=out)
    try:
        yield
    finally:
        process.terminate()
        process.wait()


def compile_all(recipe: Recipe) -> Iterator[str]:
    """Call the loops of the recipe's stages, in the order in which they need them."""
    documents = _documents()
    yield from _scorers(recipe, documents)
    yield from _signals(recipe, documents)
    yield from _cuts(recipe, documents)
    yield from _tokenizer(recipe, documents)


def _documents() -> pa.RecordBatch:
    from datalake.filters.measures.signals import INPUT_COLUMNS
    from datalake.schemas import TABLES

    schema = pa.schema([TABLES["documents"].arrow.field(name) for name in INPUT_COLUMNS])
    texts = [_TEXT, _TEXT[::-1], _TEXT.replace(" ", "　本")]
    given = {"text": texts, "source": ["web", "code", "web"], "num_bytes": [len(t) for t in texts]}
    columns = [
        pa.array(given.get(field.name, [field.name] * len(texts)), field.type) for field in schema
    ]
    return pa.RecordBatch.from_arrays(columns, schema=schema)


def _scorers(recipe: Recipe, documents: pa.RecordBatch) -> Iterator[str]:
    from datalake.filters.scoring import perplexity

    configs = recipe.datalake.scorers
    for name, config in configs.items():
        if isinstance(config, perplexity.PerplexityConfig):
            perplexity.fit(name, documents["text"], config).score(documents)
            yield f"scorer {name}"


def _signals(recipe: Recipe, documents: pa.RecordBatch) -> Iterator[str]:
    from datalake.dedup.signatures.minhash import Banding
    from datalake.filters.measures.signals import Measuring, measure

    config = recipe.datalake.signals
    measure(documents, Measuring(Banding.of(config.minhash), config.words))
    yield "signals"


def _cuts(recipe: Recipe, documents: pa.RecordBatch) -> Iterator[str]:
    from datalake.filters.lines import cut_lines
    from datalake.transforms.personal.personal_data import find

    config = recipe.datalake.all_cuts
    cut_lines(documents, config.lines, config.words)
    if config.personal_data:
        find(documents, config.personal_data)
    yield "cuts"


def _tokenizer(recipe: Recipe, documents: pa.RecordBatch) -> Iterator[str]:
    from training.tokenizer.bpe import Tokenizer
    from training.tokenizer.learning.bpe_trainer import learn_merges
    from training.tokenizer.learning.counting import counter
    from training.tokenizer.patterns import character_classes
    from training.tokenizer.texts import Texts

    pattern, (classes, _) = recipe.training.tokenizer.pattern, character_classes()
    counts = counter(pattern, classes)
    counts.add(Texts.of(documents["text"]))
    merges = learn_merges(counts.counts(), 300)
    yield "tokenizer, learning"
    tokenizer = Tokenizer(merges.pairs, pattern, classes, ())
    tokenizer.encode_batch(documents["text"])
    yield "tokenizer, encoding"


def main() -> None:
    """Compile everything for the recipe in force."""
    began = time.perf_counter()
    for name in compile_all(resources.recipe()):
        print(f"{name}: {time.perf_counter() - began:.1f} s", flush=True)
    if kept := compiled.folder():
        (kept / _DONE).touch()


if __name__ == "__main__":
    main()
