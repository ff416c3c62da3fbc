"""Mail to text: the subject as title and what the sender wrote, without quotes and signature.

A quoted message is a record of its own in its mailbox, and here it would stand once more with every
reply to it. Names and addresses of the headers are not part of the text; attachments are not read.
"""

import codecs
import re
from email import policy
from email.message import EmailMessage, MIMEPart
from email.parser import BytesParser

from resiliparse.parse.encoding import detect_encoding

from datalake.transforms.normalise import normalise
from datalake.transforms.text import Text, Unreadable

_BLANK_LINES = re.compile(r"\n{3,}")
_SIGNATURE = re.compile(r"^-- $.*\Z", re.MULTILINE | re.DOTALL)  # RFC 3676, 4.3
# What a mail program writes above a quote: it names the sender quoted.
_ATTRIBUTION = re.compile(
    r"\b(?:wrote|writes|said|schrieb|écrit|escribió|escreveu|scritto|schreef)\b[^\n]{0,200}:\s*\Z"
)
_ATTRIBUTION_BEGINS = re.compile(r"(?:On|At|In|Am|Le|El|Em|Il|Op)\b[^\n]*\d")
_QUOTED = re.compile(r"[ \t]?>")
_FORWARDED = re.compile(
    r"^-{2,}[ \t]*(?:Original Message|Ursprüngliche Nachricht|Message d'origine)[ \t]*-{2,}.*\Z",
    re.MULTILINE | re.DOTALL | re.IGNORECASE,
)
_ENCRYPTED = ("multipart/encrypted", "application/pkcs7-mime", "application/x-pkcs7-mime")


def read_mail(payload: bytes) -> Text:
    """The text of one message: ``text/plain`` before ``text/html``. Raises Unreadable."""
    if payload.startswith(b"From "):  # the line between the messages of a mailbox
        payload = payload[payload.find(b"\n") + 1 :]
    try:
        message = BytesParser(_class=EmailMessage, policy=policy.default).parsebytes(payload)
        if message.get_content_type() in _ENCRYPTED:
            raise Unreadable("encrypted")
        part = message.get_body(("plain", "html"))
        if part is None:
            raise Unreadable("no text part")
        subject = " ".join(normalise(str(message.get("Subject", ""))).split())
        body, encoding = _body(part)
    except RecursionError as error:
        raise Unreadable("nested too deep") from error
    # Header parsers of the standard library fail in many ways on what the RFCs do not foresee.
    except (LookupError, TypeError, AttributeError, UnicodeError) as error:
        raise Unreadable(f"damaged mail: {type(error).__name__}") from error
    text = _BLANK_LINES.sub("\n\n", _own_words(body)).strip()
    if not text:
        raise Unreadable("empty")
    return Text(text=text + "\n", title=subject, encoding=encoding)


def _body(part: MIMEPart) -> tuple[str, str]:
    data = part.get_payload(decode=True)
    if not isinstance(data, bytes):
        raise Unreadable("no text part")
    charset = part.get_content_charset()
    if part.get_content_type() == "text/html":
        from datalake.transforms.html_text import read_page

        page = read_page(data, f"text/html; charset={charset}" if charset else "text/html")
        return page.text, page.encoding
    text, encoding = _decode(data, charset)
    if part.get_param("format", "") == "flowed":
        text = _unflow(text, part.get_param("delsp", "") == "yes")
    return text, encoding


def _decode(data: bytes, charset: str | None) -> tuple[str, str]:
    """``data`` in its declared charset where that fits, then UTF-8, then as it looks like."""
    for name in (charset, "utf-8", detect_encoding(data)):
        try:
            if name:
                return normalise(data.decode(name)), codecs.lookup(name).name
        except (LookupError, UnicodeError):
            continue
    return normalise(data.decode("latin-1")), "iso8859-1"


def _unflow(text: str, drop_space: bool) -> str:
    """Paragraphs of ``format=flowed`` on one line each (RFC 3676, 4.1 and 4.5)."""
    lines: list[str] = []
    joins = False
    for line in text.split("\n"):
        quoted = line.startswith(">")
        line = line[1:] if line.startswith(" ") else line  # stuffed
        if joins and not quoted:
            lines[-1] += line
        else:
            lines.append(line)
        joins = line.endswith(" ") and line != "-- " and not quoted
        if joins and drop_space:
            lines[-1] = lines[-1][:-1]
    return "\n".join(lines)


def _own_words(body: str) -> str:
    body = _SIGNATURE.sub("", _FORWARDED.sub("", body))
    lines: list[str] = []
    for line in body.split("\n"):
        if not _QUOTED.match(line):
            lines.append(line.rstrip())
            continue
        while lines and not lines[-1]:
            lines.pop()
        if lines and _ATTRIBUTION.search(lines[-1][-600:]):
            lines.pop()
            if lines and _ATTRIBUTION_BEGINS.match(lines[-1]):
                lines.pop()  # a long one, broken in two
        lines.append("")  # where the quote was
    return "\n".join(lines)
