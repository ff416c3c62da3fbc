"""The tokenizer: text to token ids and back, by byte-pair encoding of UTF-8 bytes.

Ids are the 256 bytes, in an order that a vocabulary chooses, then the merges in the order in which
they were learned, then the special tokens. Special tokens are never made from text: ``encode``
reads ``<|endoftext|>`` in a document as the thirteen characters that it is, so no document can
forge one.

Decoding and the table of lengths need numpy alone; what encodes is compiled when it is first used.
"""

import re
from collections.abc import Iterable, Iterator, Sequence
from functools import cached_property
from itertools import pairwise
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from datalake.config import Refusal
from training.tokenizer.encoding.decoder import Decoder
from training.tokenizer.patterns import PATTERNS, check_pattern

if TYPE_CHECKING:
    import pyarrow as pa

    from training.tokenizer.encoding.encoder import Encoder
    from training.tokenizer.encoding.own_pattern import OwnPatternEncoder

END_OF_TEXT = "<|endoftext|>"
FILE = "tokenizer.json"
NUM_BYTES = 256
BLOCK_BYTES = 1 << 24  # of a file, that are encoded at once


class Tokenizer:
    """Encodes and decodes by one list of merges. Immutable; processes may pickle it."""

    def __init__(
        self,
        merges: np.ndarray,
        pattern: str,
        classes: np.ndarray,
        special_tokens: Sequence[str] = (END_OF_TEXT,),
        byte_ids: np.ndarray | None = None,
        chat_template: str | None = None,
    ) -> None:
        """``merges`` int32 ``[merges, 2]``; ``classes`` as ``patterns.character_classes`` makes.

        ``pattern`` is a name or a regular expression of one's own (``patterns.check_pattern``).
        ``byte_ids`` int32 ``[256]`` is the id of each byte, a permutation of 0 .. 255 (GPT-2 begins
        with ``!``); ascending by default. ``chat_template`` is the Jinja that conversations are
        rendered by (``chat_template.ChatTemplate``); None for the default one.
        """
        check_pattern(pattern)
        if len(set(special_tokens)) < len(special_tokens) or "" in special_tokens:
            raise Refusal(f"special_tokens must differ and not be empty, got {special_tokens}")
        self.merges = merges
        self.byte_ids = np.arange(NUM_BYTES, dtype=np.int32) if byte_ids is None else byte_ids
        if not np.array_equal(np.sort(self.byte_ids), np.arange(NUM_BYTES)):
            raise Refusal(f"byte_ids must be the numbers 0 .. 255, got {self.byte_ids.tolist()}")
        self.pattern = pattern
        self.classes = classes
        self.chat_template = chat_template
        first = NUM_BYTES + len(merges)
        self.special_tokens = {name: first + i for i, name in enumerate(special_tokens)}

    def __reduce__(self) -> tuple[Any, ...]:
        how = (self.merges, self.pattern, self.classes, tuple(self.special_tokens))
        return Tokenizer, (*how, self.byte_ids, self.chat_template)

    @property
    def vocab_size(self) -> int:
        return NUM_BYTES + len(self.merges) + len(self.special_tokens)

    @property
    def dtype(self) -> type[np.unsignedinteger]:
        """The smallest of uint16 and uint32 that holds every id."""
        return np.uint16 if self.vocab_size <= 1 << 16 else np.uint32

    @cached_property
    def token_bytes(self) -> list[bytes]:
        """Bytes of every token by id; a special token's are its name."""
        tokens = [bytes([byte]) for byte in np.argsort(self.byte_ids).tolist()]
        for left, right in self.merges.tolist():
            tokens.append(tokens[left] + tokens[right])
        return tokens + [name.encode() for name in self.special_tokens]

    @cached_property
    def bytes_per_token(self) -> np.ndarray:
        """How many bytes of text each token stands for, int64 ``[vocab_size]``; 0 if special."""
        lengths = np.array([len(token) for token in self.token_bytes], np.int64)
        lengths[NUM_BYTES + len(self.merges) :] = 0
        return lengths

    @cached_property
    def _encoder(self) -> "Encoder | OwnPatternEncoder":
        if self.pattern in PATTERNS:
            from training.tokenizer.encoding.encoder import Encoder

            return Encoder(self.merges, self.pattern, self.classes, self.byte_ids, self.dtype)
        from training.tokenizer.encoding.own_pattern import OwnPatternEncoder

        return OwnPatternEncoder(
            self.merges, self.byte_ids, self._ordinary, self.pattern, self.dtype
        )

    @property
    def _ordinary(self) -> list[bytes]:
        """Bytes of the tokens that text is made into."""
        return self.token_bytes[: NUM_BYTES + len(self.merges)]

    @cached_property
    def _decoder(self) -> Decoder:
        return Decoder(self.token_bytes)

    def encode(self, text: str | bytes) -> np.ndarray:
        """Ids of ``text``; what looks like a special token is text.

        Half of a surrogate pair, which a Python string may hold and no bytes are, is encoded as
        U+FFFD; two halves side by side as the character that they are.
        """
        from training.tokenizer.texts import Texts

        return self._encoder.encode(Texts.one(text))[0]

    def encode_with_special(self, text: str) -> np.ndarray:
        """Ids of ``text`` in which the names of special tokens are those tokens.

        For text that we wrote ourselves; a user's text belongs into ``encode``.
        """
        longest_first = sorted(self.special_tokens, key=len, reverse=True)
        names = "|".join(map(re.escape, longest_first))
        pieces = re.split(f"({names})", text) if names else [text]  # text, name, text, ...
        ids, offsets = self.encode_batch(pieces[::2])
        parts = [ids[a:b] for a, b in pairwise(offsets)]
        for i, name in enumerate(pieces[1::2]):
            parts.insert(2 * i + 1, np.array([self.special_tokens[name]], self.dtype))
        return np.concatenate(parts)

    def encode_batch(
        self,
        texts: "pa.Array | pa.ChunkedArray | Sequence[str | bytes]",
        num_threads: int | None = None,
    ) -> tuple[np.ndarray, np.ndarray]:
        """Ids of all texts end to end (``dtype``), and where each begins, int64 ``[texts + 1]``.

        An Arrow column is read where it lies. Threads (all cores by default) share the work.
        Raises Refusal where a text is null.
        """
        from training.tokenizer.texts import Texts

        return self._encoder.encode(Texts.of(texts), num_threads)

    def encode_file(
        self, path: str | Path, num_threads: int | None = None, block_bytes: int = BLOCK_BYTES
    ) -> Iterator[np.ndarray]:
        """Ids (``dtype``) of a file's bytes, in parts; end to end they are those of the whole.

        The file is read in blocks of about ``block_bytes``, cut where no pre-token is; a block
        grows where there is no such place. By a regular expression of one's own no cut is known to
        be safe: the file is read as a whole. Raises Refusal where it is then longer than
        ``own_pattern.LONGEST_FILE`` bytes.
        """
        return self._encoder.encode_file(Path(path), num_threads, block_bytes)

    def decode_bytes(self, ids: Iterable[int] | np.ndarray) -> bytes:
        """The bytes that ``ids`` stand for. Raises Refusal for an id outside the vocabulary."""
        return self._decoder.bytes_of(ids)

    def decode(self, ids: Iterable[int] | np.ndarray) -> str:
        """The text that ``ids`` stand for; bytes that are no UTF-8 become U+FFFD."""
        return self.decode_bytes(ids).decode(errors="replace")

    def decode_batch(self, ids: np.ndarray, offsets: np.ndarray) -> list[str]:
        """The text of each ``ids[offsets[i]:offsets[i + 1]]``: what ``encode_batch`` gave back."""
        data = self.decode_bytes(ids)
        places = self._decoder.offsets(ids)[offsets].tolist()
        return [data[a:b].decode(errors="replace") for a, b in pairwise(places)]

    def save(self, folder: str | Path) -> None:
        """Write the files of ``interchange``: equal tokenizers make equal bytes."""
        from training.tokenizer import interchange

        interchange.save(self, folder)

    @classmethod
    def load(cls, folder: str | Path) -> "Tokenizer":
        """The tokenizer in ``folder``. Raises Refusal where there is none, or it is damaged."""
        from training.tokenizer import interchange

        return interchange.load(folder)
