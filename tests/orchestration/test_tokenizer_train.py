"""`tarn tokenizer train`: a tokenizer from local files, as the ordinary commands make one."""

from pathlib import Path

from typer.testing import CliRunner

from orchestration.cli import app
from tests.training.tokenizer import naive
from tests.training.tokenizer.texts_to_try import CORPUS
from training.tokenizer.bpe import Tokenizer


def train(*words: object) -> tuple[int, str]:
    done = CliRunner().invoke(app, ["tokenizer", "train", *map(str, words)])
    return done.exit_code, " ".join(done.output.split())


def written(folder: Path) -> list[Path]:
    paths = [folder / f"{n}.txt" for n in range(len(CORPUS))]
    for path, text in zip(paths, CORPUS, strict=True):
        path.write_bytes(text.encode())
    return paths


def test_the_tokenizer_of_files_has_the_merges_of_a_naive_trainer(tmp_path: Path) -> None:
    out = tmp_path / "new" / "made"
    code, said = train(*written(tmp_path), "--vocab-size", 350, "--pattern", "gpt2", "--out", out)
    assert code == 0
    made = Tokenizer.load(out)
    assert made.vocab_size == 350
    wanted, _ = naive.train(CORPUS, "gpt2", len(made.merges))
    assert naive.spelled(made.merges) == wanted
    assert "350 tokens" in said and "distinct pre-tokens" in said


def test_a_pattern_of_ones_own_and_too_little_text_are_said(tmp_path: Path) -> None:
    text, out = tmp_path / "small.txt", tmp_path / "made"
    text.write_text("words and words")
    code, said = train(text, "--pattern", r"\w+|\s+|[^\w\s]", "--out", out)
    assert code == 0
    assert "stopped early after 6 merges of" in said
    assert Tokenizer.load(out).pattern == r"\w+|\s+|[^\w\s]"


def test_what_cannot_be_is_refused_and_leaves_nothing(tmp_path: Path) -> None:
    text, out = tmp_path / "small.txt", tmp_path / "made"
    text.write_text("words")
    for words, refusal in (
        ((text, "--vocab-size", 100), "refused vocab_size must be at least"),
        ((text, "--pattern", "a*"), "refused pattern must not match the empty string, got 'a*'"),
        ((text, "--pattern", "("), "refused pattern must be one of"),
        ((tmp_path / "none",), "refused files must be files that can be read, got"),
    ):
        code, said = train(*words, "--out", out)
        assert code == 2
        assert said.startswith(refusal)
        assert not out.exists()
    code, said = train(text, "--out", text)
    assert code == 2 and said.startswith("refused out must be a folder, got the file")
