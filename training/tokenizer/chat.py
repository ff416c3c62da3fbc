"""Conversations as token ids.

A tokenizer has a chat template (``chat_template``), which is saved in its folder as Hugging Face
does. By default a turn is its role's token, the content, ``<|end|>``, and a conversation begins
where a document does, after ``<|endoftext|>``. Text between control tokens is encoded as text, so
nothing that a user writes can open or close a turn.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import Any, Literal

import numpy as np

from datalake.config import Config, Refusal
from training.tokenizer.bpe import END_OF_TEXT, Tokenizer
from training.tokenizer.chat_template import ChatTemplate, Piece
from training.tokenizer.interchange import TEMPLATE_FILE

Role = Literal["system", "user", "assistant"]

ROLES: dict[Role, str] = {role: f"<|{role}|>" for role in ("system", "user", "assistant")}
END_OF_TURN = "<|end|>"
SPECIAL_TOKENS = (END_OF_TEXT, *ROLES.values(), END_OF_TURN)

TEMPLATE = (
    f"{END_OF_TEXT}{{% for message in messages %}}"
    f"{{% if message['role'] not in {list(ROLES)} %}}"
    "{{ raise_exception('role must be system, user or assistant, got ' ~ message['role']) }}"
    "{% endif %}<|{{ message['role'] }}|>"
    "{% if message['role'] == 'assistant' %}"
    f"{{% generation %}}{{{{ message['content'] }}}}{END_OF_TURN}{{% endgeneration %}}"
    f"{{% else %}}{{{{ message['content'] }}}}{END_OF_TURN}{{% endif %}}"
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
    opening: int | None = 1  # ids before the first turn; None where turns change with their place


def render(messages: Sequence[Message], tokenizer: Tokenizer) -> Rendered:
    """A whole conversation, for training. Raises Refusal where turns are out of order."""
    return render_all([messages], tokenizer)[0]


def render_all(conversations: Sequence[Sequence[Message]], tokenizer: Tokenizer) -> list[Rendered]:
    """Many conversations, encoded at once: several times as fast as one by one."""
    template = template_of(tokenizer)
    pieces = [template.pieces(_in_order(messages)) for messages in conversations]
    return _encoded(pieces, tokenizer, _Turns.of(template).opening)


def render_prompt(messages: Sequence[Message], tokenizer: Tokenizer) -> np.ndarray:
    """A conversation up to where the assistant's next turn begins: ids to continue."""
    return render_prompts([messages], tokenizer)[0]


def render_prompts(
    conversations: Sequence[Sequence[Message]], tokenizer: Tokenizer
) -> list[np.ndarray]:
    """Many prompts, encoded at once."""
    template = template_of(tokenizer)
    pieces = []
    for messages in conversations:
        if messages and messages[-1].role == "assistant":
            raise Refusal("messages must end with the user's turn to be answered, got assistant")
        pieces.append(template.pieces(_in_order(messages), add_generation_prompt=True))
    return [rendered.ids for rendered in _encoded(pieces, tokenizer)]


def render_messages(
    messages: Sequence[Mapping[str, Any]],
    tokenizer: Tokenizer,
    add_generation_prompt: bool = False,
    **variables: Any,
) -> Rendered:
    """Whatever the tokenizer's template takes: roles, tools and fields of its own."""
    pieces = template_of(tokenizer).pieces(messages, add_generation_prompt, **variables)
    return _encoded([pieces], tokenizer)[0]


def template_of(tokenizer: Tokenizer) -> ChatTemplate:
    """The tokenizer's template, or else the default one.

    Raises Refusal where it does not compile, or the tokens of the default one are missing.
    """
    source = TEMPLATE if tokenizer.chat_template is None else tokenizer.chat_template
    return _compiled(source, tuple(tokenizer.special_tokens))


def end_of_turn(tokenizer: Tokenizer) -> int:
    """Id of the token that an assistant ends its turn with."""
    return tokenizer.special_tokens[_Turns.of(template_of(tokenizer)).end]


def check_template(folder: Path) -> None:
    """Raise Refusal unless the tokenizer in ``folder`` has a template to learn a chat by."""
    try:
        _Turns.of(template_of(Tokenizer.load(folder)))
    except Refusal as refusal:
        raise Refusal(f"{folder / TEMPLATE_FILE}: {refusal}") from None


@lru_cache(maxsize=64)
def _compiled(source: str, special_tokens: tuple[str, ...]) -> ChatTemplate:
    missing = [name for name in SPECIAL_TOKENS if name not in special_tokens]
    if source == TEMPLATE and missing:
        raise Refusal(
            f"tokenizer must have the special token {missing[0]} to chat, got "
            f"{', '.join(special_tokens)}"
        )
    return ChatTemplate(source, special_tokens)


@dataclass(frozen=True, slots=True)
class _Turns:
    """How a template writes turns, found by trying it."""

    opening: int | None  # pieces before the first turn; None where turns change with their place
    end: str  # the token that ends the assistant's turn

    @staticmethod
    @lru_cache(maxsize=64)
    def of(template: ChatTemplate) -> "_Turns":
        """Raises Refusal where nothing would be learned, or a prompt would not be gone on with."""
        asked = [{"role": "user", "content": "Why?"}]
        exchange = [*asked, {"role": "assistant", "content": "So."}]
        one, two = template.pieces(exchange), template.pieces(exchange * 2)
        prompt = template.pieces(asked, add_generation_prompt=True)
        learned = [number for number, piece in enumerate(one) if piece.learned]
        if not learned:
            raise Refusal(
                "chat template must have what the assistant says in a generation block, got none "
                "that is rendered"
            )
        if one[: len(prompt)] != prompt or learned[0] != len(prompt):
            raise Refusal(
                "chat template must end a prompt where the assistant's generation block begins, "
                f"got {_text(prompt)!r} before {_text(one[learned[0] :])!r} in {_text(one)!r}"
            )
        end = one[learned[-1]]
        if not end.special:
            raise Refusal(
                "chat template must have a special token last in the assistant's generation "
                f"block, got {end.text!r}"
            )
        follows = two[len(one) :] if two[: len(one)] == one else None
        opening = next((k for k in range(len(one)) if one[k:] == follows), None)
        return _Turns(opening, end.text)


def _text(pieces: Sequence[Piece]) -> str:
    return "".join(piece.text for piece in pieces)


def _in_order(messages: Sequence[Message]) -> list[dict[str, str]]:
    """An optional system turn, then user and assistant in turn."""
    roles = [message.role for message in messages]
    turns = roles[1:] if roles[:1] == ["system"] else roles
    wanted = ["user", "assistant"] * (len(turns) // 2 + 1)
    if not turns or turns != wanted[: len(turns)]:
        raise Refusal(
            "messages must be an optional system turn, then user and assistant in turn, got "
            f"{', '.join(roles) or 'none'}"
        )
    return [{"role": message.role, "content": message.content} for message in messages]


def _encoded(
    conversations: Sequence[Sequence[Piece]], tokenizer: Tokenizer, opening: int | None = None
) -> list[Rendered]:
    """Ids of each conversation's pieces, every piece encoded on its own; ``opening`` of them."""
    texts = [piece.text for pieces in conversations for piece in pieces if not piece.special]
    found, offsets = tokenizer.encode_batch(texts)
    bounds = iter(offsets.tolist())
    read = next(bounds)
    rendered = []
    for pieces in conversations:
        spans, length = [], 0
        for piece in pieces:
            begin, source = length, read
            if not piece.special:
                read = next(bounds)
            length += 1 if piece.special else read - source
            spans.append((begin, length, source, piece))
        ids, learned = np.empty(length, tokenizer.dtype), np.zeros(length, bool)
        for begin, end, source, (text, special, says) in spans:
            if special:
                ids[begin] = tokenizer.special_tokens[text]
            else:
                ids[begin:end] = found[source : source + end - begin]
            if says:
                learned[begin:end] = True
        first = None if opening is None else spans[opening][0] if opening < len(spans) else length
        rendered.append(Rendered(ids=ids, learned=learned, opening=first))
    return rendered
