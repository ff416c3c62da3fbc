"""Keys, tokens and passwords in code and configuration.

Most services give their keys a prefix, some a checksum (GitHub's is verified here). Where there is
neither, a string counts that is assigned to a name such as ``api_secret`` and is as irregular as a
drawn key is: its Shannon entropy per character passes a bound. Digests, UUIDs, identifiers,
templates (``${TOKEN}``) and samples (``changeme``) are none.
"""

import base64
import json
import math
import re
import string
import zlib
from collections import Counter
from collections.abc import Iterator

from datalake.transforms.personal.window import Match, PersonalType, Window

# Bits per character. Hexadecimal: the limit of detect-secrets 1.5.0. For other strings that limit,
# 4.5, asks for 23 different characters; a name beside the string says so much that 3.3 suffices.
HEXADECIMAL_ENTROPY = 3.0
STRING_ENTROPY = 3.3
PASSWORD_ENTROPY = 2.7
_WORDY = 0.5  # share of a string in words and numbers that makes it a name
_MIN_KEY, _MIN_PASSWORD = 16, 8  # characters
_MAX_PRIVATE_KEY = 16_384  # bytes: RSA of 8,192 bits in PEM is 6,400
_MAX_HEAD = 80  # bytes of its first line
_BASE_62 = string.digits + string.ascii_uppercase + string.ascii_lowercase

_KEYS = re.compile(
    "|".join(
        (
            r"(?P<aws>A(?:KIA|SIA)[A-Z2-7]{16})",
            r"(?P<github>gh[pousr]_[A-Za-z0-9]{36})",
            r"github_pat_[A-Za-z0-9]{22}_[A-Za-z0-9]{59}",
            r"gl(?:pat|ptt|dt|rt|cbt|ft|soat)-[A-Za-z0-9_\-]{20,}(?:\.[0-9a-z.]{9,})?",
            r"xox[abeoprs]-(?:\d-)?[A-Za-z0-9]{8,}(?:-[A-Za-z0-9]{4,})+",
            r"[rs]k_(?:live|test)_[A-Za-z0-9]{16,}",
            r"whsec_[A-Za-z0-9+/=]{32,}",
            r"AIza[A-Za-z0-9_\-]{35}",
            r"ya29\.[A-Za-z0-9_\-]{40,}",
            r"GOCSPX-[A-Za-z0-9_\-]{28}",
            r"sk-ant-[a-z]+\d\d-[A-Za-z0-9_\-]{40,}",
            r"sk-(?:proj|svcacct|admin|or-v1)-[A-Za-z0-9_\-]{32,}",
            r"sk-[A-Za-z0-9]{32,}",
            r"pypi-[A-Za-z0-9_\-]{50,}",
            r"npm_[A-Za-z0-9]{36}",
            r"hf_[A-Za-z0-9]{34,}",
            r"SG\.[A-Za-z0-9_\-]{22}\.[A-Za-z0-9_\-]{43}",
            r"do[por]_v1_[a-f0-9]{64}",
            r"shp(?:at|ca|pa|ss)_[a-fA-F0-9]{32}",
            r"sq0(?:atp|csp|idp)-[A-Za-z0-9_\-]{22,43}",
            r"(?P<jwt>eyJ[A-Za-z0-9_\-]{8,}\.[A-Za-z0-9_\-]{4,}\.[A-Za-z0-9_\-]*)",
        )
    )
)
_TOKEN_BORDER = re.compile(r"[A-Za-z0-9_]")


def keys(window: Window) -> Iterator[Match]:
    """A token that has the form of one service's keys."""
    found = _KEYS.match(window.text, window.start)
    if found is None or _TOKEN_BORDER.match(window.text, found.end()):
        return
    token = found.group()
    if found.group("github") and not _has_checksum(token):
        return
    if found.group("jwt"):
        if not _is_jwt(token):
            return
    elif not found.group("aws") and _entropy(token[8:]) < HEXADECIMAL_ENTROPY:
        return  # sk-xxxxxxxx of a manual
    elif found.group("aws") and len(set(token[4:])) < 5:
        return
    yield Match(window.start, found.end(), "key", token, "EXAMPLE" in token)


def _has_checksum(token: str) -> bool:
    """GitHub's tokens end in the CRC-32 of their thirty characters, in base 62."""
    body, written = token[4:34], token[34:]
    value, digits = zlib.crc32(body.encode()), ""
    for _ in range(6):
        value, digit = divmod(value, 62)
        digits = _BASE_62[digit] + digits
    return digits == written


def _is_jwt(token: str) -> bool:
    """Whether the header says an algorithm (RFC 7515, 4.1.1)."""
    header = token.split(".", 1)[0]
    try:
        decoded = json.loads(base64.urlsafe_b64decode(header + "=" * (-len(header) % 4)))
    except ValueError:
        return False
    return isinstance(decoded, dict) and "alg" in decoded


_PRIVATE_KEY = re.compile(rb"-----BEGIN (?:[A-Z0-9]+ ){0,3}PRIVATE KEY(?: BLOCK)?-----")
_PRIVATE_END = re.compile(rb"-----END (?:[A-Z0-9]+ ){0,3}PRIVATE KEY(?: BLOCK)?-----|-----BEGIN ")


def private_key_end(text: memoryview | bytes, start: int, end: int) -> int:
    """Where the PEM or PGP block that begins at ``start`` ends; ``start`` where there is none.

    A block that was cut off ends with its last line of base 64.
    """
    head = _PRIVATE_KEY.match(bytes(text[start : min(end, start + _MAX_HEAD)]))
    if head is None:
        return start
    block = bytes(text[start : min(end, start + _MAX_PRIVATE_KEY)])
    tail = _PRIVATE_END.search(block, head.end())
    if tail and tail.group().startswith(b"-----END"):
        if not re.search(rb"[A-Za-z0-9+/=\\]{16,}", block[head.end() : tail.start()]):
            return start  # a sentence about such blocks, or an ellipsis
        return start + tail.end()
    body = re.match(rb"(?:[\s\\nr\"',]*[A-Za-z0-9+/=]{16,})+", block[head.end() :])
    return start + head.end() + body.end() if body else start


_PLACEHOLDERS = re.compile(
    r"(?i)\A[\[({<$%]|(?-i:x{4,}|X{4,})|\*{3,}|\.{3}|\$\{|\{\{|%\(|example|sample|changeme|change-me|your|dummy|placeholder"
    r"|redacted|insert|replace|todo|abcdef|12345678|qwerty|foobar|secret|password|passwd|token"
)


def url_passwords(window: Window) -> Iterator[Match]:
    """``user:password`` of an address with both; the host stays."""
    user, _, password = window.text[window.start : window.end].partition(":")
    literal = re.fullmatch(r"[^\s\"'<>{}$%\[\]()`\\]{3,}", password)
    if literal is None and not re.fullmatch(
        r"(?:[^\s\"'<>{}$\[\]()`\\%]|%[0-9A-Fa-f]{2}){3,}", password
    ):
        return
    if not re.fullmatch(r"[^\s\"'<>{}$\[\]()`\\/]*", user):
        return
    sample = password.lower() in _SAMPLE_PASSWORDS or re.fullmatch(r"(.)\1*", password) is not None
    yield Match(window.start, window.end, "password", f"{user}:{password}", sample)


_SAMPLE_PASSWORDS = frozenset(
    ("pass", "password", "passwd", "pwd", "pw", "secret", "token", "port", "user", "example")
)
_UUID = re.compile(r"[0-9a-f]{8}-(?:[0-9a-f]{4}-){3}[0-9a-f]{12}", re.IGNORECASE)
_DIGEST_SIZES = (32, 40, 56, 64, 96, 128)
_DIGEST_WORDS = re.compile(
    r"sha-?\d|md5|hash|digest|checksum|commit|revision|etag|integrity|blake|crc|sri|byte|finger"
)
_NAMED = re.compile(
    r"([A-Za-z0-9_\-]+)[\"'\]]{0,2}[ \t]{0,2}:?[=:][=>:]?[ \t]{0,3}[bfru]?[\"'`]?\Z"
)
_ATTRIBUTE = re.compile(r"[A-Za-z_]\w*(?:\.[A-Za-z_]\w*)+")  # module.name
_PASSWORD_NAME = re.compile(r"pass(?:wor[dt]|wd|phrase)?|pwd", re.IGNORECASE)
_KEY_NAME = re.compile(
    r"secret|token|credential|(?:api|access|auth|private|account|encryption|signing|secret|service"
    r"|client|master|storage|shared|session|hmac|aes|jwt)[-_]?key|authorization|auth"
    r"|\A(?:api)?key\Z",
    re.IGNORECASE,
)
_NO_SECRET_NAME = re.compile(
    r"public|pub_?key|tokeni[sz]|token_?(?:id|type|count|len|name|url|uri|class|file|path|end)"
    r"|(?:bos|eos|pad|unk|sep|cls|mask|num|max|min|stop|special)_?token|key_?(?:name|path|file|id|type)"
    r"|author|licen[cs]e|(?:url|uri|path|file|name|type|field|header|endpoint|regex|pattern|label|env|var|prefix|suffix)\Z",
    re.IGNORECASE,
)


def assigned_secrets(window: Window) -> Iterator[Match]:
    """A string that is assigned to the name of a secret and looks drawn at random."""
    named = _NAMED.search(window.text, max(0, window.start - 80), window.start)
    if named is None or _NO_SECRET_NAME.search(named.group(1)):
        return
    name = named.group(1)
    quote = window.text[window.start - 1]
    quoted = quote in "\"'`"
    value = window.text[window.start : window.end]
    if quoted:
        value = value.split(quote, 1)[0]
        if window.text[window.start + len(value) : window.start + len(value) + 1] != quote:
            return
    else:
        value = value.rstrip(",;.")
        if _ATTRIBUTE.fullmatch(value):
            return
        rest = window.text[window.start + len(value) : window.start + len(value) + 2]
        if rest.strip(",; \t\r\n") or re.search(r"[():,;|@?*&]", value):
            return
    password = _PASSWORD_NAME.search(name) is not None
    if not password and not _KEY_NAME.search(name):
        return
    if not _looks_drawn(value, password, quoted):
        return
    line = window.before.rsplit("\n", 1)[-1]
    digest = re.fullmatch(r"[0-9a-fA-F]+", value) and len(value) in _DIGEST_SIZES
    if digest and _DIGEST_WORDS.search(f"{name.lower()} {line}"):
        return
    kind: PersonalType = "password" if password else "key"
    sample = "EXAMPLE" in value
    yield Match(window.start, window.start + len(value), kind, value, sample)


def _looks_drawn(value: str, password: bool, quoted: bool) -> bool:
    if (
        _PLACEHOLDERS.search(value.replace("EXAMPLE", ""))
        or _UUID.fullmatch(value)
        or "://" in value
    ):
        return False
    letters = sum(c.isalpha() for c in value)
    digits = sum(c.isdigit() for c in value)
    if not letters or digits < (1 if quoted or re.search("[+/]", value) else 2 if password else 3):
        return False
    if password and (quoted or re.fullmatch(r"[\w\-!#$%]+", value)):
        return len(value) >= _MIN_PASSWORD and _entropy(value) >= PASSWORD_ENTROPY
    if len(value) < _MIN_KEY or not re.fullmatch(r"[A-Za-z0-9+/=_\-.~]+", value):
        return False
    parts = [part for part in re.split(r"[^A-Za-z0-9]+", value) if part]
    if len(parts) > 1 and sum(len(p) for p in parts if _is_word(p)) > _WORDY * len(value):
        return False
    if re.fullmatch(r"[A-Za-z_]+[0-9]{1,3}", value) and digits < 4:
        return False  # an identifier with a number
    hexadecimal = re.fullmatch(r"[0-9a-fA-F]+", value) is not None
    return _entropy(value) >= (HEXADECIMAL_ENTROPY if hexadecimal else STRING_ENTROPY)


def _is_word(part: str) -> bool:
    return part.isdigit() or (part.isalpha() and (part[1:].islower() or part.isupper()))


def _entropy(text: str) -> float:
    """Shannon entropy of the characters, in bits per character."""
    size = len(text)
    return -sum(n / size * math.log2(n / size) for n in Counter(text).values()) if size else 0.0
