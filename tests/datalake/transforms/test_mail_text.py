import codecs
from email.message import EmailMessage

import pytest

from datalake.transforms.mail_text import read_mail
from datalake.transforms.text import Unreadable

HEADERS = (
    b"From: Ada <ada@example.org>\nTo: bob@example.org\nDate: Tue, 1 Apr 2003 10:00:00 +0000\n"
)


def mail(body: bytes, *headers: bytes) -> bytes:
    return HEADERS + b"".join(header + b"\n" for header in headers) + b"\n" + body


@pytest.mark.parametrize(
    ("charset", "coding"),
    [
        ("utf-8", "base64"),
        ("iso-8859-15", "quoted-printable"),
        ("windows-1252", "8bit"),
        ("gb18030", "base64"),
    ],
)
def test_every_charset_and_transfer_coding_is_undone(charset, coding):
    message = EmailMessage()
    message["Subject"] = "Grüße aus Köln"
    message.set_content("Schöne Grüße für 5 €\n", charset=charset, cte=coding)
    text = read_mail(message.as_bytes())
    assert text.text == "Schöne Grüße für 5 €\n"
    assert text.title == "Grüße aus Köln"
    assert text.encoding == codecs.lookup(charset).name


@pytest.mark.parametrize("said", [b"; charset=ascii", b"; charset=no-such-thing", b""])
def test_a_charset_that_does_not_fit_is_not_believed(said):
    payload = mail("naïve café, déjà vu".encode(), b"Content-Type: text/plain" + said)
    assert read_mail(payload).text == "naïve café, déjà vu\n"


def test_plain_text_comes_before_html_and_attachments_are_not_read():
    message = EmailMessage()
    message.set_content("plain words\n")
    message.add_alternative("<p>marked words</p>", subtype="html")
    message.add_attachment(b"attached words", maintype="text", subtype="plain", filename="a.txt")
    assert read_mail(message.as_bytes()).text == "plain words\n"


def test_html_is_read_where_nothing_else_is():
    message = EmailMessage()
    message.set_content(
        "<html><body><p>Only these marked words, which are many enough to be a text.</p></body>",
        subtype="html",
    )
    assert "Only these marked words" in read_mail(message.as_bytes()).text


def test_quotes_attributions_and_signatures_are_left_out():
    body = (
        b"Hello,\n\nOn Tue, 1 Apr 2003 at 09:00, Bob Long\n<bob@example.org> wrote:\n> an older\n"
        b">> and oldest\n\nmy answer\n\nBob writes:\n> more\n\nthe end.\n-- \nAda, +44 1234\n"
    )
    assert read_mail(mail(body)).text == "Hello,\n\nmy answer\n\nthe end.\n"


def test_a_forwarded_message_below_is_left_out():
    body = b"See below.\n\n-----Original Message-----\nFrom: x@example.org\n\nlong story\n"
    assert read_mail(mail(body)).text == "See below.\n"


def test_flowing_lines_become_paragraphs():
    kind = b"Content-Type: text/plain; format=flowed"
    body = b"A long \nline.\nAnother.\n\n From here \non.\n-- \nAda\n"
    assert read_mail(mail(body, kind)).text == "A long line.\nAnother.\n\nFrom here on.\n"


def test_no_address_of_the_headers_is_in_the_text():
    text = read_mail(mail(b"words\n", b"Cc: carol@example.org", b"Subject: A\n subject"))
    assert "@" not in text.text + text.title
    assert text.title == "A subject"


@pytest.mark.parametrize(
    ("payload", "reason"),
    [
        (mail(b""), "empty"),
        (mail(b"> all quoted\n"), "empty"),
        (mail(b"x", b"Content-Type: image/png"), "no text part"),
        (mail(b"x", b"Content-Type: multipart/encrypted; boundary=a"), "encrypted"),
        (mail(b"x", b"Content-Type: application/pkcs7-mime; smime-type=enveloped-data"), "encry"),
    ],
)
def test_what_has_no_text_says_why(payload, reason):
    with pytest.raises(Unreadable, match=reason):
        read_mail(payload)


def test_parts_nested_without_end_are_refused():
    payload = HEADERS
    for number in range(3000):
        payload += b'Content-Type: multipart/mixed; boundary="%d"\n\n--%d\n' % (number, number)
    with pytest.raises(Unreadable):
        read_mail(payload + b"\ntext\n")
