"""``tarn chat``: a conversation with a model of the graph, or of any checkpoint, in the terminal.

People get a prompt, notes and an answer that appears as it is drawn; a script that pipes questions
in, or asks ``--once``, gets the answers alone on stdout and everything else on stderr.
"""

import contextlib
import difflib
import io
import os
import signal
import sys
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING

from rich.console import Console
from rich.markup import escape

from datalake.config import Refusal
from orchestration import resources

if TYPE_CHECKING:
    from orchestration.freshness import Last
    from training.checkpoint import Checkpoint
    from training.inference.conversation import Conversation
    from training.models.language_model import LanguageModel
    from training.tokenizer.bpe import Tokenizer

ASSETS = {"base": "base_model", "sft": "sft_model", "dpo": "dpo_model", "chat": "chat_model"}
PROMPT = "> "
_COMMANDS = {"/reset": "forgets what was said so far", "/help": "shows this"}
_KEYS = "Ctrl-C stops an answer, Ctrl-D leaves"
# A model that says the byte 27 must not steer the terminal: control characters are drawn.
_DRAWN = {code: 0x2400 + code for code in range(32) if chr(code) not in "\n\t"}
_DRAWN |= {0x7F: 0x2421} | dict.fromkeys(range(0x80, 0xA0), 0xFFFD)


def open_conversation(
    model: str, temperature: float, max_new_tokens: int | None, seed: int, history: bool
) -> tuple["Conversation", str]:
    """The conversation with ``model``, and what it is.

    It is a name of ``ASSETS``, or the folder of a checkpoint, a run, or a published model.

    An answer may take a quarter of the context where ``max_new_tokens`` is not given.
    Raises Refusal where there is no such model, and for settings out of range.
    """
    loaded, tokenizer, name, place = _opened(model)
    from training.inference.conversation import Conversation, Decoding

    decoding = Decoding(
        max_new_tokens=loaded.config.context_length // 4
        if max_new_tokens is None
        else max_new_tokens,
        temperature=temperature,
        seed=seed,
    )
    num_params = sum(parameter.numel() for parameter in loaded.parameters())
    size = f"{num_params / 1e6:.1f}M" if num_params >= 1e5 else f"{num_params:,}"
    what = f"{name}, {size} parameters\nfrom {place}"
    return Conversation(loaded, tokenizer, decoding, history), what


def _opened(model: str) -> tuple["LanguageModel", "Tokenizer", str, Path]:
    """The model, its tokenizer, what it is called and where it lies."""
    path = Path(model).expanduser()
    if model not in ASSETS and _is_published(path):
        return _opened_published(path)
    checkpoint = find_checkpoint(model)
    tokenizer = tokenizer_of(checkpoint)
    _warm_up(tokenizer)
    from training.inference.checkpointed import load_model

    run = checkpoint.path.resolve().parent
    name = checkpoint.manifest.get("about", {}).get("asset", run.name)
    loaded = load_model(checkpoint, tokenizer.vocab_size)
    return loaded, tokenizer, f"{name} step {checkpoint.step:,}", run


def _opened_published(path: Path) -> tuple["LanguageModel", "Tokenizer", str, Path]:
    from training.inference import published
    from training.tokenizer.bpe import Tokenizer

    published.check(path)
    tokenizer = Tokenizer.load(path)
    _warm_up(tokenizer)
    loaded = published.load_model(path, tokenizer.vocab_size)
    return loaded, tokenizer, path.resolve().name, path.resolve()


def _warm_up(tokenizer: "Tokenizer") -> None:
    """Loading the compiled encoder takes seconds: a person types meanwhile."""
    threading.Thread(target=tokenizer.encode, args=("",)).start()
    from training.hardware import apply_threads

    apply_threads(1)  # one token at a time is too little work to be shared


def find_checkpoint(model: str) -> "Checkpoint":
    """The newest checkpoint of a name of ``ASSETS``, or that of a run's or checkpoint's folder."""
    if key := ASSETS.get(model):
        made = _last(key)
        if made is None:
            raise Refusal(
                f"{key} must be materialized before one can talk to it, got nothing; run make run"
            )
        return _load(Path(str(made.version)))
    path = Path(model).expanduser()
    if path.is_dir() or os.sep in model:
        return _load(path)
    near = difflib.get_close_matches(model, ASSETS, 1)
    hint = f"; did you mean {near[0]}?" if near else ""
    raise Refusal(
        f"model must be one of {', '.join(ASSETS)} or the folder of a checkpoint, got {model}{hint}"
    )


def _is_published(path: Path) -> bool:
    """Whether ``path`` is a folder as other tools write them, and not one of ours."""
    return (path / "config.json").is_file() and not (path / "manifest.json").is_file()


def _load(path: Path) -> "Checkpoint":
    from training import checkpoint

    if (path / "manifest.json").is_file():
        return checkpoint.load(path)
    if found := checkpoint.latest(path):
        return found
    raise Refusal(
        f"model must be the folder of a checkpoint, or of a run with a good one, got {path}"
    )


def tokenizer_of(checkpoint: "Checkpoint") -> "Tokenizer":
    """The tokenizer that the manifest names, or else the newest one."""
    from training.tokenizer.bpe import Tokenizer

    named = checkpoint.manifest.get("about", {}).get("inputs", {}).get("tokenizer")
    if named is not None and Path(named).is_dir():
        return Tokenizer.load(named)
    made = _last("tokenizer")
    if made is None:
        raise Refusal(
            f"{checkpoint.path} must name a tokenizer that exists, as none was materialized, "
            f"got {named or 'no name'}"
        )
    return Tokenizer.load(str(made.version))


def _last(key: str) -> "Last | None":
    """The last materialization of ``key``, as Dagster tells it."""
    resources.adopt_environment()
    import dagster as dg

    from orchestration import freshness

    return freshness.last(dg.DagsterInstance.get(), key)


class Session:
    """Lines in, answers out: with a person at a terminal (``interactive``), or with a script."""

    def __init__(self, conversation: "Conversation", interactive: bool) -> None:
        self._conversation = conversation
        self._interactive = interactive
        self._notes = Console(stderr=not interactive, highlight=False)
        self._told_of_forgetting = False
        self._asking = False
        self._stopped = False
        # Bytes that are no text come in as surrogates, which the tokenizer reads as U+FFFD.
        for file, errors in ((sys.stdin, "surrogateescape"), (sys.stdout, "replace")):
            if isinstance(file, io.TextIOWrapper):
                file.reconfigure(errors=errors)

    def talk(self, what: str) -> bool:
        """Answer every line until the input ends; whether none was refused.

        ``what`` is said first to a person: whom they talk to.
        """
        if not self._interactive:
            heard = [self._hear(line.rstrip("\n")) for line in sys.stdin]
            return all(heard)
        self._notes.print(escape(what), soft_wrap=True)
        self._note(f"/help says what else there is; {_KEYS}")
        with contextlib.suppress(ImportError):
            import readline  # noqa: F401, gives ``input`` its line editing and recall
        previous = signal.signal(signal.SIGINT, self._on_ctrl_c)
        try:
            for line in self._typed():
                self._hear(line)
        finally:
            signal.signal(signal.SIGINT, previous)
        return True

    def answer(self, message: str) -> None:
        """Write the answer to ``message`` as it is drawn. Raises Refusal where it is too long."""
        answer = self._conversation.ask(message)
        if answer.num_forgotten and not self._told_of_forgetting:
            self._told_of_forgetting = True
            self._note("the context is full: from here on the oldest turns are forgotten")
        self._stopped = False
        for piece in answer:
            sys.stdout.write(piece.translate(_DRAWN) if self._interactive else piece)
            sys.stdout.flush()
            if self._stopped:
                break
        mark = {"stop": "", "length": "[cut]", None: "[stopped]"}[answer.finish]
        if not (mark and self._interactive):
            print(flush=True)
        if mark:
            self._note(f" {mark}" if self._interactive else mark)

    def _hear(self, line: str) -> bool:
        """Obey or answer one line; False where it had to be refused."""
        try:
            if line.strip() in _COMMANDS:
                self._obey(line.strip())
            elif line.strip():
                self.answer(line)
        except Refusal as refusal:
            self._notes.print(f"[red]refused[/] {escape(str(refusal))}", soft_wrap=True)
            return False
        return True

    def _obey(self, command: str) -> None:
        if command == "/reset":
            self._conversation.reset()
            self._told_of_forgetting = False
            self._note("everything is forgotten")
        else:
            for name, effect in _COMMANDS.items():
                self._note(f"{name:<8}{effect}")
            self._note(_KEYS)

    def _typed(self) -> Iterator[str]:
        """What a person types, line by line, until Ctrl-D."""
        while True:
            try:
                self._asking = True
                line = input(PROMPT)
                self._asking = False
            except KeyboardInterrupt:
                print()
                self._note("Ctrl-D leaves")
                continue
            except EOFError:
                self._asking = False
                print()
                return
            yield line

    def _on_ctrl_c(self, number: int, frame: object) -> None:
        """End the prompt's line at once, an answer after the piece that is being drawn."""
        if self._asking:
            self._asking = False
            raise KeyboardInterrupt
        self._stopped = True

    def _note(self, text: str) -> None:
        self._notes.print(f"[dim]{escape(text)}[/]", soft_wrap=True)
