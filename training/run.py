"""From the corpus to a base model: the stages of this room, in order.

Each stage reads its inputs at the versions given, makes one table or artifact, and says what it
made; the work itself is in the modules that it names.
"""

import tempfile
import time
from itertools import chain
from pathlib import Path
from typing import TYPE_CHECKING

from pydantic import Field, PositiveInt

from datalake import charts
from datalake.config import Config
from datalake.workspace import Inputs, Made, Workspace
from training.tokenizer.patterns import PatternName

if TYPE_CHECKING:
    from training.tokenizer.bpe import Tokenizer


class TokenizerConfig(Config):
    """The vocabulary, and how text is cut before byte-pair encoding."""

    vocab_size: int = Field(gt=256, le=1 << 16)  # bytes, merges, special tokens; rows hold uint16
    pattern: PatternName


class TokensConfig(Config):
    """The rows of training, and what is held out of it."""

    context_length: PositiveInt
    validation_fraction: float = Field(gt=0, lt=1)  # of the clusters of near-duplicates
    seed: int  # of what is held out, and of the order of documents


class Settings(Config):
    """The training section of a recipe: one part a stage."""

    tokenizer: TokenizerConfig
    tokens: TokensConfig


def tokenizer(workspace: Workspace, inputs: Inputs, config: TokenizerConfig) -> Made:
    """Learn a vocabulary from the corpus; a document counts as often as an epoch shows it.

    Raises Refusal where the corpus does not support ``vocab_size``.
    """
    from training.data.packing import copies
    from training.tokenizer import chat
    from training.tokenizer.bpe import Tokenizer
    from training.tokenizer.bpe_trainer import learn_merges
    from training.tokenizer.patterns import character_classes
    from training.tokenizer.pretokens import PretokenCounter
    from training.tokenizer.texts import Texts

    began = time.monotonic()
    classes, version_of_classes = character_classes()
    counter = PretokenCounter(config.pattern, classes)
    for batch in workspace.lake.batches(
        "corpus", int(inputs["corpus"]), ("doc_id", "weight", "text")
    ):
        seen = copies(batch["doc_id"].to_pylist(), batch["weight"].to_numpy())
        counter.add(Texts.of(batch["text"]), seen)
    counts = counter.counts()
    workspace.say(f"{len(counts.counts):,} distinct pre-tokens in {counts.num_bytes:,} bytes")
    merges = learn_merges(counts, config.vocab_size, len(chat.SPECIAL_TOKENS))
    made = Tokenizer(merges.pairs, config.pattern, classes, chat.SPECIAL_TOKENS)

    def write(draft: Path) -> None:
        made.save(draft)
        (draft / chat.TEMPLATE_FILE).write_text(chat.TEMPLATE + "\n", encoding="utf-8")

    folder, content = workspace.save_artifact("tokenizer", write)
    return Made(
        version=folder,
        content=content,
        rows=made.vocab_size,
        num_bytes=sum(path.stat().st_size for path in Path(folder).iterdir()),
        report={
            "vocab_size": made.vocab_size,
            "bytes per token": round(merges.bytes_per_token, 4),
            "bytes of text": counts.num_bytes,
            "distinct pre-tokens": len(counts.counts),
            "pattern": config.pattern,
            "character classes": version_of_classes,
            "seconds": round(time.monotonic() - began, 2),
        },
        plots={(title := "Tokens by length in bytes"): _lengths_chart(made, title)},
    )


def tokens(workspace: Workspace, inputs: Inputs, config: TokensConfig) -> Made:
    """Encode the corpus, hold out whole clusters of near-duplicates, and pack rows of both splits.

    Training sees a document as often as its weight says, validation once.
    """
    from training.data.packing import copies, held_out, pack, shuffled
    from training.token_corpus import encode_corpus
    from training.tokenizer.bpe import END_OF_TEXT, Tokenizer

    began = time.monotonic()
    made = Tokenizer.load(str(inputs["tokenizer"]))
    with tempfile.TemporaryDirectory(dir=workspace.folder("scratch")) as scratch:
        corpus = encode_corpus(
            workspace.lake, int(inputs["corpus"]), made, Path(scratch) / "ids", workspace.say
        )
        documents = corpus.documents
        held = held_out(corpus.clusters, corpus.sources, config.validation_fraction, config.seed)
        seen = copies(documents.doc_ids, corpus.weights)
        repeats = {"train": seen * ~held, "validation": (seen > 0) * held}
        commit = workspace.lake.overwrite(
            "tokens",
            chain.from_iterable(
                pack(
                    documents,
                    shuffled(documents.doc_ids, counts, config.seed),
                    split,
                    config.context_length,
                    made.special_tokens[END_OF_TEXT],
                )
                for split, counts in repeats.items()
            ),
            inputs=inputs,
        )
    return Made(
        version=commit.version,
        content=commit.content,
        rows=commit.rows,
        num_bytes=commit.num_bytes,
        report=corpus.report(repeats, config.context_length)
        | {"seconds": round(time.monotonic() - began, 2)},
        plots={(title := "Tokens by source"): corpus.chart(repeats, title)},
    )


def _lengths_chart(tokenizer: "Tokenizer", title: str) -> str:
    """How many tokens stand for 1, 2, ... 15 bytes, and for more."""
    lengths = [min(int(length), 16) for length in tokenizer.bytes_per_token if length]
    rows = [(f"{n}+" if n == 16 else str(n), {"tokens": lengths.count(n)}) for n in range(1, 17)]
    return charts.columns(rows, title=title)
