"""Conversations as token ids.

A turn is its role's token, the content, ``<|end|>``; a conversation begins where a document does,
after ``<|endoftext|>``. Contents are encoded as text, so nothing that a user writes can open or
close a turn. The same template, as Jinja for other systems, is saved beside the tokenizer.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import numpy as np

from datalake.config import Config, Refusal
from training.tokenizer.bpe import END_OF_TEXT, Tokenizer

Role = Literal["system", "user", "assistant"]

ROLES: dict[Role, str] = {role: f"<|{role}|>" for role in ("system", "user", "assistant")}
END_OF_TURN = "<|end|>"
SPECIAL_TOKENS = (END_OF_TEXT, *ROLES.values(), END_OF_TURN)

TEMPLATE_FILE = "chat_template.jinja"
TEMPLATE = (
    f"{END_OF_TEXT}{{% for message in messages %}}"
    f"<|{{{{ message.role }}}}|>{{{{ message.content }}}}{END_OF_TURN}"
    f"{{% endfor %}}{{% if add_generation_prompt %}}{ROLES['assistant']}{{% endif %}}"
)


class Message(Config):
    """One turn of a conversation."""

    role: Role
    content: str


@dataclass(frozen=True, slots=True, eq=False)
class Rendered:
    """A conversation as ids, and which of them an assistant has to learn to say."""

    ids: np.ndarray  # [time], of the tokenizer's dtype
    learned: np.ndarray  # bool [time]: the assistant's contents, each with its end of turn


def render(messages: Sequence[Message], tokenizer: Tokenizer) -> Rendered:
    """A whole conversation, for training. Raises Refusal where turns are out of order."""
    _check(messages)
    contents, offsets = tokenizer.encode_batch([message.content for message in messages])
    ids, learned = [_special(tokenizer, END_OF_TEXT)], [np.zeros(1, bool)]
    for i, message in enumerate(messages):
        content = contents[offsets[i] : offsets[i + 1]]
        ids += [_special(tokenizer, ROLES[message.role]), content, _special(tokenizer, END_OF_TURN)]
        speaks = message.role == "assistant"
        learned += [np.zeros(1, bool), np.full(len(content) + 1, speaks)]
    return Rendered(ids=np.concatenate(ids), learned=np.concatenate(learned))


def render_prompt(messages: Sequence[Message], tokenizer: Tokenizer) -> np.ndarray:
    """A conversation up to where the assistant's next turn begins: ids to continue."""
    if messages and messages[-1].role == "assistant":
        raise Refusal("messages must end with the user's turn to be answered, got assistant")
    ids = render(messages, tokenizer).ids
    return np.concatenate([ids, _special(tokenizer, ROLES["assistant"])])


def check_template(folder: Path) -> None:
    """Raise Refusal unless the template beside the tokenizer is the one that is rendered here.

    One without the assistant's mark would leave nothing to learn, and raise no error.
    """
    path = folder / TEMPLATE_FILE
    found = path.read_text(encoding="utf-8").strip() if path.is_file() else ""
    mark = ROLES["assistant"]
    if mark not in found:
        got = repr(found) if found else "no such file"
        raise Refusal(f"{path} must have the assistant's mark {mark}, got {got}")
    if found != TEMPLATE:
        raise Refusal(f"{path} must be the template of this version, {TEMPLATE!r}, got {found!r}")


def _special(tokenizer: Tokenizer, name: str) -> np.ndarray:
    if name not in tokenizer.special_tokens:
        known = ", ".join(tokenizer.special_tokens)
        raise Refusal(f"tokenizer must have the special token {name} to chat, got {known}")
    return np.array([tokenizer.special_tokens[name]], tokenizer.dtype)


def _check(messages: Sequence[Message]) -> None:
    """An optional system turn, then user and assistant in turn."""
    roles = [message.role for message in messages]
    turns = roles[1:] if roles[:1] == ["system"] else roles
    wanted = ["user", "assistant"] * (len(turns) // 2 + 1)
    if not turns or turns != wanted[: len(turns)]:
        raise Refusal(
            "messages must be an optional system turn, then user and assistant in turn, got "
            f"{', '.join(roles) or 'none'}"
        )
