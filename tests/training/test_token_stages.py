"""The stages ``tokenizer`` and ``tokens`` on a small corpus in a real lake."""

import dataclasses
import hashlib
import json
from collections.abc import Mapping
from itertools import chain
from pathlib import Path

import numpy as np
import pyarrow as pa
import pytest
import xxhash

import training
from datalake.config import Refusal
from datalake.schemas import TABLES
from datalake.workspace import Made, Workspace
from training import run
from training.data.rows import Rows
from training.run import TokenizerConfig, TokensConfig
from training.token_tables import encoded_corpus, token_rows
from training.tokenizer import chat
from training.tokenizer.bpe import END_OF_TEXT, Tokenizer

pytestmark = pytest.mark.usefixtures("spark_workspace")  # it is ``workspace``, with Spark

FILES = sorted(Path(training.__file__).parent.rglob("*.py"))
TEXTS = {path.name + str(i): path.read_text() for i, path in enumerate(FILES)}
TOKENIZER = TokenizerConfig(vocab_size=600, pattern="cl100k_digits")
TOKENS = TokensConfig(context_length=32, validation_fraction=0.1, seed=1)


def write_corpus(
    workspace: Workspace,
    weight: float = 1.0,
    backwards: bool = False,
    copies: bool = False,
    texts: Mapping[str, str] = TEXTS,
    num_parts: int = 1,
) -> int:
    rows = []
    for number, (name, text) in enumerate(texts.items()):
        doc_id = hashlib.md5(name.encode()).hexdigest()
        row = {
            "doc_id": doc_id,
            "source": ("web", "code")[number % 3 == 0],
            "uri": name,
            "title": name,
            "language": "python",
            "licence": None,
            "archive": "archive",
            "member": "",
            "offset": 0,
            "length": 0,
            "num_bytes": len(text.encode()),
            "num_tokens": len(text.split()),
            "cluster": doc_id,
            "weight": weight,
            "text": text,
        }
        rows.append(row)
        if copies:
            other = hashlib.md5(doc_id.encode()).hexdigest()
            rows.append(row | {"doc_id": other})
    table = pa.Table.from_pylist(rows[::-1] if backwards else rows, TABLES["corpus"].arrow)
    shares = [table.take(list(range(k, len(table), num_parts))) for k in range(num_parts)]
    parts = [part for share in shares for part in workspace.lake.write_parts("corpus", share)]
    return workspace.lake.commit("corpus", parts, "overwrite").version


def build(workspace: Workspace, corpus: int, config: TokensConfig = TOKENS) -> tuple[Made, Made]:
    vocabulary = run.tokenizer(workspace, {"corpus": corpus}, TOKENIZER)
    inputs = {"corpus": corpus, "tokenizer": vocabulary.version}
    return vocabulary, run.tokens(workspace, inputs, config)


def documents_of(workspace: Workspace, tokens: Made, split: str) -> dict[str, str]:
    """Text of every document of a split, put together from its rows."""
    made = Tokenizer.load(next((workspace.home / "artifacts/tokenizer").iterdir()))
    table = workspace.lake.read("tokens", int(tokens.version), where={"split": split})
    pieces: dict[str, dict[int, list[int]]] = {}
    for row in table.to_pylist():
        ids = np.frombuffer(row["tokens"], "<u2").tolist()
        ends = [*row["doc_starts"][1:], row["num_tokens"]]
        for doc_id, offset, start, end in zip(
            row["doc_ids"], row["doc_offsets"], row["doc_starts"], ends, strict=True
        ):
            pieces.setdefault(doc_id, {})[offset] = ids[start + 1 : end]
    closing = made.special_tokens[END_OF_TEXT]
    texts = {}
    for doc_id, of in pieces.items():
        *whole, last = chain.from_iterable(of[offset] for offset in sorted(of))
        assert last == closing and closing not in whole
        texts[doc_id] = made.decode(whole)
    return texts


def test_every_document_is_in_one_split_and_can_be_read_back(workspace: Workspace):
    vocabulary, tokens = build(workspace, write_corpus(workspace))
    train, held = (documents_of(workspace, tokens, split) for split in ("train", "validation"))
    assert not train.keys() & held.keys()
    wanted = {hashlib.md5(name.encode()).hexdigest(): text for name, text in TEXTS.items()}
    assert train | held == wanted
    assert tokens.report["train documents"] == len(train)
    assert tokens.report["validation documents"] == len(held)
    assert vocabulary.rows == 600


def test_both_splits_hold_every_source(workspace: Workspace):
    corpus = write_corpus(workspace)
    _, tokens = build(workspace, corpus)
    rows = workspace.lake.read("corpus", corpus, ["doc_id", "source"]).to_pylist()
    source = {row["doc_id"]: row["source"] for row in rows}
    for split in ("train", "validation"):
        names = documents_of(workspace, tokens, split)
        assert {source[name] for name in names} == {"web", "code"}


def test_equal_documents_make_equal_content_in_any_order_and_parts(tmp_path: Path):
    made = []
    for backwards, num_parts in ((False, 1), (True, 3)):
        workspace = Workspace(home=tmp_path / str(backwards), say=lambda line: None)
        corpus = write_corpus(workspace, backwards=backwards, num_parts=num_parts)
        made.append(build(workspace, corpus))
    assert made[0][0].content == made[1][0].content
    assert made[0][1].content == made[1][1].content


def test_buckets_are_packed_apart_and_hold_all_documents_between_them(workspace: Workspace):
    vocabulary, tokens = build(workspace, write_corpus(workspace, num_parts=2))
    encoded = workspace.lake.latest("encoded")
    assert encoded is not None
    config = token_rows.RowsConfig(
        context_length=32,
        validation_fraction=0.1,
        seed=1,
        end_of_text=Tokenizer.load(str(vocabulary.version)).special_tokens[END_OF_TEXT],
        vocab_size=vocabulary.rows,
    )
    num_tokens = sum(int(tokens.report[f"{split} tokens"]) for split in ("train", "validation"))
    packed = token_rows.pack_corpus(workspace, encoded, config, {}, num_tokens // 3)
    assert packed.num_buckets == 4
    apart = Made(version=packed.commit.version, content="", rows=0, num_bytes=0)
    buckets: dict[str, int] = {}
    for split in ("train", "validation"):
        assert documents_of(workspace, apart, split) == documents_of(workspace, tokens, split)
        table = workspace.lake.read("tokens", packed.commit.version, where={"split": split})
        assert len(table["row_id"].unique()) == len(table) == packed.tallies[split].rows
        for row in table.to_pylist():
            for doc_id in row["doc_ids"]:
                assert buckets.setdefault(doc_id, row["row_id"] >> 32) == row["row_id"] >> 32
    for doc_id, bucket in buckets.items():
        assert bucket == xxhash.xxh64_intdigest(doc_id.encode(), seed=42) % 4
    assert set(buckets.values()) == {0, 1, 2, 3}
    named = json.loads(workspace.lake.history("tokens")[0]["inputs"])
    assert named == {"encoded": encoded}


def test_documents_that_did_not_change_are_taken_over(workspace: Workspace):
    _, first = build(workspace, write_corpus(workspace))
    assert (first.report["encoded now"], first.report["taken over"]) == (len(TEXTS), 0)
    folder = next((workspace.home / "artifacts/tokenizer").iterdir())
    changed, *_, gone = TEXTS
    texts = {name: text for name, text in TEXTS.items() if name != gone} | {changed: "a b c"}
    corpus = write_corpus(workspace, texts=texts, num_parts=2)
    again = run.tokens(workspace, {"corpus": corpus, "tokenizer": str(folder)}, TOKENS)
    assert (again.report["encoded now"], again.report["taken over"]) == (1, len(texts) - 1)
    ids = {hashlib.md5(name.encode()).hexdigest(): text for name, text in texts.items()}
    parts = [documents_of(workspace, again, split) for split in ("train", "validation")]
    assert parts[0] | parts[1] == ids
    encoded = workspace.lake.read("encoded")
    assert set(encoded["doc_id"].to_pylist()) == ids.keys()
    # From scratch it comes to the same.
    scratch = Workspace(home=workspace.home / "other", say=lambda line: None)
    corpus = write_corpus(scratch, texts=texts)
    alone = run.tokens(scratch, {"corpus": corpus, "tokenizer": str(folder)}, TOKENS)
    assert alone.content == again.content
    assert scratch.lake.content("encoded") == workspace.lake.content("encoded")


def test_another_tokenizer_encodes_all_documents_again(workspace: Workspace):
    corpus = write_corpus(workspace)
    build(workspace, corpus)
    vocabulary = run.tokenizer(
        workspace, {"corpus": corpus}, TokenizerConfig(vocab_size=500, pattern="cl100k_digits")
    )
    inputs = {"corpus": corpus, "tokenizer": vocabulary.version}
    again = run.tokens(workspace, inputs, TOKENS)
    assert (again.report["encoded now"], again.report["taken over"]) == (len(TEXTS), 0)
    assert set(workspace.lake.read("tokens")["vocab_size"].to_pylist()) == {500}


def test_ids_are_four_bytes_where_the_vocabulary_is_large(workspace: Workspace):
    corpus = write_corpus(workspace)
    small = Tokenizer.load(str(run.tokenizer(workspace, {"corpus": corpus}, TOKENIZER).version))
    names = [f"<|{k}|>" for k in range(66_000)]
    large = Tokenizer(small.merges, small.pattern, small.classes, [END_OF_TEXT, *names])
    read = workspace.lake.batches("corpus", corpus, encoded_corpus.COLUMNS)
    encoded = workspace.lake.overwrite("encoded", map(encoded_corpus.Encode(large), read))
    config = token_rows.RowsConfig(
        context_length=32,
        validation_fraction=0.1,
        seed=1,
        end_of_text=large.special_tokens[END_OF_TEXT],
        vocab_size=large.vocab_size,
    )
    packed = token_rows.pack_corpus(workspace, encoded.version, config, {})
    rows = Rows.from_files(workspace.lake.files("tokens", packed.commit.version))
    assert (rows.tokens.dtype, rows.vocab_size) == (np.uint32, large.vocab_size)
    wanted, _ = small.encode_batch(list(TEXTS.values()))
    assert rows.num_targets.sum() == len(wanted) + len(TEXTS)
    assert set(np.unique(rows.tokens)) == {*wanted.tolist(), large.special_tokens[END_OF_TEXT]}


@pytest.mark.parametrize("text", ["", "a"])
def test_a_document_without_a_token_is_its_end_alone(workspace: Workspace, text: str):
    texts = TEXTS | {"none": text}
    vocabulary, _ = build(workspace, write_corpus(workspace, texts=TEXTS))
    corpus = write_corpus(workspace, texts=texts)
    inputs = {"corpus": corpus, "tokenizer": vocabulary.version}
    made = run.tokens(workspace, inputs, TOKENS)
    both = documents_of(workspace, made, "train") | documents_of(workspace, made, "validation")
    assert both[hashlib.md5(b"none").hexdigest()] == text


def test_a_corpus_of_which_nothing_is_seen_is_refused(workspace: Workspace):
    vocabulary, _ = build(workspace, write_corpus(workspace))
    inputs = {"corpus": write_corpus(workspace, weight=0.0), "tokenizer": vocabulary.version}
    before = workspace.lake.latest("tokens")
    with pytest.raises(Refusal, match=r"corpus.weight must leave a document in train, where none"):
        run.tokens(workspace, inputs, TOKENS)
    assert workspace.lake.latest("tokens") == before


def test_training_repeats_a_document_by_its_weight_and_validation_does_not(workspace: Workspace):
    _, once = build(workspace, write_corpus(workspace))
    _, twice = build(workspace, write_corpus(workspace, weight=2.0))
    assert twice.report["train tokens"] == 2 * int(once.report["train tokens"])
    assert twice.report["validation tokens"] == once.report["validation tokens"]


def test_a_weight_below_one_leaves_documents_out(workspace: Workspace):
    corpus = write_corpus(workspace, weight=0.5)
    vocabulary, tokens = build(workspace, corpus)
    seen = sum(int(tokens.report[f"{split} documents"]) for split in ("train", "validation"))
    assert 0.2 * len(TEXTS) < seen < 0.8 * len(TEXTS)
    assert int(vocabulary.report["bytes of text"]) < sum(map(len, TEXTS.values()))


def test_copies_of_one_cluster_are_in_one_split(workspace: Workspace):
    _, tokens = build(workspace, write_corpus(workspace, copies=True))
    train, held = (documents_of(workspace, tokens, split) for split in ("train", "validation"))
    assert not set(train.values()) & (set(held.values()) - {""})


def test_rows_load_as_the_table_has_them(workspace: Workspace):
    _, tokens = build(workspace, write_corpus(workspace))
    version = int(tokens.version)
    for split in ("train", "validation"):
        rows = Rows.from_files(workspace.lake.files("tokens", version, {"split": split}))
        assert len(rows) == tokens.report[f"{split} rows"]
        assert rows.context_length == TOKENS.context_length
        table = workspace.lake.read("tokens", version, where={"split": split}).sort_by("row_id")
        assert len(table["row_id"].unique()) == len(rows)
        assert [row.tobytes() for row in rows.tokens] == table["tokens"].to_pylist()


def test_the_saved_tokenizer_can_chat_and_reports_what_it_measured(workspace: Workspace):
    vocabulary, tokens = build(workspace, write_corpus(workspace))
    made = Tokenizer.load(str(vocabulary.version))
    assert tuple(made.special_tokens) == chat.SPECIAL_TOKENS
    assert made.chat_template == chat.TEMPLATE
    ids, _ = made.encode_batch(list(TEXTS.values()))
    num_bytes = sum(len(text.encode()) for text in TEXTS.values())
    assert vocabulary.report["bytes per token"] == pytest.approx(num_bytes / len(ids), abs=1e-4)
    total = sum(int(tokens.report[f"{split} tokens"]) for split in ("train", "validation"))
    assert total == len(ids) + len(TEXTS)
    for plots in (vocabulary.plots, tokens.plots):
        assert all(svg.startswith("<svg") and len(svg) < 100_000 for svg in plots.values())


def test_the_same_corpus_again_changes_nothing(workspace: Workspace):
    corpus = write_corpus(workspace)
    first, second = build(workspace, corpus), build(workspace, corpus)
    assert first[0].version == second[0].version
    assert (first[1].version, first[1].content) == (second[1].version, second[1].content)
    assert second[1].report["taken over"] == len(TEXTS)


def test_another_seed_holds_out_other_documents(workspace: Workspace):
    corpus = write_corpus(workspace)
    held = []
    for seed in (1, 2):
        config = TOKENS.model_copy(update={"seed": seed})
        _, tokens = build(workspace, corpus, config)
        held.append(documents_of(workspace, tokens, "validation").keys())
    assert held[0] != held[1]


def test_more_vocabulary_than_the_corpus_supports_stops_early_and_says_so(workspace: Workspace):
    corpus, said = write_corpus(workspace), list[str]()
    config = TokenizerConfig(vocab_size=1 << 17, pattern="gpt2")
    listening = dataclasses.replace(workspace, say=said.append)
    made = run.tokenizer(listening, {"corpus": corpus}, config)
    wanted = (1 << 17) - 256 - len(chat.SPECIAL_TOKENS)
    assert made.report["vocab_size"] == made.rows < 1 << 17
    why = made.report["stopped early after"]
    assert why == (
        f"{made.report['merges']:,} merges of {wanted:,}: then every pre-token of "
        f"{made.report['bytes of text']:,} bytes of text is one token, and no pair is left"
    )
    assert f"stopped early after {why}" in said


def test_a_vocabulary_without_place_for_special_tokens_is_refused(workspace: Workspace):
    with pytest.raises(Refusal, match=r"vocab_size must be at least .* special tokens\), got 257"):
        run.tokenizer(workspace, {"corpus": 0}, TokenizerConfig(vocab_size=257, pattern="gpt2"))


def test_a_pattern_may_be_ones_own_and_a_wrong_one_is_refused_at_once(workspace: Workspace):
    corpus = write_corpus(workspace)
    config = TokenizerConfig(vocab_size=400, pattern=r"\w+|\s+|[^\w\s]+")
    made = run.tokenizer(workspace, {"corpus": corpus}, config)
    assert Tokenizer.load(str(made.version)).pattern == config.pattern
    with pytest.raises(ValueError, match="pattern must not match the empty string, got 'a\\*'"):
        TokenizerConfig(vocab_size=400, pattern="a*")


def test_the_report_says_what_an_epoch_holds(workspace: Workspace):
    _, tokens = build(workspace, write_corpus(workspace))
    report, made = tokens.report, dataclasses.asdict(tokens)
    for split in ("train", "validation"):
        rows, targets = int(report[f"{split} rows"]), int(report[f"{split} tokens"])
        pieces = round(float(report[f"{split} pieces a row"]) * rows)
        places = float(report[f"{split} rows filled"]) * rows * (TOKENS.context_length + 1)
        assert places == pytest.approx(targets + pieces, rel=1e-3)
        cut = int(report[f"{split} documents cut"])
        assert 0 < cut <= int(report[f"{split} documents cut if laid end to end"])
        assert cut <= int(report[f"{split} documents"])
    assert made["rows"] == int(report["train rows"]) + int(report["validation rows"])
    assert np.isclose(float(report["train bytes per token"]), 2.5, atol=1.5)
