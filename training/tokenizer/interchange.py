"""A tokenizer as one folder that other systems read too.

======================  =========================================================================
``tokenizer.json``      vocabulary, merges, pattern and special tokens as Hugging Face's
                        ``tokenizers`` writes them: bytes as the printable characters of GPT-2
                        (Radford et al. 2019), the pattern as a ``Split`` before ``ByteLevel``
``tokenizer_config.json``, what ``transformers`` asks for besides; the chat template is in both
``chat_template.jinja``
``ranks.tiktoken``      the tokens in order, as tiktoken's published vocabularies are written
``tarn.json``           what is ours alone: the pattern's name, and the class of every character
======================  =========================================================================

Ours is read back from the first, the third and the last. The ids are the same everywhere, with one
difference that is meant: Hugging Face's reads the name of a special token in any text as that
token, unless ``encode_special_tokens`` is set (in ``transformers``: ``split_special_tokens``); ours
never does.

All three systems find tokens by their bytes, so no two may be of the same. Learned merges never
make such a pair: what a run of bytes is merged into, as long as nothing crosses its ends, depends
on the bytes alone. A list that was made by hand may, and is refused.
"""

import base64
import binascii
import json
import re
from collections.abc import Mapping, Sequence
from functools import cache
from itertools import pairwise
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from datalake.config import Refusal
from training.tokenizer.bpe import END_OF_TEXT, FILE, NUM_BYTES, Tokenizer
from training.tokenizer.patterns import (
    NUM_CHARACTERS,
    PATTERNS,
    character_classes,
    check_pattern,
    class_runs,
    classes_from_runs,
)

if TYPE_CHECKING:
    import tiktoken

OWN_FILE = "tarn.json"
RANKS_FILE = "ranks.tiktoken"
CONFIG_FILE = "tokenizer_config.json"
TEMPLATE_FILE = "chat_template.jinja"

# What others write for the same cuts as the pattern of that name.
_SPELLINGS = {expression: name for name, expression in PATTERNS.items()} | {
    r"'s|'t|'re|'ve|'m|'ll|'d| ?\p{L}+| ?\p{N}+| ?[^\s\p{L}\p{N}]+|\s+(?!\S)|\s+": "gpt2",
    r"'(?:[sdmt]|ll|ve|re)| ?\p{L}+| ?\p{N}+| ?[^\s\p{L}\p{N}]+|\s+(?!\S)|\s+": "gpt2",
    (
        r"[^\r\n\p{L}\p{N}]?[\p{Lu}\p{Lt}\p{Lm}\p{Lo}\p{M}]*[\p{Ll}\p{Lm}\p{Lo}\p{M}]+"
        r"(?i:'s|'t|'re|'ve|'m|'ll|'d)?"
        r"|[^\r\n\p{L}\p{N}]?[\p{Lu}\p{Lt}\p{Lm}\p{Lo}\p{M}]+[\p{Ll}\p{Lm}\p{Lo}\p{M}]*"
        r"(?i:'s|'t|'re|'ve|'m|'ll|'d)?"
        r"|\p{N}{1,3}| ?[^\s\p{L}\p{N}]+[\r\n/]*|\s*[\r\n]+|\s+(?!\S)|\s+"
    ): "o200k",
}

# Settings of Hugging Face's model that change no id where they have these values.
_MODEL = {
    "type": "BPE",
    "dropout": None,
    "unk_token": None,
    "continuing_subword_prefix": None,
    "end_of_word_suffix": None,
    "fuse_unk": False,
    "byte_fallback": False,
    "ignore_merges": False,
}
_EMPTY = {"continuing_subword_prefix": "", "end_of_word_suffix": ""}  # written for None as well
_ADDED = {"single_word": False, "lstrip": False, "rstrip": False, "normalized": False}


def save(tokenizer: Tokenizer, folder: str | Path) -> None:
    """Write the folder's files; equal tokenizers make equal bytes.

    ``tokenizer.json`` comes last, so that a folder that holds it is whole. Raises Refusal, and
    writes nothing, for a tokenizer that the others cannot hold.
    """
    files = {
        OWN_FILE: _own_text(tokenizer),
        RANKS_FILE: _ranks_text(tokenizer),
        CONFIG_FILE: _json_text(_config(tokenizer)),
    }
    if tokenizer.chat_template is not None:
        files[TEMPLATE_FILE] = tokenizer.chat_template
    files[FILE] = _json_text(_hugging_face(tokenizer))
    folder = Path(folder)
    for name in (FILE, TEMPLATE_FILE):
        (folder / name).unlink(missing_ok=True)
    for name, text in files.items():
        draft = folder / f".{name}"
        draft.write_bytes(text.encode())
        draft.replace(folder / name)


def load(folder: str | Path) -> Tokenizer:
    """The tokenizer in ``folder``, ours or one of Hugging Face's that cuts and merges as ours do.

    Raises Refusal where there is none, where a file is damaged, and where it does what ours do not.
    """
    folder = Path(folder)
    path = folder / FILE
    if not path.is_file():
        raise Refusal(f"{folder} must hold {FILE}, got nothing there")
    fields = _object(path, _parsed(path))
    vocabulary = _vocabulary(path, fields)
    pattern = _pattern(path, fields)
    if (folder / OWN_FILE).is_file():
        name, classes = _own(folder / OWN_FILE)
        if check_pattern(name) != check_pattern(pattern):
            raise Refusal(
                f"{folder / OWN_FILE} must name the pattern of {FILE}, {pattern!r}, got {name!r}"
            )
        pattern = name
    else:
        classes = _present_classes()
    return vocabulary.tokenizer(pattern, classes, _template(folder))


def from_gpt2_files(
    vocab_file: str | Path,
    merges_file: str | Path,
    pattern: str = "gpt2",
    special_tokens: Sequence[str] = (END_OF_TEXT,),
) -> Tokenizer:
    """The tokenizer of a ``vocab.json`` (``encoder.json``) and a ``merges.txt`` (``vocab.bpe``).

    These are the files that GPT-2 was published with (Radford et al. 2019); the ids are the
    published ones. Raises Refusal where the files do not belong together.
    """
    path, merges_path = Path(vocab_file), Path(merges_file)
    ids = dict(_object(path, _parsed(path)))
    lines = _text(merges_path).split("\n")
    if lines[0].startswith("#version"):
        lines = lines[1:]
    names = [name for name in special_tokens if name in ids]
    special = {name: ids.pop(name) for name in names}
    for name in special_tokens:
        special.setdefault(name, len(ids) + len(special))
    vocabulary = _Vocabulary(
        path, ids, _merge_pairs(merges_path, [line for line in lines if line]), special
    )
    return vocabulary.tokenizer(pattern, _present_classes(), None)


def from_tiktoken_ranks(
    file: str | Path, pattern: str, special_tokens: Sequence[str] = (END_OF_TEXT,)
) -> Tokenizer:
    """The tokenizer of a file of ranks, as those of ``cl100k_base`` and ``o200k_base``.

    The file does not say which two tokens a token was merged from: they are what its bytes come to
    by the merges before it. ``special_tokens`` have the ids after the ranks, in their order.
    Raises Refusal for ranks that no merges make.
    """
    path = Path(file)
    tokens: list[bytes] = []
    for number, line in enumerate(_text(path).splitlines()):
        token, _, rank = line.partition(" ")
        try:
            tokens.append(base64.b64decode(token, validate=True))
        except binascii.Error:
            raise Refusal(
                f"{path} must have a token in base64 in line {number + 1}, got {line!r}"
            ) from None
        if rank != str(number):
            raise Refusal(f"{path} must have rank {number} in line {number + 1}, got {line!r}")
    if sorted(tokens[:NUM_BYTES]) != [bytes([byte]) for byte in range(NUM_BYTES)]:
        raise Refusal(f"{path} must begin with the {NUM_BYTES} single bytes, got others")
    merges = _merges_of_ranks(path, tokens)
    byte_ids = np.empty(NUM_BYTES, np.int32)
    byte_ids[[token[0] for token in tokens[:NUM_BYTES]]] = np.arange(NUM_BYTES)
    return Tokenizer(merges, pattern, _present_classes(), special_tokens, byte_ids)


def tiktoken_encoding(tokenizer: Tokenizer) -> "tiktoken.Encoding":
    """The same tokenizer as tiktoken's own kind of object."""
    import tiktoken

    return tiktoken.Encoding(
        "tarn",
        pat_str=check_pattern(tokenizer.pattern),
        mergeable_ranks={token: rank for rank, token in enumerate(_ordinary(tokenizer))},
        special_tokens=tokenizer.special_tokens,
    )


@cache
def byte_characters() -> tuple[str, ...]:
    """The printable character that stands for each byte in GPT-2's files.

    Bytes that are printable in Latin-1 stand for themselves, the others, in their order, for the
    characters from U+0100 on.
    """
    printable = [*range(0x21, 0x7F), *range(0xA1, 0xAD), *range(0xAE, 0x100)]
    others = [byte for byte in range(NUM_BYTES) if byte not in printable]
    spelled = {byte: chr(byte) for byte in printable}
    spelled |= {byte: chr(NUM_BYTES + number) for number, byte in enumerate(others)}
    return tuple(spelled[byte] for byte in range(NUM_BYTES))


@cache
def _character_bytes() -> dict[str, int]:
    return {character: byte for byte, character in enumerate(byte_characters())}


@cache
def _present_classes() -> np.ndarray:
    return character_classes()[0]


def _spelled(token: bytes) -> str:
    return token.decode("latin-1").translate(_SPELLED)


_SPELLED = dict(enumerate(byte_characters()))


# What is written


def _ordinary(tokenizer: Tokenizer) -> list[bytes]:
    """Bytes of all tokens but the special ones. Raises Refusal where two have the same."""
    tokens = tokenizer.token_bytes[: NUM_BYTES + len(tokenizer.merges)]
    if len(set(tokens)) < len(tokens):
        seen: set[bytes] = set()
        twice = next(token for token in tokens if token in seen or seen.add(token))  # type: ignore[func-returns-value]
        raise Refusal(f"tokens must differ for others to read them, got {twice!r} twice")
    return tokens


def _ranks_text(tokenizer: Tokenizer) -> str:
    return "".join(
        f"{base64.b64encode(token).decode()} {rank}\n"
        for rank, token in enumerate(_ordinary(tokenizer))
    )


def _own_text(tokenizer: Tokenizer) -> str:
    runs = json.dumps(class_runs(tokenizer.classes), separators=(",", ":"))
    return f'{{\n"pattern": {json.dumps(tokenizer.pattern)},\n"character_class_runs": {runs}\n}}\n'


def _config(tokenizer: Tokenizer) -> dict[str, Any]:
    fields: dict[str, Any] = {
        "tokenizer_class": "PreTrainedTokenizerFast",
        "clean_up_tokenization_spaces": False,
    }
    if END_OF_TEXT in tokenizer.special_tokens:
        fields |= {"bos_token": END_OF_TEXT, "eos_token": END_OF_TEXT}
    if tokenizer.chat_template is not None:
        fields["chat_template"] = tokenizer.chat_template
    return fields


def _hugging_face(tokenizer: Tokenizer) -> dict[str, Any]:
    spelled = [_spelled(token) for token in _ordinary(tokenizer)]
    vocab = {token: number for number, token in enumerate(spelled)}
    expression = check_pattern(tokenizer.pattern)
    _refuse_possessive("pattern", expression)
    for name in tokenizer.special_tokens:
        if name in vocab:
            raise Refusal(
                f"special_tokens must not be spelled as other tokens, got {name!r}, which is "
                f"token {vocab[name]} as well"
            )
    return {
        "version": "1.0",
        "truncation": None,
        "padding": None,
        "added_tokens": [
            {"id": number, "content": name, **_ADDED, "special": True}
            for name, number in tokenizer.special_tokens.items()
        ],
        "normalizer": None,
        "pre_tokenizer": {
            "type": "Sequence",
            "pretokenizers": [
                {
                    "type": "Split",
                    "pattern": {"Regex": expression},
                    "behavior": "Isolated",
                    "invert": False,
                },
                _byte_level(use_regex=False),
            ],
        },
        "post_processor": None,
        "decoder": _byte_level(use_regex=True),
        "model": {
            **_MODEL,
            "vocab": vocab,
            "merges": [f"{spelled[a]} {spelled[b]}" for a, b in tokenizer.merges.tolist()],
        },
    }


def _byte_level(use_regex: bool) -> dict[str, Any]:
    return {
        "type": "ByteLevel",
        "add_prefix_space": False,
        "trim_offsets": True,
        "use_regex": use_regex,
    }


def _refuse_possessive(what: str, expression: str) -> None:
    """Oniguruma, which Hugging Face's cuts with, reads ``{1,3}+`` as one or more of ``{1,3}``."""
    if re.search(r"\{\d*,?\d*\}\+", expression):
        raise Refusal(
            f"{what} must have no quantifier like {{1,3}}+, which engines read in two ways, got "
            f"{expression!r}"
        )


def _json_text(fields: Mapping[str, Any]) -> str:
    return json.dumps(fields, ensure_ascii=False, indent=1) + "\n"


# What is read


class _Vocabulary:
    """Ids and merges by name, as a file has them; ``tokenizer`` puts them in our order."""

    def __init__(
        self,
        path: Path,
        ids: Mapping[str, int],
        merges: Sequence[tuple[str, str]],
        special: Mapping[str, int],
    ) -> None:
        """Raises Refusal unless ids are the bytes, the merges in order, then special tokens."""
        for token, number in [*ids.items(), *special.items()]:
            if type(number) is not int:
                raise Refusal(f"{path} must give every token a number, got {token!r}: {number!r}")
        missing = [byte for byte in byte_characters() if byte not in ids]
        if missing:
            raise Refusal(f"{path} must have a token for every byte, got none for {missing[0]!r}")
        self._byte_ids = np.array([ids[byte] for byte in byte_characters()])
        if not np.array_equal(np.sort(self._byte_ids), np.arange(NUM_BYTES)):
            raise Refusal(
                f"{path} must give the bytes the ids 0 .. {NUM_BYTES - 1}, got "
                f"{self._byte_ids.max()} for one of them"
            )
        self._merges = np.empty((len(merges), 2), np.int32)
        for number, (left, right) in enumerate(merges):
            place = NUM_BYTES + number
            for token in (left, right):
                if ids.get(token, place) >= place:
                    raise Refusal(
                        f"{path} must know the tokens of merge {number} before it, got {token!r}"
                    )
            if ids.get(left + right) != place:
                raise Refusal(
                    f"{path} must give what merge {number} makes, {left + right!r}, the id "
                    f"{place}, got {ids.get(left + right)}"
                )
            self._merges[number] = ids[left], ids[right]
        if len(ids) != NUM_BYTES + len(merges):
            made = {left + right for left, right in merges} | set(byte_characters())
            stray = next(token for token in ids if token not in made)
            raise Refusal(
                f"{path} must have tokens that are bytes or made by a merge, got {stray!r}"
            )
        by_id = sorted(special, key=special.__getitem__)
        wanted = list(range(len(ids), len(ids) + len(special)))
        if [special[name] for name in by_id] != wanted:
            raise Refusal(
                f"{path} must give the special tokens the ids after all others, from {len(ids)} "
                f"on, got {', '.join(f'{name} {special[name]}' for name in by_id)}"
            )
        self._names = by_id

    def tokenizer(self, pattern: str, classes: np.ndarray, template: str | None) -> Tokenizer:
        return Tokenizer(
            self._merges,
            pattern,
            classes,
            self._names,
            self._byte_ids.astype(np.int32),
            chat_template=template,
        )


def _vocabulary(path: Path, fields: Mapping[str, Any]) -> _Vocabulary:
    """The vocabulary of a ``tokenizer.json``, if it merges bytes and nothing else."""
    model = fields.get("model")
    if not isinstance(model, dict) or model.get("type", "BPE") != "BPE":
        kind = model.get("type") if isinstance(model, dict) else model
        raise Refusal(f"{path} must have a model of type BPE, got {kind!r}")
    for name, wanted in _MODEL.items():
        found = model.get(name, wanted)
        if found != wanted and found != _EMPTY.get(name, wanted):
            raise Refusal(f"{path} must have {name} {wanted!r} in its model, got {found!r}")
    for name in ("normalizer", "truncation", "padding"):
        if fields.get(name) is not None:
            raise Refusal(f"{path} must have no {name}, got {_kind(fields[name])}")
    post = fields.get("post_processor")
    if post is not None and _kind(post) != "ByteLevel":  # that one changes offsets alone
        raise Refusal(f"{path} must have no post_processor that adds tokens, got {_kind(post)}")
    if _kind(fields.get("decoder")) != "ByteLevel":
        raise Refusal(f"{path} must have the decoder ByteLevel, got {_kind(fields.get('decoder'))}")
    try:
        ids = dict(model["vocab"].items())
        special = {}
        for token in fields.get("added_tokens", []):
            loose = [name for name, wanted in _ADDED.items() if token.get(name, wanted) != wanted]
            if loose == ["normalized"]:  # without a normalizer it decides nothing
                loose = []
            if loose or not token["special"]:
                raise Refusal(
                    f"{path} must have added tokens that are special and stand alone, got "
                    f"{token['content']!r} with {', '.join(loose) or 'special false'}"
                )
            special[str(token["content"])] = token["id"]
        merges = _merge_pairs(path, model["merges"])
    except (KeyError, TypeError, ValueError, AttributeError) as error:
        raise Refusal(
            f"{path} must have vocab, merges and added_tokens as Hugging Face writes them, got "
            f"{type(error).__name__}: {error}"
        ) from None
    for name in special:
        ids.pop(name, None)
    return _Vocabulary(path, ids, merges, special)


def _merge_pairs(path: Path, merges: Sequence[Any]) -> list[tuple[str, str]]:
    """Merges as pairs; a file has them as pairs, or as two tokens with a space between."""
    pairs = []
    for number, merge in enumerate(merges):
        parts = merge.split(" ") if isinstance(merge, str) else merge
        if len(parts) != 2 or not all(isinstance(part, str) for part in parts):
            raise Refusal(f"{path} must have two tokens in merge {number}, got {merge!r}")
        pairs.append((parts[0], parts[1]))
    return pairs


def _pattern(path: Path, fields: Mapping[str, Any]) -> str:
    """Name of the pattern that a ``tokenizer.json`` cuts by, or the expression itself."""
    found = fields.get("pre_tokenizer")
    steps = found.get("pretokenizers", [found]) if isinstance(found, dict) else [found]
    *splits, level = [step if isinstance(step, dict) else {"type": step} for step in steps]
    rule = f"{path} must cut by one regular expression and read bytes"
    if level.get("type") != "ByteLevel" or level.get("add_prefix_space", True):
        space = ", with add_prefix_space" if level.get("type") == "ByteLevel" else ""
        raise Refusal(f"{rule}, got the pre_tokenizer {level.get('type')}{space}")
    if not splits:
        if not level.get("use_regex", True):
            raise Refusal(f"{rule}, got a pre_tokenizer that does not cut at all")
        return "gpt2"
    split = splits[0]
    isolates = split.get("behavior") == "Isolated" and not split.get("invert")
    sought = split.get("pattern")
    expression = sought.get("Regex") if isolates and isinstance(sought, dict) else None
    if len(splits) > 1 or expression is None or level.get("use_regex", True):
        raise Refusal(f"{rule}, got the pre_tokenizers {', '.join(map(_kind, steps))}")
    if expression in _SPELLINGS:
        return _SPELLINGS[expression]
    _refuse_possessive(f"the pattern of {path}", expression)
    check_pattern(expression)
    return str(expression)


def _kind(step: Any) -> str:
    return str(step.get("type")) if isinstance(step, dict) else repr(step)


def _own(path: Path) -> tuple[str, np.ndarray]:
    """Name of the pattern, and the table of character classes."""
    fields = _object(path, _parsed(path))
    try:
        classes = classes_from_runs(fields["character_class_runs"])
        pattern = fields["pattern"]
        whole = len(classes) == NUM_CHARACTERS and isinstance(pattern, str)
    except (KeyError, TypeError, ValueError, IndexError):
        whole = False
    if not whole:
        raise Refusal(
            f"{path} must have a pattern and the runs of all characters' classes, got others; "
            "write the tokenizer again"
        )
    return pattern, classes


def _template(folder: Path) -> str | None:
    """The chat template: its own file, or else, as older versions wrote it, in the config."""
    path = folder / TEMPLATE_FILE
    if path.is_file():
        return _text(path)
    config = folder / CONFIG_FILE
    if not config.is_file():
        return None
    found = _object(config, _parsed(config)).get("chat_template")
    if found is not None and not isinstance(found, str):
        raise Refusal(f"{config} must have one chat_template, got {type(found).__name__}")
    return found


def _object(path: Path, fields: Any) -> dict[str, Any]:
    if not isinstance(fields, dict):
        raise Refusal(f"{path} must be one JSON object, got {type(fields).__name__}")
    return fields


def _parsed(path: Path) -> Any:
    try:
        return json.loads(_text(path))
    except json.JSONDecodeError as error:
        raise Refusal(f"{path} must be JSON, got {error}") from None


def _text(path: Path) -> str:
    try:
        return path.read_bytes().decode()
    except UnicodeDecodeError as error:
        raise Refusal(f"{path} must be UTF-8, got {error.reason} at {error.start}") from None
    except OSError as error:
        raise Refusal(f"{path} must be a file to read, got {error.strerror}") from None


def _merges_of_ranks(path: Path, tokens: Sequence[bytes]) -> np.ndarray:
    """The two tokens that each token is merged from, int32 ``[merges, 2]``."""
    ranks = {token: rank for rank, token in enumerate(tokens)}
    if len(ranks) < len(tokens):
        raise Refusal(f"{path} must have every token once, got one twice")
    merges = np.empty((len(tokens) - NUM_BYTES, 2), np.int32)
    for rank in range(NUM_BYTES, len(tokens)):
        parts = _merged(tokens[rank], ranks, rank)
        if len(parts) != 2:
            raise Refusal(
                f"{path} must have ranks that merges make, got {tokens[rank]!r} of rank {rank}, "
                f"which comes to {len(parts)} tokens before it"
            )
        merges[rank - NUM_BYTES] = ranks[parts[0]], ranks[parts[1]]
    return merges


def _merged(word: bytes, ranks: Mapping[bytes, int], end: int) -> list[bytes]:
    """``word`` by the merges of ranks below ``end``, lowest first."""
    parts = [word[i : i + 1] for i in range(len(word))]
    while len(parts) > 2:
        found = [ranks.get(a + b, end) for a, b in pairwise(parts)]
        lowest = min(found)
        if lowest >= end:
            break
        place = found.index(lowest)
        parts[place : place + 2] = [parts[place] + parts[place + 1]]
    return parts
