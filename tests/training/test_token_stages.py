"""The stages ``tokenizer`` and ``tokens`` on a small corpus in a real lake."""

import dataclasses
import hashlib
from pathlib import Path

import numpy as np
import pyarrow as pa
import pytest

import training
from datalake.config import Refusal
from datalake.schemas import TABLES
from datalake.workspace import Made, Workspace
from training import run
from training.data.loader import Rows
from training.run import TokenizerConfig, TokensConfig
from training.tokenizer import chat
from training.tokenizer.bpe import END_OF_TEXT, Tokenizer

FILES = sorted(Path(training.__file__).parent.rglob("*.py"))
TEXTS = {path.name + str(i): path.read_text() for i, path in enumerate(FILES)}
TOKENIZER = TokenizerConfig(vocab_size=600, pattern="cl100k_digits")
TOKENS = TokensConfig(context_length=32, validation_fraction=0.1, seed=1)


def write_corpus(
    workspace: Workspace, weight: float = 1.0, backwards: bool = False, copies: bool = False
) -> int:
    rows = []
    for number, (name, text) in enumerate(TEXTS.items()):
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
    return workspace.lake.overwrite("corpus", table).version


def build(workspace: Workspace, corpus: int, config: TokensConfig = TOKENS) -> tuple[Made, Made]:
    vocabulary = run.tokenizer(workspace, {"corpus": corpus}, TOKENIZER)
    inputs = {"corpus": corpus, "tokenizer": vocabulary.version}
    return vocabulary, run.tokens(workspace, inputs, config)


def documents_of(workspace: Workspace, tokens: Made, split: str) -> dict[str, str]:
    """Text of every document of a split, put together from its rows."""
    made = Tokenizer.load(next((workspace.home / "artifacts/tokenizer").iterdir()))
    table = workspace.lake.read("tokens", int(tokens.version), where={"split": split})
    ids: dict[str, list[int]] = {}
    for row in table.sort_by("row_id").to_pylist():
        targets = np.frombuffer(row["tokens"], "<u2").tolist()
        bounds = [max(1, start) for start in row["doc_starts"]]  # the first token is no target
        for doc_id, begin, end in zip(row["doc_ids"], bounds, [*bounds[1:], None], strict=True):
            ids.setdefault(doc_id, []).extend(targets[begin:end])
    opening = made.special_tokens[END_OF_TEXT]
    return {doc_id: made.decode(t for t in of if t != opening) for doc_id, of in ids.items()}


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


def test_equal_documents_make_equal_content_in_any_order(tmp_path: Path):
    made = []
    for backwards in (False, True):
        workspace = Workspace(home=tmp_path / str(backwards), say=lambda line: None)
        made.append(build(workspace, write_corpus(workspace, backwards=backwards)))
    assert made[0][0].content == made[1][0].content
    assert made[0][1].content == made[1][1].content


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
        assert table["row_id"].to_pylist() == list(range(len(rows)))
        assert [row.tobytes() for row in rows.tokens] == table["tokens"].to_pylist()


def test_the_saved_tokenizer_can_chat_and_reports_what_it_measured(workspace: Workspace):
    vocabulary, tokens = build(workspace, write_corpus(workspace))
    made = Tokenizer.load(str(vocabulary.version))
    assert tuple(made.special_tokens) == chat.SPECIAL_TOKENS
    template = (Path(vocabulary.version) / chat.TEMPLATE_FILE).read_text()
    assert template == chat.TEMPLATE + "\n"
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
    assert not any((workspace.home / "scratch").iterdir())


def test_another_seed_holds_out_other_documents(workspace: Workspace):
    corpus = write_corpus(workspace)
    held = []
    for seed in (1, 2):
        config = TOKENS.model_copy(update={"seed": seed})
        _, tokens = build(workspace, corpus, config)
        held.append(documents_of(workspace, tokens, "validation").keys())
    assert held[0] != held[1]


def test_more_vocabulary_than_the_corpus_supports_is_refused(workspace: Workspace):
    corpus = write_corpus(workspace)
    config = TokenizerConfig(vocab_size=65_536, pattern="gpt2")
    with pytest.raises(Refusal, match=r"vocab_size must be at most \d+, all that \d+ bytes"):
        run.tokenizer(workspace, {"corpus": corpus}, config)


def test_a_vocabulary_that_rows_cannot_hold_is_refused_before_anything_is_read():
    with pytest.raises(ValueError, match="less than or equal to 65536"):
        TokenizerConfig(vocab_size=65_537, pattern="gpt2")


def test_the_report_says_what_an_epoch_holds(workspace: Workspace):
    _, tokens = build(workspace, write_corpus(workspace))
    report, made = tokens.report, dataclasses.asdict(tokens)
    for split in ("train", "validation"):
        rows, length = int(report[f"{split} rows"]), TOKENS.context_length
        assert 0 <= rows * length - (int(report[f"{split} tokens"]) - 1) < length
    assert made["rows"] == int(report["train rows"]) + int(report["validation rows"])
    assert np.isclose(float(report["train bytes per token"]), 2.5, atol=1.5)
