"""Encoding by a regular expression of one's own: tiktoken, built from our merges.

tiktoken knows tokens by their bytes and merges the two neighbours whose bytes together come first
in the vocabulary; we merge the pair that a merge names. For the merges of byte-pair training the
two are the same. Of each token say that it is reached when encoding its own bytes gives the token.
Training learns a merge where the pair stands in a text after all merges before it, and what is done
within a stretch of text that no merge has left or entered does not depend on what surrounds it: so
every token is reached, no two tokens have the same bytes, and wherever two neighbours together have
the bytes of a token, they are the pair that made it. Merges of which a token is not reached (made
up, or cut out of a longer list) are refused here.

tiktoken also drops, without a word, what its expression does not match. That is refused, too.
"""

import os
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import tiktoken

from datalake.config import Refusal
from training.tokenizer.encoding.merging import MergeTable
from training.tokenizer.patterns import decoded, left_out
from training.tokenizer.texts import Texts

LONGEST_FILE = 1 << 28  # bytes; tiktoken holds several copies of what it encodes


class OwnPatternEncoder:
    """Encodes texts by one list of merges and a regular expression. Threads may share it."""

    def __init__(
        self,
        merges: np.ndarray,
        byte_ids: np.ndarray,
        tokens: list[bytes],
        pattern: str,
        dtype: type[np.unsignedinteger],
    ) -> None:
        """``tokens`` are the bytes of each id: of the 256 bytes and of what merges make."""
        wrong = MergeTable.of(merges, byte_ids).unreached
        if wrong is not None:
            raise Refusal(
                "merges must make every token out of its own bytes where the pattern is one's own, "
                f"got token {wrong}, {tokens[wrong]!r}, of whose bytes they make something else"
            )
        try:
            self._encoding = tiktoken.Encoding(
                "own",
                pat_str=pattern,
                mergeable_ranks={token: number for number, token in enumerate(tokens)},
                special_tokens={},
            )
        except ValueError as error:
            raise Refusal(
                f"pattern must be one that tiktoken reads, too, got {pattern!r}: {error}"
            ) from None
        self._pattern = pattern
        self._tokens = tokens
        self._sizes = np.array([len(token) for token in tokens], np.int64)
        self._dtype = dtype

    def encode(self, texts: Texts, num_threads: int | None = None) -> tuple[np.ndarray, np.ndarray]:
        """Ids of all texts, and where each begins, int64 ``[texts + 1]``.

        Raises Refusal where a text is no UTF-8, or has a character that the pattern leaves out.
        """
        with ThreadPoolExecutor(num_threads or os.cpu_count()) as pool:
            parts = list(pool.map(lambda i: self._encode(texts, i), range(len(texts))))
        offsets = np.append(0, np.cumsum([len(part) for part in parts], dtype=np.int64))
        return np.concatenate([*parts, np.empty(0, self._dtype)]), offsets

    def encode_file(
        self, path: Path, num_threads: int | None, block_bytes: int
    ) -> Iterator[np.ndarray]:
        """Ids of a file, as one part: no cut is known to be safe."""
        size = path.stat().st_size
        if size > LONGEST_FILE:
            raise Refusal(
                f"{path} must be at most {LONGEST_FILE} bytes long where the pattern is one's own, "
                f"got {size}"
            )
        yield self.encode(Texts.one(path.read_bytes()), num_threads)[0]

    def _encode(self, texts: Texts, number: int) -> np.ndarray:
        data = texts.data[texts.offsets[number] : texts.offsets[number + 1]].tobytes()
        text = decoded(data, number)
        ids = self._encoding.encode_to_numpy(text, disallowed_special=())
        if self._sizes[ids].sum() < len(data):
            raise left_out(self._pattern, text, number)
        return ids.astype(self._dtype)
