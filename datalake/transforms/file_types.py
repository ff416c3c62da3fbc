"""What a file is, by its name and by its first bytes, as a media type.

The name says what the bytes may be, the bytes whether that can be: a picture named ``.html`` is no
page. Files of no known name are taken for text or mail where their beginning is.
"""

import re
from pathlib import PurePosixPath

HTML = "text/html"
MARKDOWN = "text/markdown"
RST = "text/x-rst"
PLAIN = "text/plain"
NOTEBOOK = "application/x-ipynb+json"
DOCX = "application/vnd.openxmlformats-officedocument.wordprocessingml.document"
PPTX = "application/vnd.openxmlformats-officedocument.presentationml.presentation"
XLSX = "application/vnd.openxmlformats-officedocument.spreadsheetml.sheet"
ODT = "application/vnd.oasis.opendocument.text"
ODS = "application/vnd.oasis.opendocument.spreadsheet"
ODP = "application/vnd.oasis.opendocument.presentation"
MAIL = "message/rfc822"
MAILBOX = "application/mbox"

HEAD_BYTES = 8192  # enough to tell; a longer line of binary data without NUL is rare

_BY_SUFFIX = {
    HTML: "htm html xhtml xht shtml",
    MARKDOWN: "md markdown mdown mkd mkdn qmd rmd",
    RST: "rst rest",
    PLAIN: "txt text adoc asciidoc org textile",
    NOTEBOOK: "ipynb",
    DOCX: "docx docm dotx dotm",
    PPTX: "pptx pptm potx potm ppsx ppsm",
    XLSX: "xlsx xlsm xltx xltm",
    ODT: "odt ott",
    ODS: "ods ots",
    ODP: "odp otp",
    MAIL: "eml",
    MAILBOX: "mbox mbx",
}
_TYPE_OF = {suffix: kind for kind, suffixes in _BY_SUFFIX.items() for suffix in suffixes.split()}
OFFICE = frozenset((DOCX, PPTX, XLSX, ODT, ODS, ODP))
KNOWN = frozenset(_BY_SUFFIX)
_ORDINARY_SUFFIX = re.compile(r"[^.]\.[a-z][a-z0-9_+-]{0,15}~?\Z", re.IGNORECASE)
_MAILDIR = re.compile(r"\d{9,}\.")  # begins with a time in seconds; what follows is no suffix

OLE_MAGIC = b"\xd0\xcf\x11\xe0\xa1\xb1\x1a\xe1"  # what an encrypted Office document lies in
_BOMS = (b"\xef\xbb\xbf", b"\xff\xfe", b"\xfe\xff")
# Bytes below the space that no text has; ESC and BS are in logs and manual pages.
_BINARY = re.compile(rb"[\x00-\x06\x0e-\x1a\x1c-\x1f]")
_BINARY_HEADS = (b"%PDF-", b"%!PS", b"{\\rtf", b"\x1f\x8b", b"BZh", b"PK\x03\x04")
_HTML = re.compile(
    rb"\A\s*(?:<!--(?:(?!-->).)*-->\s*)*<(?:!doctype\s+html|html\b)", re.IGNORECASE | re.DOTALL
)
_HEADER = (
    rb"(?:Return-Path|Delivered-To|Received|Message-ID|MIME-Version|From|Date|Subject|X-[\w-]+)"
)
_MAIL = re.compile(rb"\A" + _HEADER + rb":[ \t]", re.IGNORECASE)
_FROM_AND_DATE = re.compile(rb"(?=.*^From:).*^Date:", re.I | re.M | re.S)
_MAILBOX = re.compile(rb"\AFrom \S+ .*\d{4}\r?\n")


def may_be_read(path: str) -> bool:
    """Whether the file ``path`` may be of a type that is read here, by its name alone."""
    name = PurePosixPath(path).name
    return (
        suffix_of(name)[1:] in _TYPE_OF
        or _ORDINARY_SUFFIX.search(name) is None
        or _MAILDIR.match(name) is not None
    )


def media_type(path: str, head: bytes) -> str | None:
    """Type of the file at ``path`` that begins with ``head``, None where none is read here."""
    named = _TYPE_OF.get(suffix_of(path)[1:])
    if named in OFFICE:
        return named if head.startswith((b"PK\x03\x04", OLE_MAGIC)) else None
    if head.startswith(_BINARY_HEADS) or (not head.startswith(_BOMS) and _BINARY.search(head)):
        return None
    if named is not None:
        return named
    if not may_be_read(path):
        return None
    if _MAILBOX.match(head):
        return MAILBOX
    if _MAIL.match(head) and _FROM_AND_DATE.match(head):
        return MAIL
    return HTML if _HTML.match(head) else PLAIN


def suffix_of(path: str) -> str:
    """``.png`` of ``a/b.PNG``, empty where there is none."""
    return PurePosixPath(path).suffix.lower()
