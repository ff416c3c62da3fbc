"""Byte-pair encoding as Hugging Face's ``tokenizers`` trains it."""

from typing import Any

import tokenizers

from tests.training.tokenizer.naive import Pair


def trained(texts: list[str], pattern: str, num_merges: int) -> Any:
    """Their tokenizer of 256 bytes and ``num_merges`` merges, no special tokens."""
    model = tokenizers.Tokenizer(tokenizers.models.BPE())
    cut = tokenizers.pre_tokenizers.Split(tokenizers.Regex(pattern), "isolated")
    level = tokenizers.pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False)
    model.pre_tokenizer = tokenizers.pre_tokenizers.Sequence([cut, level])
    trainer = tokenizers.trainers.BpeTrainer(
        vocab_size=256 + num_merges,
        show_progress=False,
        initial_alphabet=tokenizers.pre_tokenizers.ByteLevel.alphabet(),
    )
    model.train_from_iterator(texts, trainer)
    return model


def train(texts: list[str], pattern: str, num_merges: int) -> list[Pair]:
    """Their merges, in the order in which they were learned."""
    import json

    merges = json.loads(trained(texts, pattern, num_merges).to_str())["model"]["merges"]
    return [(_bytes(left), _bytes(right)) for left, right in merges]


def _bytes(visible: str) -> bytes:
    return bytes(_BYTES[character] for character in visible)


def _visible() -> dict[str, int]:
    """GPT-2's characters for bytes: printable ones are themselves, others come from U+0100 on."""
    printable = [*range(0x21, 0x7F), *range(0xA1, 0xAD), *range(0xAE, 0x100)]
    others = [byte for byte in range(256) if byte not in printable]
    return {chr(byte): byte for byte in printable} | {
        chr(256 + i): byte for i, byte in enumerate(others)
    }


_BYTES = _visible()
