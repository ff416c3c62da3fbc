"""Pre-tokens of UTF-8 text, found by compiled code that steps over the bytes once.

``piece_end`` says where the pre-token ends that begins at a byte, with the choices that the
regular expressions of ``training.tokenizer.patterns`` make: alternatives in order, greedy, and back
one step where a look-ahead asks for it. Bytes that are no UTF-8 count as characters of no class, so
that any bytes are cut into pieces, and the pieces are always the whole.

``ascii_piece_size`` says the same of a short piece of ASCII, as most are, from sixteen bytes at
once. The classes of ASCII are the same in every Unicode, so it knows them without a table.
"""

# mypy: disallow_untyped_defs=False

from itertools import pairwise

import numpy as np

from training.compiled import compiled, inlined
from training.tokenizer.patterns import LETTER, LOWER, MARK, NEWLINE, NUMBER, OTHER, SPACE, UPPER
from training.tokenizer.scanning.window import SIZE, leading_zeros, trailing_zeros, window_classes
from training.tokenizer.texts import frozen

GPT2, CL100K, CL100K_DIGITS, O200K = range(4)
RULES = {"gpt2": GPT2, "cl100k": CL100K, "cl100k_digits": CL100K_DIGITS, "o200k": O200K}

LETTERS = UPPER | LOWER | LETTER
UPPERS = UPPER | LETTER | MARK  # what o200k lets a word begin with
LOWERS = LOWER | LETTER | MARK  # and end with
SYMBOLS = OTHER | MARK
SPACES = SPACE | NEWLINE
APOSTROPHE = 0x27

_ASCII = 0x80
_ONE = np.uint64(1)
_WHOLE = np.uint64((1 << SIZE) - 1)


def scan_table(classes: np.ndarray) -> np.ndarray:
    """``classes`` laid out for the scanner: 128 ASCII bytes, 128 zeros, then the other characters.

    A byte looks up its class at once; zero says that it is part of a longer character, whose class
    is at its code point + 128.
    """
    return frozen(np.concatenate([classes[:_ASCII], np.zeros(_ASCII, np.uint8), classes[_ASCII:]]))


@compiled
def _long_character(data, at, end, table):
    """Class of the character at ``at``, which is not ASCII, and where it ends."""
    first = np.int64(data[at])
    size = 2 if first < 0xE0 else 3 if first < 0xF0 else 4
    if first < 0xC2 or first > 0xF4 or at + size > end:
        return np.int64(OTHER), at + 1
    code = first & (0xFF >> (size + 1))
    for i in range(at + 1, at + size):
        byte = np.int64(data[i])
        if byte & 0xC0 != 0x80:
            return np.int64(OTHER), at + 1
        code = code << 6 | byte & 0x3F
    if code + _ASCII >= len(table):
        return np.int64(OTHER), at + 1
    kind = np.int64(table[code + _ASCII])
    return (kind, at + size) if kind else (np.int64(OTHER), at + 1)  # zero: more bytes than needed


@inlined
def character(data, at, end, table):
    """Class of the character at ``at``, and where it ends."""
    kind, after = np.int64(table[data[at]]), at + 1
    if kind == 0:
        kind, after = _long_character(data, at, end, table)
    return kind, after


@inlined
def _skip(data, at, end, table, mask):
    """End of the longest run of characters of ``mask`` that begins at ``at``."""
    while at < end:
        kind, after = character(data, at, end, table)
        if kind & mask == 0:
            break
        at = after
    return at


@compiled
def _contraction_end(data, at, end, any_case):
    """End of an English contraction such as ``'ll`` at ``at``, or ``at`` where there is none."""
    if end - at < 2 or data[at] != APOSTROPHE:
        return at
    fold = np.int64(0x20) if any_case else np.int64(0)  # the bit between A and a
    first = np.int64(data[at + 1]) | fold
    if first == 0x73 or first == 0x64 or first == 0x6D or first == 0x74:  # s d m t
        return at + 2
    if end - at < 3:
        return at
    second = np.int64(data[at + 2]) | fold
    if first == 0x6C and second == 0x6C:  # ll
        return at + 3
    if (first == 0x76 or first == 0x72) and second == 0x65:  # ve re
        return at + 3
    if any_case and data[at + 1] == 0xC5 and data[at + 2] == 0xBF:  # U+017F is a lower-case s
        return at + 3
    return at


@inlined
def _cased_end(data, at, end, table):
    """End of o200k's ``upper* lower+`` at ``at``, or ``at``: of camelCase it is camel."""
    both = at  # end of the last caseless character, to which upper* steps back if it must
    while at < end:
        kind, after = character(data, at, end, table)
        if kind & UPPERS == 0:
            if kind & LOWERS:
                both = _skip(data, after, end, table, LOWERS)
            break
        at = after
        if kind & LOWERS:
            both = after
    return both


@inlined
def _cased_word_end(data, at, end, table, kind, after):
    """End of o200k's word at ``at``, with its one character before and its contraction."""
    prefixed = kind & (LETTERS | NUMBER | NEWLINE) == 0
    stop = _cased_end(data, after if prefixed else at, end, table)
    if prefixed and stop == after:
        stop = _cased_end(data, at, end, table)
        if stop == at:
            stop = _skip(data, after, end, table, UPPERS)
            if stop == after:
                stop = at
    if stop == at:
        stop = _skip(data, at, end, table, UPPERS)
    if stop > at and stop < end and data[stop] == APOSTROPHE:
        stop = _contraction_end(data, stop, end, True)
    return stop


@inlined
def _space_end(data, at, end, table, rule):
    """End of a piece of white space: the last blank is left to the word that follows."""
    stop = last = newline = at
    while stop < end:
        kind, after = character(data, stop, end, table)
        if kind & SPACES == 0:
            break
        last = stop
        stop = after
        if kind & NEWLINE:
            newline = after
    whole = stop == end
    if newline > at and rule != GPT2 and (rule == O200K or not whole):
        stop = newline
    elif last > at and not whole:
        stop = last
    return stop


@inlined
def _numbers_end(data, at, end, table, most):
    """End of the at most ``most`` numbers at ``at``."""
    while at < end and most > 0:
        kind, after = character(data, at, end, table)
        if kind & NUMBER == 0:
            break
        at = after
        most -= 1
    return at


@inlined
def _symbols_end(data, at, end, table, rule):
    """End of the symbols at ``at``, and of the line ends (o200k: slashes too) after them."""
    at = _skip(data, at, end, table, SYMBOLS)
    if rule != GPT2:
        while at < end and (
            data[at] == 0x0A or data[at] == 0x0D or (data[at] == 0x2F and rule == O200K)
        ):
            at += 1
    return at


@compiled
def piece_end(data, at, end, table, rule):
    """End of the pre-token that begins at byte ``at``, in text that ends at ``end``."""
    kind, after = character(data, at, end, table)
    stop = at
    if rule == O200K:
        stop = _cased_word_end(data, at, end, table, kind, after)
    elif data[at] == APOSTROPHE:
        stop = _contraction_end(data, at, end, rule != GPT2)
    if stop > at:
        return stop
    follower = np.int64(0)
    if after < end:
        follower, _ = character(data, after, end, table)
    if data[at] == 0x20 and follower & (SYMBOLS if rule != GPT2 else ~SPACES):
        kind = follower  # the piece is what follows, with one blank before it
    elif rule != GPT2 and follower & LETTERS and kind & (NUMBER | NEWLINE) == 0:
        kind = follower  # any character may be the one before a word
    if kind & LETTERS:
        stop = _skip(data, after, end, table, LETTERS)
    elif kind & NUMBER:
        most = end if rule == GPT2 else 0 if rule == CL100K_DIGITS else 2
        stop = _numbers_end(data, after, end, table, most)
    elif kind & SYMBOLS:
        stop = _symbols_end(data, after, end, table, rule)
    else:
        stop = _space_end(data, at, end, table, rule)
    return stop


@inlined
def ascii_piece_size(data, at, rule):
    """Size of the pre-token at ``at``, from the next ``SIZE`` bytes; 0 where they do not tell.

    They tell where the piece and what follows it lie among them and are ASCII. The text must go on
    to ``at + SIZE`` at least.
    """
    letters, upper, numbers, spaces, newlines, long = window_classes(data, at)
    first = data[at]
    size = np.int64(0)
    symbols = (letters | numbers | spaces | long) ^ _WHOLE
    prefix = (numbers | newlines | long) & _ONE ^ _ONE  # first may be the one before a word
    if rule == GPT2:
        prefix = np.uint64(first == 0x20)
    if first == APOSTROPHE and rule != O200K:
        size = np.int64(0)
    elif (letters | letters >> _ONE & prefix) & _ONE:
        if rule == O200K:
            size = trailing_zeros(~(upper | ~letters & _ONE))
            size = trailing_zeros(~((letters & ~upper) | ((_ONE << np.uint64(size)) - _ONE)))
            if size < SIZE and data[at + size] == APOSTROPHE:
                size = np.int64(SIZE)
        else:
            size = trailing_zeros(~(letters | _ONE))
    elif (symbols | symbols >> _ONE & np.uint64(first == 0x20)) & _ONE:
        size = trailing_zeros(~(symbols | _ONE))
        if rule != GPT2 and long >> np.uint64(size) & _ONE == 0:
            if rule == O200K:
                while size < SIZE and (
                    data[at + size] == 0x0A or data[at + size] == 0x0D or data[at + size] == 0x2F
                ):
                    size += 1
            else:
                size = trailing_zeros(~(newlines | ((_ONE << np.uint64(size)) - _ONE)))
    elif numbers & _ONE or (rule == GPT2 and numbers >> _ONE & prefix):
        size = trailing_zeros(~(numbers | _ONE))
        most = np.int64(SIZE) if rule == GPT2 else np.int64(1) if rule == CL100K_DIGITS else 3
        if size >= most:
            return most if most < SIZE else np.int64(0)
    elif spaces & _ONE:
        size = trailing_zeros(~spaces)
        if size < SIZE and long >> np.uint64(size) & _ONE == 0:
            lines = newlines & ((_ONE << np.uint64(size)) - _ONE)
            if rule != GPT2 and lines:
                return 64 - leading_zeros(lines)
            return size - 1 if size > 1 else size
    if size >= SIZE or long >> np.uint64(size) & _ONE:
        size = np.int64(0)
    return size


@compiled
def scan(data, at, end, table, rule, ends):
    """Number of pre-tokens found from byte ``at`` of ``data`` on, their ends written to ``ends``.

    Stops at ``end``, where the text ends, or when ``ends`` is full: then go on from the last one.
    ``data`` and ``table`` (from ``scan_table``) are uint8, ``ends`` is int64.
    """
    count = 0
    while at < end and count < len(ends):
        size = ascii_piece_size(data, at, rule) if at + SIZE <= end else np.int64(0)
        at = at + size if size else piece_end(data, at, end, table, rule)
        ends[count] = at
        count += 1
    return count


def pieces(text: bytes, table: np.ndarray, pattern: str) -> list[bytes]:
    """The pre-tokens of ``text`` in order; joined they are ``text``."""
    ends = np.empty(len(text), np.int64)
    count = scan(np.frombuffer(text, np.uint8), 0, len(text), table, RULES[pattern], ends)
    return [text[a:b] for a, b in pairwise([0, *ends[:count].tolist()])]
