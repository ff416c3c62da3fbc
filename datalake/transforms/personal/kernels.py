"""One compiled pass over the bytes of a batch that finds where personal data may stand.

Most text has none, so this pass is what most documents cost. It knows the shape of things (an
``@`` between letters and a dotted name, seven digits with telephone-like spacing, four octets,
``AKIA``), never whether they are valid: that is for the detectors, which see a small window around
each candidate. Work is linear whatever the text: every look ahead or behind has a bound, and runs
are left behind whole.

Digits of Arabic, Devanagari and full width, dashes and spaces of Unicode read as their ASCII
counterparts. Importing this module costs a second (numba), so it is imported where it is used.
"""

# mypy: disallow_untyped_defs=False, check_untyped_defs=False
# Numba infers every type from the arrays that ``personal_data.py`` passes.

import numpy as np
from numba import njit

# Kinds of candidates; ``personal_data.py`` has a detector for each.
EMAIL, NUMBER, IPV4, IPV6, IDENTIFIER, KEY, PRIVATE_KEY, URL, ASSIGNMENT = range(9)

MAX_RUN = 48  # bytes; a longer run of numbers is a table
_ROOM = 65_536  # candidates per call
_MAX_DOMAIN = 255  # RFC 1035
_MIN_VALUE = 8  # the shortest password
_MAX_VALUE = 512  # bytes of an assigned string that are looked at
_AFTER = 24  # the same behind it
_NEAR = 160  # bytes before a number in which a word may say what it is
_HASHES = 0xFFFF  # of words: sixteen bits, an odd factor
_FACTOR = 0x9E37
_OTHER = 256  # code of a character that no detector knows


def _table(characters):
    table = np.zeros(256, np.bool_)
    for character in characters:
        table[ord(character)] = True
    return table


_LOWER = "abcdefghijklmnopqrstuvwxyz"
_UPPER = _LOWER.upper()
_DIGITS = "0123456789"
DIGIT = _table(_DIGITS)
LETTER = _table(_LOWER + _UPPER)
UPPER = _table(_UPPER)
ALNUM = _table(_LOWER + _UPPER + _DIGITS)
HEXADECIMAL = _table(_DIGITS + "abcdefABCDEF")
TOKEN = _table(_LOWER + _UPPER + _DIGITS + "_-.")
NAME = _table(_LOWER + _UPPER + _DIGITS + "_-")
ATOM = _table(_LOWER + _UPPER + _DIGITS + "._%+-'&~")
VALUE = _table(_LOWER + _UPPER + _DIGITS + "+/=_-.~!@#$%^&*?:|,;")
# What a key starts with; the rest of the token decides.
PREFIXES = np.array(
    [
        [ord(c) for c in prefix]
        for prefix in (
            *("AKI", "ASI", "ghp", "gho", "ghu", "ghs", "ghr", "git", "glp", "glr", "gld", "xox"),
            *("sk_", "rk_", "whs", "AIz", "ya2", "GOC", "sk-", "pyp", "npm", "hf_", "SG.", "dop"),
            *("shp", "sq0", "eyJ"),
        )
    ],
    np.uint8,
)
STARTS_KEY = _table({chr(prefix[0]) for prefix in PREFIXES})
_NAMES = ("secret", "token", "passw", "passphrase", "pwd", "key", "credential", "auth")
NAMES = np.zeros((len(_NAMES), 12), np.uint8)
for _row, _name in zip(NAMES, _NAMES, strict=True):
    _row[: len(_name)] = [ord(c) for c in _name]
BEGINS_NUMBER = _table(_DIGITS + "+(\xd9\xdb\xe0\xef")
INTEREST = _table(_LOWER + _UPPER + _DIGITS + "@+(-:=\xd9\xdb\xe0\xef")


@njit(cache=True, nogil=True)
def _sign(data, i, end):
    """ASCII code of the digit, dash, space or sign at byte ``i``, and its length in bytes."""
    b = data[i]
    if b < 0x80:
        return np.int64(b), 1
    c = data[i + 1] if i + 1 < end else 0
    if b < 0xE0:
        if b == 0xD9 and 0xA0 <= c <= 0xA9:  # Arabic
            return 48 + c - 0xA0, 2
        if b == 0xDB and 0xB0 <= c <= 0xB9:  # Persian
            return 48 + c - 0xB0, 2
        if b == 0xC2 and c == 0xA0:  # no-break space
            return 32, 2
        return _OTHER, 2
    d = data[i + 2] if i + 2 < end else 0
    if b == 0xEF and c == 0xBC and 0x81 <= d <= 0xBF:  # full width
        return d - 0x60, 3
    if b == 0xE2 and c == 0x80:
        if 0x90 <= d <= 0x95:  # hyphens and dashes
            return 45, 3
        if d in (0x87, 0x89, 0xAF):  # figure, thin and narrow spaces
            return 32, 3
    if b == 0xE2 and c == 0x88 and d == 0x92:  # minus
        return 45, 3
    if b == 0xE3 and c == 0x80 and d == 0x80:  # ideographic space
        return 32, 3
    if b == 0xE0 and c == 0xA5 and 0xA6 <= d <= 0xAF:  # Devanagari
        return 48 + d - 0xA6, 3
    return _OTHER, 4 if b >= 0xF0 else 3


@njit(cache=True, nogil=True)
def _is_address(data, i, length, begin, end):
    """Whether the ``@`` at ``i`` has a name before it and a dotted name behind."""
    k = i + length
    if i == begin or k >= end:
        return False
    if not (ATOM[data[i - 1]] or data[i - 1] >= 0x80):
        return False
    if not (ALNUM[data[k]] or data[k] >= 0x80):
        return False
    dotted = False
    stop = min(end, k + _MAX_DOMAIN)
    while k < stop and (NAME[data[k]] or data[k] == 46 or data[k] >= 0x80):
        if data[k] == 0xEF and _sign(data, k, end)[0] == 64:
            return False
        # A dot of full width is one, too; the detector knows which it is.
        named = k + 1 < stop and (LETTER[data[k + 1]] or data[k + 1] >= 0x80)
        dotted |= data[k] >= 0x80 or (data[k] == 46 and named)
        k += 1
    return dotted and not (k < end and data[k] == 64)


@njit(cache=True, nogil=True)
def _ipv4_end(data, i, end):
    """End of the four octets that start at ``i``, or ``i``."""
    k = i
    for octet in range(4):
        value = 0
        first = k
        while k < end and k - first < 4 and DIGIT[data[k]]:
            value = value * 10 + data[k] - 48
            k += 1
        if k == first or value > 255 or k - first > 3 or (k - first > 1 and data[first] == 48):
            return i
        if octet < 3:
            if k >= end or data[k] != 46:
                return i
            k += 1
    if k < end and (ALNUM[data[k]] or data[k] == 95):
        return i
    if k + 1 < end and data[k] == 46 and ALNUM[data[k + 1]]:
        return i
    return k


@njit(cache=True, nogil=True)
def _number_end(data, i, end):
    """Run of digit groups from ``i``: end, digits, groups, dots, and where to go on.

    Groups stand one to three signs apart. The end is ``i`` where the run is no candidate.
    """
    k = i
    last = i
    num_digits = 0
    num_groups = 0
    num_dots = 0
    in_group = False
    since = 0  # signs since the last digit
    while k < end:
        if data[k] < 0x80:
            code, length = np.int64(data[k]), 1
        else:
            code, length = _sign(data, k, end)
        if 48 <= code <= 57:
            if not in_group:
                num_groups += 1
                in_group = True
            num_digits += 1
            since = 0
            last = k + length
        else:
            if code == 43 and k > i and data[k - 1] != 40:
                break  # the next number begins
            if code == 40 and num_digits > 4:
                break
            if code not in (32, 45, 46, 47, 40, 41, 43):
                break
            if code == 32 and since > 0 and data[k - 1] == 32:
                break
            if code == 32 and since > 0 and data[k - 1] == 47 and num_digits >= 7:
                break  # a slash between two numbers
            if code == 32 and k + 1 < end and _ipv4_end(data, k + 1, end) > k + 1:
                break
            since += 1
            if since > 3:
                break
            if in_group and code == 46:
                num_dots += 1
            in_group = False
        k += length
    if last - i > MAX_RUN and num_digits > 19:
        return i, num_digits, num_groups, num_dots, max(last, k)
    return last, num_digits, num_groups, num_dots, max(last, i + 1)


@njit(cache=True, nogil=True)
def _has_word(data, i, last, begin, end):
    """Whether a letter is near, or the number has signs of its own and needs no word."""
    for k in range(i, last):
        if data[k] == 45 or data[k] == 40:
            return True
    for k in range(last, min(end, last + _AFTER)):
        if LETTER[data[k]] or data[k] >= 0x80:
            return True
    for k in range(i - 1, max(begin, i - _NEAR) - 1, -1):
        if LETTER[data[k]] or data[k] >= 0x80:
            return True
    return False


@njit(cache=True, nogil=True)
def _may_be_named(data, i, last, begin, end, names):
    """Whether a word near bare digits may be one of ``names``, a table by hash.

    It may if it has letters beyond ASCII, or is one letter of an abbreviation.
    """
    k = max(begin, i - _NEAR)
    stop = min(end, last + _AFTER)
    while k < stop:
        if data[k] >= 0x80:
            return True
        if not LETTER[data[k]]:
            k += 1
            continue
        first = k
        h = np.int64(0)  # of the word
        part = np.int64(0)  # of its part since the last capital after a small letter
        while k < stop and LETTER[data[k]]:
            if k > first and UPPER[data[k]] and not UPPER[data[k - 1]]:
                if names[part]:
                    return True
                part = np.int64(0)
            letter = np.int64(data[k] | 32)
            h = (h * _FACTOR + letter) & _HASHES
            part = (part * _FACTOR + letter) & _HASHES
            k += 1
        if k < stop and data[k] >= 0x80:
            return True
        if names[h] or names[part] or (k - first == 1 and k < end and data[k] == 46):
            return True
    return False


def name_table(words):
    """Where the hashes of ASCII words fall: ``bool [65536]``."""
    table = np.zeros(_HASHES + 1, np.bool_)
    for word in words:
        h = 0
        for letter in word.encode():
            h = (h * _FACTOR + letter) & _HASHES
        table[h] = True
    return table


@njit(cache=True, nogil=True)
def _ipv6(data, i, begin, end):
    """Range of the address around the colon at ``i``, and whether it can be one."""
    first = i
    while first > begin and i - first < 5 and HEXADECIMAL[data[first - 1]]:
        first -= 1
    k = i
    colons = 0
    double = False
    stop = min(end, first + 64)
    while k < stop and (HEXADECIMAL[data[k]] or data[k] == 58 or data[k] == 46):
        if data[k] == 58:
            colons += 1
            double |= k > 0 and data[k - 1] == 58
        k += 1
    last = k
    while last > i and (data[last - 1] == 46 or (data[last - 1] == 58 and data[last - 2] != 58)):
        last -= 1
    good = colons >= 2 and (double or colons >= 6) and i - first < 5 and last - first >= 6
    if first > begin and (ALNUM[data[first - 1]] or data[first - 1] == 95):
        good = False
    if last < end and (ALNUM[data[last]] or data[last] == 95):
        good = False
    return first, last, good, k


@njit(cache=True, nogil=True)
def _says_secret(data, first, last):
    """Whether a name has one of ``NAMES`` in it, in either case."""
    for k in range(first, last - 2):
        b = data[k] | 32
        if b not in (115, 116, 112, 107, 99, 97):  # s t p k c a
            continue
        for row in range(len(NAMES)):
            if NAMES[row, 0] != b:
                continue
            m = 1
            while m < 12 and NAMES[row, m] != 0 and k + m < last:
                if (data[k + m] | 32) != NAMES[row, m]:
                    break
                m += 1
            if m == 12 or NAMES[row, m] == 0:
                return True
    return False


@njit(cache=True, nogil=True)
def _assigned(data, i, begin, end):
    """Range of the string that the ``=`` or ``:`` at ``i`` gives to a name of a secret."""
    none = (i, i)
    last = i
    while last > begin and i - last < 3 and data[last - 1] in (32, 9, 34, 39, 93, 58):
        last -= 1
    name = last
    while name > begin and last - name < 48 and NAME[data[name - 1]]:
        name -= 1
    if last - name < 3 or not _says_secret(data, name, last):
        return none
    k = i + 1
    while k < end and k - i < 4 and data[k] in (61, 62, 58):  # == => :=
        k += 1
    while k < end and k - i < 6 and data[k] in (32, 9):
        k += 1
    if k + 1 < end and data[k] in (98, 102, 117, 114) and data[k + 1] in (34, 39):
        k += 1
    if k < end and data[k] in (34, 39, 96):
        k += 1
    first = k
    stop = min(end, k + _MAX_VALUE)
    while k < stop and VALUE[data[k]]:
        k += 1
    if k - first < _MIN_VALUE:
        return none
    return first, k


@njit(cache=True, nogil=True)
def _userinfo(data, i, end):
    """Range of ``user:password`` behind the ``://`` at ``i``."""
    first = i + 3
    colon = 0
    stop = min(end, first + 256)
    for k in range(first, stop):
        b = data[k]
        if b == 64:
            return (first, k) if colon > 0 and k > colon + 1 else (i, i)
        if b == 58 and colon == 0:
            colon = k
        if b <= 32 or b in (47, 34, 39, 60, 62, 40, 41, 91, 93, 123, 125, 96, 92):
            break
    return i, i


@njit(cache=True, nogil=True)
def _has_prefix(data, i, end):
    if i + 16 >= end:
        return False
    for p in range(len(PREFIXES)):
        if (
            PREFIXES[p, 0] == data[i]
            and PREFIXES[p, 1] == data[i + 1]
            and PREFIXES[p, 2] == data[i + 2]
        ):
            return True
    return False


@njit(cache=True, nogil=True)
def _identifier_end(data, i, token_end, end):
    """End of a token that may be an IBAN, an Italian code or a Spanish NIE, or ``i``."""
    k = token_end
    size = k - i
    if size > 34 or size < 4 or (k < end and data[k] == 95):
        return i
    if size == 9 and data[i] in (88, 89, 90) and DIGIT[data[i + 1]] and DIGIT[data[i + 7]]:
        return k
    if size == 16 and LETTER[data[i + 5]] and LETTER[data[i + 8]] and LETTER[data[i + 15]]:
        return k
    if not (UPPER[data[i + 1]] and DIGIT[data[i + 2]] and DIGIT[data[i + 3]]):
        return i
    if not UPPER[data[i]]:
        return i
    if size >= 15:
        return k
    if size == 4:  # groups of four
        while k + 1 < end and data[k] == 32 and ALNUM[data[k + 1]] and k - i < 45:
            m = k + 1
            while m < end and m - k < 6 and ALNUM[data[m]]:
                m += 1
            if m - k > 5:
                break
            short = m - k < 5
            k = m
            if short:
                break
        if k - i >= 18:
            return k
    return i


def candidates(data, offsets, names):
    """Rows, kinds, first bytes and ends of all candidates, in the order of the text.

    ``names`` is the ``name_table`` of all words that bare digits may have near them.
    """
    parts = []
    row, i, assigned = 0, int(offsets[0]), int(offsets[0])
    while row < len(offsets) - 1:
        found = np.empty((_ROOM, 4), np.int64)
        count, row, i, assigned = _fill(data, offsets, names, row, i, assigned, found)
        parts.append(found[:count])
    return np.concatenate([np.empty((0, 4), np.int64), *parts])


@njit(cache=True, nogil=True)
def _fill(data, offsets, names, row, i, assigned, found):
    """Go on at byte ``i`` of ``row`` until the text ends or ``found`` is full.

    Gives the number of candidates and where to go on; no assignment begins before ``assigned``.
    """
    count = 0
    while row < len(offsets) - 1:
        begin, end = offsets[row], offsets[row + 1]
        while i < end:
            if count == len(found):
                return count, row, i, assigned
            b = data[i]
            if not INTEREST[b]:
                i += 1
                continue
            kind = -1
            first, last, after = i, i, i + 1
            before = data[i - 1] if i > begin else 32
            if LETTER[b]:
                # A token is read once; inside it nothing begins.
                has_digit = False
                while after < end and ALNUM[data[after]]:
                    has_digit |= DIGIT[data[after]]
                    after += 1
                if not (ALNUM[before] or before == 95):
                    if STARTS_KEY[b] and _has_prefix(data, i, end):
                        k = after
                        while k < end and TOKEN[data[k]]:
                            k += 1
                        if k - i >= 16:
                            kind, last, after = KEY, k, k
                    if kind < 0 and has_digit:
                        last = _identifier_end(data, i, after, end)
                        if last > i:
                            kind, after = IDENTIFIER, last
            elif b == 64:
                if _is_address(data, i, 1, begin, end):
                    kind, last = EMAIL, i + 1
            elif b == 45:
                if (
                    i + 20 < end
                    and data[i + 1] == 45
                    and data[i + 4] == 45
                    and data[i + 5] == 66
                    and data[i + 6] == 69
                    and data[i + 7] == 71
                ):
                    kind, last, after = PRIVATE_KEY, i + 8, i + 8
            elif b == 58 or b == 61:
                if b == 58 and i + 2 < end and data[i + 1] == 47 and data[i + 2] == 47:
                    first, last = _userinfo(data, i, end)
                    if last > first:
                        kind, after = URL, last
                    else:
                        first, last = i, i
                elif b == 58 and (HEXADECIMAL[before] or (i + 1 < end and data[i + 1] == 58)):
                    first, last, good, after = _ipv6(data, i, begin, end)
                    if good:
                        kind = IPV6
                    after = max(after, i + 1)
                if kind < 0 and i >= assigned:
                    first, last = _assigned(data, i, begin, end)
                    if last > first:
                        # Keys and addresses may stand in the string; no other assignment does.
                        kind, assigned = ASSIGNMENT, last
            else:
                if b < 0x80:
                    code, length = np.int64(b), 1
                else:
                    code, length = _sign(data, i, end)
                after = i + length
                if code == 64:
                    if _is_address(data, i, length, begin, end):
                        kind, last = EMAIL, i + length
                elif (
                    48 <= code <= 57
                    or (code in (40, 43) and after < end and BEGINS_NUMBER[data[after]])
                ) and not (ALNUM[before] or before == 95):
                    last = _ipv4_end(data, i, end) if before != 46 else i
                    if last > i:
                        kind, after = IPV4, last
                    else:
                        last, num_digits, num_groups, num_dots, after = _number_end(data, i, end)
                        decimal = num_groups == 2 and num_dots == 1
                        if last > i and num_digits >= 7 and not decimal:
                            if last < end and LETTER[data[last]]:
                                # One check letter, or the letter of a century and four more.
                                k = last
                                while k < end and k - last < 6 and ALNUM[data[k]]:
                                    k += 1
                                if k - last == 1:
                                    last = k
                                    kind = NUMBER
                            elif num_groups == 1 and num_digits < 13 and code >= 48:
                                if _may_be_named(data, i, last, begin, end, names):
                                    kind = NUMBER
                            elif (
                                code == 43
                                or _has_word(data, i, last, begin, end)
                                or (num_dots == 0 and num_digits >= 13 and num_groups <= 7)
                            ):
                                kind = NUMBER
                        elif last > i and num_digits == 6 and num_groups == 1:
                            k = last
                            while k < end and k - last < 6 and ALNUM[data[k]]:
                                k += 1
                            if k - last == 5:
                                kind, last, after = NUMBER, k, k
                        if last < end and ALNUM[data[last]]:
                            kind = -1
                            while after < end and ALNUM[data[after]]:
                                after += 1
                        after = max(after, last) if kind >= 0 else max(after, i + 1)
                elif 48 <= code <= 57:
                    while after < end and DIGIT[data[after]]:
                        after += 1
            if kind >= 0:
                found[count, 0] = row
                found[count, 1] = kind
                found[count, 2] = first
                found[count, 3] = last
                count += 1
            i = after
        row += 1
        i = assigned = end
    return count, row, i, assigned
