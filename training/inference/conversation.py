"""A conversation with a model: questions in, answers out piece by piece while they are drawn.

An answer's tokens are bytes, and a character may be spread over several of them: what is not yet a
whole character is held back. The context bounds what is remembered: the oldest turns are forgotten
when the next answer would no longer fit.
"""

import codecs
from collections.abc import Iterable, Iterator
from dataclasses import dataclass

import numpy as np

from datalake.config import Refusal
from training.inference.sampling import Finish, Sampled, stream
from training.models.language_model import LanguageModel
from training.tokenizer.bpe import Tokenizer
from training.tokenizer.chat import Message, render_prompt


@dataclass(frozen=True, kw_only=True, slots=True)
class Decoding:
    """How answers are drawn: the same settings give the same answer to the same conversation."""

    max_new_tokens: int  # what an answer may take, its end included
    temperature: float = 0.0  # 0 takes the likeliest token
    seed: int = 0


class Answer:
    """One answer. Iterating draws it, in pieces of whole characters; it may be left at any piece.

    Special tokens are never part of the text. ``text`` is what was said so far; ``finish`` is None
    until the last token, and stays so where the answer was left.
    """

    def __init__(
        self, question: str, tokens: Iterable[Sampled], tokenizer: Tokenizer, num_forgotten: int = 0
    ) -> None:
        self.question = question
        self.num_forgotten = num_forgotten  # earlier turns that made room for this one
        self.text = ""
        self.finish: Finish | None = None
        self._pieces = self._draw(tokens, tokenizer)

    def __iter__(self) -> Iterator[str]:
        return self._pieces

    def _draw(self, tokens: Iterable[Sampled], tokenizer: Tokenizer) -> Iterator[str]:
        special = frozenset(tokenizer.special_tokens.values())
        characters = codecs.getincrementaldecoder("utf-8")(errors="replace")
        for token in tokens:
            self.finish = token.finish
            told = b"" if token.id in special else tokenizer.token_bytes[token.id]
            # A character that is begun when the answer ends is broken; one that is cut is only cut.
            piece = characters.decode(told, final=token.finish == "stop")
            if piece:
                self.text += piece
                yield piece


class Conversation:
    """Turns between a user and ``model``, which reads all that the context holds of them.

    Raises Refusal for settings out of range, or a tokenizer without the tokens of a chat.
    """

    def __init__(
        self, model: LanguageModel, tokenizer: Tokenizer, decoding: Decoding, remembers: bool = True
    ) -> None:
        """Without ``remembers`` every question stands on its own."""
        self._model = model
        self._tokenizer = tokenizer
        self._decoding = decoding
        self._remembers = remembers
        self._turns: list[Answer] = []
        self._num_template_tokens = len(self._prompt([], ""))
        context = model.config.context_length
        most = context - self._num_template_tokens - 1
        if not 1 <= decoding.max_new_tokens <= most:
            raise Refusal(
                f"max_new_tokens must be 1 to {most}, so that the context of {context} tokens "
                f"holds a question as well, got {decoding.max_new_tokens}"
            )
        if not decoding.temperature >= 0:
            raise Refusal(f"temperature must be at least 0, got {decoding.temperature}")
        if decoding.seed < 0:
            raise Refusal(f"seed must be at least 0, got {decoding.seed}")

    @property
    def turns(self) -> tuple[Answer, ...]:
        """What is remembered, the oldest first."""
        return tuple(self._turns)

    def ask(self, question: str) -> Answer:
        """The answer to ``question``, still to be drawn; it is remembered as far as it is drawn.

        Raises Refusal, and remembers everything, where the question alone is too long.
        """
        room = self._model.config.context_length - self._decoding.max_new_tokens
        alone = len(self._prompt([], question))
        if alone > room:
            raise Refusal(
                f"message must be at most {room - self._num_template_tokens} tokens long, so that "
                f"the context holds it and an answer, got {alone - self._num_template_tokens}"
            )
        turns = self._turns if self._remembers else []
        kept = turns
        while len(prompt := self._prompt(kept, question)) > room:
            kept = kept[1:]
        drawn = stream(
            self._model,
            [prompt.tolist()],
            self._decoding.max_new_tokens,
            self._decoding.temperature,
            seed=self._decoding.seed,
            # After any of them the assistant is no longer the one who speaks.
            stop_ids=frozenset(self._tokenizer.special_tokens.values()),
        )
        answer = Answer(question, drawn, self._tokenizer, len(turns) - len(kept))
        self._turns = [*kept, answer]
        return answer

    def reset(self) -> None:
        """Forget everything."""
        self._turns = []

    def _prompt(self, turns: list[Answer], question: str) -> np.ndarray:
        """Ids up to where the answer to ``question`` after ``turns`` begins."""
        messages = []
        for turn in turns:
            messages.append(Message(role="user", content=turn.question))
            messages.append(Message(role="assistant", content=turn.text))
        return render_prompt([*messages, Message(role="user", content=question)], self._tokenizer)
