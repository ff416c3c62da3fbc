import io
import mailbox

from hypothesis import given
from hypothesis import strategies as st

from datalake.sources.files.mailboxes import Message, messages

BETWEEN = b"From ada@example.org Tue Apr  1 10:00:00 2003\n"


def message(number: int, body: bytes = b"words\n") -> bytes:
    return b"Message-ID: <%d@example.org>\nSubject: S\n\n%s" % (number, body)


def read(data: bytes, max_bytes: int = 1 << 20) -> list[Message]:
    return list(messages(io.BytesIO(data), max_bytes))


def test_messages_are_what_another_program_put_in(tmp_path):
    box = mailbox.mbox(tmp_path / "box")
    for number in range(3):
        box.add(message(number, b"one\n\nFrom here on\n"))
    box.close()
    found = read((tmp_path / "box").read_bytes())
    assert [m.position for m in found] == [f"<{n}@example.org>" for n in range(3)]
    assert found[0].payload == message(0, b"one\n\n>From here on\n")


def test_a_line_of_a_body_does_not_end_the_message():
    body = b"one\n\nFrom here on it goes\nFrom x Tue Apr 1 10:00:00 2003\n"
    assert [m.payload for m in read(BETWEEN + message(1, body))] == [message(1, body)]


@given(st.lists(st.binary(max_size=50).map(lambda b: b.replace(b"From ", b"")), max_size=5))
def test_every_message_lies_where_it_says(bodies):
    data = b"".join(BETWEEN + message(n, body) + b"\n\n" for n, body in enumerate(bodies))
    found = read(data)
    assert len(found) == len(bodies)
    for number, m in enumerate(found):
        assert m.payload == data[m.offset : m.offset + m.length]
        assert m.payload.rstrip(b"\r\n") == message(number, bodies[number]).rstrip(b"\r\n")


def test_a_message_before_others_does_not_change_their_positions():
    anonymous = b"Subject: none\n\nno identity\n"
    old = BETWEEN + anonymous + b"\n" + BETWEEN + message(1)
    new = BETWEEN + message(0) + b"\n" + old
    assert {m.position for m in read(old)} < {m.position for m in read(new)}


def test_a_message_larger_than_allowed_is_not_held():
    data = BETWEEN + message(0, b"x" * 99_999 + b"\n") + b"\n" + BETWEEN + message(1)
    first, second = read(data, max_bytes=5000)
    assert first.payload is None and first.length > 99_999
    assert second.payload == message(1)
