"""A tokenizer in words, for a person who wonders what is in a folder."""

from collections.abc import Iterator

from training.tokenizer.bpe import Tokenizer

EXAMPLE = "Hello, world! Naïve façades cost 12,345.67 €.\n\tdef f(x): return x  # 日本語 😀"
_NUM_LONGEST = 8


def lines(tokenizer: Tokenizer) -> Iterator[tuple[str, str]]:
    """What is to be said, each with its name: size, pattern, special tokens, and how text is cut.

    The example's tokens are quoted, one after the other; bytes that are no text stand as escapes.
    """
    num_special = len(tokenizer.special_tokens)
    yield (
        "tokens",
        f"{tokenizer.vocab_size:,}: 256 bytes, {len(tokenizer.merges):,} merges, "
        f"{num_special} special ({tokenizer.dtype.__name__})",
    )
    yield "pattern", tokenizer.pattern
    special = (f"{name} {number}" for name, number in tokenizer.special_tokens.items())
    yield "special", ", ".join(special) or "none"
    yield "template", "none" if tokenizer.chat_template is None else repr(tokenizer.chat_template)
    ordinary = tokenizer.token_bytes[: tokenizer.vocab_size - num_special]
    longest = sorted(ordinary, key=lambda token: (-len(token), token))[:_NUM_LONGEST]
    yield "longest", "  ".join(map(_quoted, longest))
    ids = tokenizer.encode(EXAMPLE).tolist()
    yield "example", "  ".join(_quoted(tokenizer.token_bytes[number]) for number in ids)
    size = len(EXAMPLE.encode())
    yield "", f"{len(ids)} tokens of {size} bytes, {size / len(ids):.2f} bytes a token"


def _quoted(token: bytes) -> str:
    try:
        return repr(token.decode())
    except UnicodeDecodeError:
        return repr(token)
