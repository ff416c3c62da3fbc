"""One spelling for equal text, so that digests, signals and tokens see the same characters."""

import re
import unicodedata

# A splitter on ASCII white space would take two words with one of these between for one.
_SPACES = "\x0b\u00a0\u1680\u2000-\u200a\u202f\u205f\u3000"
_LINE_ENDS = "\x85\u2028\u2029"
# Control characters, the byte order mark, soft hyphens and what has no width and no meaning.
_NOTHING = "\x00-\x08\x0c\x0e-\x1f\x7f-\x84\x86-\x9f\u00ad\u200b\u2060\ufeff\ufffe\uffff"
_ODD = re.compile(f"[{_SPACES}{_LINE_ENDS}{_NOTHING}\ud800-\udfff]")
_SPACE = re.compile(f"[{_SPACES}]")
_LINE_END = re.compile(f"[{_LINE_ENDS}]")
_DROPPED = re.compile(f"[{_NOTHING}]")
_SURROGATE = re.compile("[\ud800-\udfff]")

# The same for ASCII, by bytes, ten times as fast as a search.
_TO_SPACE = bytes.maketrans(b"\x0b", b" ")
_CONTROLS = bytes(c for c in range(128) if _DROPPED.match(chr(c)))

# Where an object lies in memory: ``<function f at 0x7f2c...>``, ``<CDLL 'None', handle 7f2c...>``.
# A bare number after "at" is left alone: it is a time, a count, or the word "decade". The words
# come first and their start is checked behind them, so that the search jumps from one to the next.
_VOLATILE = (
    re.compile(r"(at 0x)(?<=\bat 0x)[0-9a-fA-F]{6,16}\b"),
    re.compile(r"(handle (?<=\bhandle )(?:0x)?)[0-9a-fA-F]{6,16}\b"),
)
_ZEROS = r"\g<1>" + "0" * 8


def normalise(text: str) -> str:
    r"""``text`` in Unicode form NFC, lines ended by ``\n``, without control characters but tabs.

    Spaces of every kind become U+0020. Idempotent.
    """
    if "\r" in text:
        text = text.replace("\r\n", "\n").replace("\r", "\n")
    text = text.replace("\u00a0", " ")  # often the only one that is not ASCII
    if text.isascii():
        return text.encode().translate(_TO_SPACE, _CONTROLS).decode()
    if _ODD.search(text):
        text = _LINE_END.sub("\n", _SPACE.sub(" ", text))
        text = _SURROGATE.sub("\ufffd", _DROPPED.sub("", text))
    return unicodedata.normalize("NFC", text)


def without_addresses(text: str) -> str:
    """``text`` with every address of an object in memory replaced by zeros.

    Two crawls of a page that prints one then give equal text.
    """
    for address in _VOLATILE:
        text = address.sub(_ZEROS, text)
    return text
