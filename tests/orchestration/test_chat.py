"""``tarn chat``: the real command on a model of random weights, in a real pseudo-terminal."""

import contextlib
import fcntl
import os
import pty
import re
import select
import subprocess
import sys
import termios
import time
from collections.abc import Iterator
from pathlib import Path

import dagster as dg
import pytest
import torch
from typer.testing import CliRunner, Result

from orchestration import freshness
from orchestration.chat import Session
from orchestration.cli import app
from tests.training.models.random_weights import awake, small_config
from tests.training.tokenizer.test_bpe import TOKENIZER
from tests.training.tokenizer.test_chat import TALKER
from training import checkpoint
from training.inference.conversation import Conversation, Decoding
from training.models.language_model import LanguageModel

TOP = Path(__file__).parents[2]
TARN = Path(sys.executable).with_name("tarn")
PATIENCE_SECONDS = 60
CONTEXT = 16_384  # a long answer takes a minute, so that there is time to stop it


def letters_model(context: int, seed: int = 0) -> LanguageModel:
    """A model whose likeliest token is a letter: its greedy answers go on to the limit."""
    model = awake(small_config(vocab_size=TALKER.vocab_size, context_length=context), seed)
    letters = [letter for letter in range(128) if chr(letter).isalpha()]
    silent = torch.ones(TALKER.vocab_size, dtype=torch.bool)
    silent[letters] = False
    with torch.no_grad():
        model.head_weight[silent] = 0
    return model.eval()


def save(run: Path, model: LanguageModel, step: int = 70, **about: object) -> Path:
    manifest = {"config": {"model": model.config.model_dump(mode="json")}, "about": about}
    return checkpoint.save(run, step, {"weights": model.state_dict()}, manifest).path


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with a tokenizer, runs of a short and a long context, and one of no known origin."""
    folder = tmp_path_factory.mktemp("made")
    for name, tokenizer in (("tokenizer", TALKER), ("without_turns", TOKENIZER)):
        (folder / name).mkdir()
        tokenizer.save(folder / name)
    known = {"asset": "chat_model", "inputs": {"tokenizer": str(folder / "tokenizer")}}
    save(folder / "short", letters_model(64), **known)
    save(folder / "long", letters_model(CONTEXT), **known)
    save(folder / "unknown", letters_model(64))
    other = {"asset": "chat_model", "inputs": {"tokenizer": str(folder / "without_turns")}}
    save(folder / "other", letters_model(64), **other)
    return folder


@pytest.fixture
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """An installation of one's own in which nothing was made."""
    before = dict(os.environ)
    monkeypatch.setenv("TARN_HOME", str(tmp_path / "home"))
    monkeypatch.delenv("DAGSTER_HOME", raising=False)
    threads = torch.get_num_threads()
    yield tmp_path / "home"
    torch.set_num_threads(threads)
    os.environ.clear()
    os.environ.update(before)


def chat(*arguments: str | Path, typed: str | bytes = "") -> Result:
    return CliRunner().invoke(app, ["chat", *map(str, arguments)], input=typed)


def materialized(key: str, version: Path) -> None:
    """Tell the Dagster of this environment that ``key`` was made."""
    from orchestration import resources

    resources.adopt_environment()
    metadata = {freshness.VERSION: dg.MetadataValue.path(str(version))}
    dg.DagsterInstance.get().report_runless_asset_event(
        dg.AssetMaterialization(key, metadata=metadata)
    )


def greedy(context: int, question: str, max_new_tokens: int) -> str:
    talk = Conversation(letters_model(context), TALKER, Decoding(max_new_tokens=max_new_tokens))
    return "".join(talk.ask(question))


class Terminal:
    """A pseudo-terminal with ``tarn chat`` in it."""

    def __init__(self, *arguments: str | Path) -> None:
        self._ours, theirs = pty.openpty()
        self.seen = ""
        self._process = subprocess.Popen(
            [TARN, "chat", *map(str, arguments)],
            stdin=theirs,
            stdout=theirs,
            stderr=theirs,
            cwd=TOP,
            env={**os.environ, "TERM": "xterm"},
            start_new_session=True,
            # Its keyboard sends signals, as a real one's does.
            preexec_fn=lambda: fcntl.ioctl(0, termios.TIOCSCTTY, 0),
        )
        os.close(theirs)

    def type(self, keys: str) -> None:
        os.write(self._ours, keys.encode())

    def wait_for(self, text: str, seconds: float = PATIENCE_SECONDS) -> str:
        """What came up to and with ``text``, a pattern; the rest is kept for later."""
        deadline = time.monotonic() + seconds
        while not (found := re.search(text, self.seen)):
            assert time.monotonic() < deadline, f"no {text!r} in {self.seen[-2000:]!r}"
            if select.select([self._ours], [], [], 1)[0]:
                self.seen += os.read(self._ours, 65536).decode()
        before, self.seen = self.seen[: found.end()], self.seen[found.end() :]
        return before

    def press_until(self, key: str, text: str) -> None:
        """Press ``key`` again and again, as people do, until ``text`` comes.

        Python's readline misses a signal between showing the prompt and waiting for keys.
        """
        for _ in range(PATIENCE_SECONDS):
            self.type(key)
            with contextlib.suppress(AssertionError):
                self.wait_for(text, seconds=1)
                return
        raise AssertionError(f"no {text!r} in {self.seen[-2000:]!r}")

    def exit_code(self) -> int:
        return self._process.wait(PATIENCE_SECONDS)

    def close(self) -> None:
        self._process.kill()
        self._process.wait()
        os.close(self._ours)


@pytest.fixture
def terminal(home: Path, made: Path) -> Iterator[Terminal]:
    opened = Terminal("--model", made / "long", "--max-new-tokens", "16000")
    yield opened
    opened.close()


def test_a_person_asks_stops_an_answer_asks_again_and_leaves(terminal: Terminal) -> None:
    banner = terminal.wait_for("> ")
    assert re.search(r"chat_model step 70, \d+(\.\d)?[M,]?\d* parameters", banner)
    assert "Ctrl-D leaves" in banner

    terminal.type("hello\n")
    terminal.wait_for("hello\r\n")
    first = terminal.wait_for("[A-Za-z]{40}")[-40:]  # while thousands of tokens are to come
    assert first in greedy(CONTEXT, "hello", 100)
    terminal.type("\x03")
    terminal.wait_for(r"\[stopped\]")

    terminal.wait_for("> ")
    terminal.press_until("\x03", "Ctrl-D leaves")
    terminal.wait_for("> ")
    terminal.type("/help\n")
    terminal.wait_for("/reset.*\r\n.*/help")
    terminal.wait_for("> ")
    terminal.type("/reset\n")
    terminal.wait_for("everything is forgotten")
    terminal.wait_for("> ")
    terminal.type("\x1b[A\x1b[A\x1b[A\n")  # up to the first question, by readline
    assert terminal.wait_for("[A-Za-z]{40}")[-40:] == first
    terminal.type("\x03")
    terminal.wait_for("> ")
    terminal.type("\x04")
    assert terminal.exit_code() == 0


def test_a_person_sees_that_an_answer_was_cut_and_that_a_message_is_too_long(
    home: Path, made: Path
) -> None:
    terminal = Terminal("--model", made / "short")
    try:
        terminal.wait_for("> ")
        terminal.type("hello\n")
        assert greedy(64, "hello", 16) + "\x1b[2m [cut]" in terminal.wait_for("> ")
        terminal.type("1" * 100 + "\n")
        terminal.wait_for("refused.* message must be at most 44 tokens long")
        terminal.wait_for("> ")
        terminal.type("hello\n")
        terminal.wait_for("cut.*\r\n> ")
        terminal.type("\x04")
        assert terminal.exit_code() == 0
    finally:
        terminal.close()


def test_a_model_cannot_steer_the_terminal(capsys: pytest.CaptureFixture[str]) -> None:
    model = letters_model(64)
    with torch.no_grad():
        model.head_weight[:] = 0
        model.head_weight[27] = model.hidden(torch.tensor([[1]]))[0, 0]
    decoding = Decoding(max_new_tokens=30, temperature=0.1)
    for interactive in (True, False):
        Session(Conversation(model, TALKER, decoding), interactive).answer("hello")
    drawn, plain = capsys.readouterr().out.split("[cut]")
    assert "\x1b" not in drawn and "␛" in drawn
    assert "\x1b" in plain


def test_a_question_asked_once_prints_the_bare_answer(home: Path, made: Path) -> None:
    done = subprocess.run(
        [TARN, "chat", "--model", made / "short", "--once", "hello", "--max-new-tokens", "9"],
        cwd=TOP,
        env=os.environ,
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
    )
    assert (done.returncode, done.stdout) == (0, greedy(64, "hello", 9) + "\n")
    assert done.stderr == "[cut]\n"


def test_piped_questions_are_answered_line_by_line_with_their_history(
    home: Path, made: Path
) -> None:
    options = ("--model", made / "short", "--max-new-tokens", "9")
    both = chat(*options, typed="hello\n\nand now?\n")
    apart = chat(*options, "--no-history", typed="hello\nand now?\n")
    reset = chat(*options, typed="hello\n/reset\nand now?\n")
    assert both.exit_code == apart.exit_code == reset.exit_code == 0
    talk = Conversation(letters_model(64), TALKER, Decoding(max_new_tokens=9))
    assert both.stdout.split() == ["".join(talk.ask(q)) for q in ("hello", "and now?")]
    alone = [greedy(64, question, 9) for question in ("hello", "and now?")]
    assert apart.stdout.split() == reset.stdout.split() == alone != both.stdout.split()


def test_that_turns_are_forgotten_is_said_once_and_again_after_a_reset(
    home: Path, made: Path
) -> None:
    lines = ["hello", *map(str, range(8)), "/reset", *map(str, range(8))]
    done = chat("--model", made / "short", typed="\n".join(lines))
    assert done.exit_code == 0
    assert done.stderr.count("oldest turns are forgotten") == 2


def test_a_message_that_does_not_fit_is_refused_and_the_conversation_goes_on(
    home: Path, made: Path
) -> None:
    done = chat("--model", made / "short", typed="hello\n" + "1" * 100 + "\nhello\n")
    assert done.exit_code == 2  # a script has to learn of it
    assert len(done.stdout.split()) == 2
    message = "refused message must be at most 44 tokens long, so that the context holds it and an"
    assert f"{message} answer, got 100\n" in done.stderr


def test_bytes_that_are_no_text_are_read_as_replacement_characters(home: Path, made: Path) -> None:
    done = chat("--model", made / "short", typed=b"caf\xe9\n")
    assert done.exit_code == 0
    again = chat("--model", made / "short", typed="caf\N{REPLACEMENT CHARACTER}\n")
    assert done.stdout == again.stdout


def test_seed_and_temperature_decide_the_answer(home: Path, made: Path) -> None:
    def drawn(*options: str) -> str:
        return chat("--model", made / "short", "--once", "hello", *options).stdout

    hot = ("--temperature", "2", "--seed")
    assert drawn(*hot, "1") == drawn(*hot, "1") != drawn(*hot, "2")
    assert drawn("--seed", "1") == drawn() == greedy(64, "hello", 16) + "\n"


def test_a_name_means_what_was_materialized_last(home: Path, made: Path) -> None:
    hello = ("--once", "hello")
    materialized("dpo_model", made / "unknown" / "step-000000070")
    first = chat("--model", "dpo", *hello)
    assert (first.exit_code, first.stdout) == (2, "")
    assert re.search(
        "step-000000070 must name a tokenizer that exists, .* got no name", first.stderr
    )
    materialized("tokenizer", made / "tokenizer")
    assert chat("--model", "dpo", *hello).stdout == greedy(64, "hello", 16) + "\n"
    save(home / "newer", letters_model(64, seed=1))
    materialized("dpo_model", home / "newer" / "step-000000070")
    newer = chat("--model", "dpo", *hello)
    assert newer.exit_code == 0 and newer.stdout != greedy(64, "hello", 16) + "\n"


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (
            ["--once", "hello"],
            "chat_model must be materialized before one can talk to it, got nothing; run make run",
        ),
        (
            ["--model", "sfft"],
            "model must be one of base, sft, dpo, chat or the folder of a checkpoint, got sfft; "
            "did you mean sft?",
        ),
        (
            ["--model", "{made}/missing"],
            "model must be the folder of a checkpoint, or of a run with a good one, "
            "got {made}/missing",
        ),
        (
            ["--model", "{made}/tokenizer"],
            "model must be the folder of a checkpoint, or of a run with a good one, "
            "got {made}/tokenizer",
        ),
        (
            ["--model", "{made}/other"],
            f"tokenizer must have the model's {TALKER.vocab_size} tokens, got "
            f"{TOKENIZER.vocab_size}",
        ),
        (
            ["--model", "{made}/short", "--max-new-tokens", "64"],
            "max_new_tokens must be 1 to 59, so that the context of 64 tokens holds a question as "
            "well, got 64",
        ),
        (
            ["--model", "{made}/short", "--temperature", "-1"],
            "temperature must be at least 0, got -1.0",
        ),
    ],
)
def test_what_cannot_be_talked_to_is_refused_on_stderr(
    home: Path, made: Path, arguments: list[str], message: str
) -> None:
    done = chat(*(argument.format(made=made) for argument in arguments), typed="hello\n")
    assert (done.exit_code, done.stdout) == (2, "")
    assert done.stderr == f"refused {message.format(made=made)}\n"
