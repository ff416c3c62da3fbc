from collections.abc import Sequence

import pytest
from hypothesis import given
from hypothesis import strategies as st

from datalake.config import Refusal
from tests.training.models.random_weights import awake, small_config
from tests.training.tokenizer.test_bpe import TOKENIZER
from tests.training.tokenizer.test_chat import TALKER
from tests.training.tokenizer.texts_to_try import texts
from training.inference.conversation import Answer, Conversation, Decoding
from training.inference.sampling import Finish, Sampled, generate
from training.models.language_model import LanguageModel
from training.tokenizer.chat import END_OF_TURN, Message, render_prompt

CONTEXT = 96
END = TALKER.special_tokens[END_OF_TURN]
SPECIAL = frozenset(TALKER.special_tokens.values())
TEMPLATE_TOKENS = 4  # document, user, end of turn, assistant


@pytest.fixture(scope="module")
def model() -> LanguageModel:
    return awake(small_config(vocab_size=TALKER.vocab_size, context_length=CONTEXT)).eval()


def answer_of(ids: Sequence[int], finish: Finish = "stop") -> Answer:
    """An answer of which ``ids`` are drawn, the last for the reason ``finish``."""
    reasons = [None] * (len(ids) - 1) + [finish]
    drawn = [
        Sampled(sequence=0, id=token, log_prob=0.0, finish=reason)
        for token, reason in zip(ids, reasons, strict=True)
    ]
    return Answer("", drawn, TALKER)


def say(conversation: Conversation, question: str) -> str:
    return "".join(conversation.ask(question))


def expected(model: LanguageModel, said: Sequence[str], decoding: Decoding) -> str:
    """What ``generate`` draws after the turns ``said``, the user's first."""
    messages = [
        Message(role=("user", "assistant")[i % 2], content=text) for i, text in enumerate(said)
    ]
    prompt = render_prompt(messages, TALKER).tolist()
    drawn = generate(
        model,
        prompt,
        decoding.max_new_tokens,
        decoding.temperature,
        seed=decoding.seed,
        stop_ids=SPECIAL,
    )
    data = TALKER.decode_bytes([token for token in drawn.ids if token not in SPECIAL])
    return (data if drawn.finish == "stop" else without_begun_character(data)).decode(
        errors="replace"
    )


def without_begun_character(data: bytes) -> bytes:
    for start in range(max(0, len(data) - 3), len(data)):
        try:
            data[start:].decode()
        except UnicodeDecodeError as error:
            if error.start == 0 and error.reason == "unexpected end of data":
                return data[:start]
    return data


@given(texts, st.booleans())
def test_the_pieces_of_a_text_are_whole_characters_and_join_to_it(text, merged):
    ids = TALKER.encode(text).tolist() if merged else list(text.encode())
    pieces = list(answer_of([*ids, END]))
    assert "".join(pieces) == text
    assert all(pieces)
    assert sum("\ufffd" in piece for piece in pieces) <= text.count("\ufffd")


@given(st.lists(st.integers(0, TALKER.vocab_size - 1), max_size=30))
def test_the_pieces_of_any_tokens_join_to_their_text_without_special_tokens(ids):
    answer = answer_of([*ids, END])
    plain = [token for token in ids if token not in SPECIAL]
    assert "".join(answer) == answer.text == TALKER.decode(plain)
    assert answer.finish == "stop"


@given(texts, st.integers(0, 3))
def test_a_character_that_the_limit_cuts_is_left_out(text, missing):
    ids = list((text + "😀").encode())[: -missing or None]
    assert "".join(answer_of(ids, "length")) == (text if missing else text + "😀")


def test_a_piece_comes_as_soon_as_its_character_is_whole():
    drawn = []

    def tokens():
        for token in "aé😀".encode():
            drawn.append(token)
            yield Sampled(sequence=0, id=token, log_prob=0.0, finish=None)

    assert [(piece, len(drawn)) for piece in Answer("", tokens(), TALKER)] == [
        ("a", 1),
        ("é", 3),
        ("😀", 7),
    ]


def test_an_answer_is_what_the_model_generates_after_all_that_was_said(model):
    decoding = Decoding(max_new_tokens=12, temperature=1.0, seed=3)
    conversation = Conversation(model, TALKER, decoding)
    said: list[str] = []
    for question in ("Sort b a.", "And now?"):
        said.append(question)
        answer = say(conversation, question)
        assert answer == expected(model, said, decoding)
        said.append(answer)
    assert [turn.question for turn in conversation.turns] == said[::2]


def test_without_memory_and_after_a_reset_a_question_stands_on_its_own(model):
    decoding = Decoding(max_new_tokens=12)
    alone = expected(model, ["And now?"], decoding)
    forgetful = Conversation(model, TALKER, decoding, remembers=False)
    resetting = Conversation(model, TALKER, decoding)
    for conversation in (forgetful, resetting):
        say(conversation, "Sort b a.")
    resetting.reset()
    assert say(forgetful, "And now?") == say(resetting, "And now?") == alone


def test_the_same_seed_gives_the_same_answer_and_temperature_zero_whatever_the_seed(model):
    def drawn(temperature: float, seed: int) -> str:
        decoding = Decoding(max_new_tokens=20, temperature=temperature, seed=seed)
        return say(Conversation(model, TALKER, decoding), "Sort b a.")

    assert drawn(1.0, 1) == drawn(1.0, 1) != drawn(1.0, 2)
    assert drawn(0.0, 1) == drawn(0.0, 2)


def test_an_answer_ends_where_the_model_ends_its_turn(model):
    found = set()
    for seed in range(40):
        decoding = Decoding(max_new_tokens=60, temperature=3.0, seed=seed)
        answer = Conversation(model, TALKER, decoding).ask("Sort b a.")
        assert "".join(answer) == expected(model, ["Sort b a."], decoding)
        assert "<|" not in answer.text
        found.add(answer.finish)
    assert found == {"stop", "length"}


def test_an_answer_that_is_left_is_remembered_as_far_as_it_came(model):
    decoding = Decoding(max_new_tokens=20, temperature=1.0)
    conversation = Conversation(model, TALKER, decoding)
    answer = conversation.ask("Sort b a.")
    pieces = iter(answer)
    begun = next(pieces) + next(pieces)
    assert (answer.text, answer.finish) == (begun, None)
    again = expected(model, ["Sort b a.", begun, "Go on."], decoding)
    assert say(conversation, "Go on.") == again


def test_the_oldest_turns_are_forgotten_when_the_context_is_full(model):
    decoding = Decoding(max_new_tokens=16, temperature=1.0)
    conversation = Conversation(model, TALKER, decoding)
    said: list[str] = []
    forgotten = 0
    for number in range(12):
        question = f"Question {number}?"
        answer = conversation.ask(question)
        forgotten += answer.num_forgotten
        said.append(question)
        said = said[2 * answer.num_forgotten :]
        assert "".join(answer) == expected(model, said, decoding)
        said.append(answer.text)
        messages = [
            Message(role=("user", "assistant")[i % 2], content=s) for i, s in enumerate(said[:-1])
        ]
        assert len(render_prompt(messages, TALKER)) + decoding.max_new_tokens <= CONTEXT
    assert 0 < forgotten < 12
    assert len(conversation.turns) == 12 - forgotten > 1


def test_a_message_may_be_as_long_as_the_context_has_room_and_no_longer(model):
    conversation = Conversation(model, TALKER, Decoding(max_new_tokens=16))
    say(conversation, "Hello.")
    room = CONTEXT - 16 - TEMPLATE_TOKENS
    longest = next(s for n in range(1000) if len(TALKER.encode(s := "é¤" * n + "1")) >= room)
    while len(TALKER.encode(longest)) > room:
        longest = longest[1:]
    message = f"message must be at most {room} tokens long, .* got {room + 1}$"
    with pytest.raises(Refusal, match=message):
        conversation.ask(longest + "1")
    assert [turn.question for turn in conversation.turns] == ["Hello."]
    assert conversation.ask(longest).num_forgotten == 1


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"max_new_tokens": 0}, "max_new_tokens must be 1 to 91, .* of 96 tokens .* got 0"),
        ({"max_new_tokens": 92}, "max_new_tokens must be 1 to 91, .* of 96 tokens .* got 92"),
        ({"temperature": -0.5}, "temperature must be at least 0, got -0.5"),
        ({"temperature": float("nan")}, "temperature must be at least 0, got nan"),
        ({"seed": -1}, "seed must be at least 0, got -1"),
    ],
)
def test_settings_out_of_range_are_refused(model, changes, message):
    with pytest.raises(Refusal, match=message):
        Conversation(model, TALKER, Decoding(**{"max_new_tokens": 8, **changes}))
    settings = {"max_new_tokens": 91, "temperature": 0.0, "seed": 0}
    assert list(Conversation(model, TALKER, Decoding(**settings)).ask("1"))


def test_a_tokenizer_without_the_tokens_of_a_chat_is_refused(model):
    rule = r"tokenizer must have the special token <\|system\|> to chat"
    with pytest.raises(Refusal, match=rule):
        Conversation(model, TOKENIZER, Decoding(max_new_tokens=8))
