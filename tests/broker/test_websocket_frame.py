"""Frames of a WebSocket's client: those of binary messages are read, all others are odd."""

import struct

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from skerry.broker.connect_packet import MOST, Odd
from skerry.broker.websocket_frame import Frame, answer_frame, frame, read_frame


def masked(content: bytes, mask: bytes, first: int = 0x82) -> bytes:
    """A frame as RFC 6455 describes it, byte by byte."""
    size = len(content)
    if size < 126:
        head = bytes([first, 0x80 | size])
    elif size < 65_536:
        head = bytes([first, 0xFE]) + struct.pack(">H", size)
    else:
        head = bytes([first, 0xFF]) + struct.pack(">Q", size)
    return head + mask + bytes(byte ^ mask[at % 4] for at, byte in enumerate(content))


@given(st.binary(max_size=300), st.binary(min_size=4, max_size=4), st.binary(max_size=9))
@example(b"x" * 125, b"abcd", b"")
@example(b"x" * 126, b"abcd", b"more")
@example(b"x" * 65_535, b"\xff\0\xff\0", b"")
@example(b"x" * 65_536, b"abcd", b"")
def test_a_frame_is_read_whatever_its_mask(content: bytes, mask: bytes, after: bytes) -> None:
    sent = masked(content, mask)
    assert read_frame(sent + after) == Frame(content, len(sent), True)
    assert read_frame(after + sent, len(after)) == Frame(content, len(after + sent), True)
    written = frame(content)
    assert written == masked(content, bytes(4))
    assert read_frame(written) == Frame(content, len(written), True)
    begun = frame(content, final=False)
    assert begun == masked(content, bytes(4), 0x02)
    assert read_frame(begun) == Frame(content, len(written), False)


@given(st.binary(max_size=200), st.data())
def test_a_frame_that_is_not_there_whole_is_waited_for(content: bytes, data: st.DataObject) -> None:
    sent = masked(content, b"mask")
    assert read_frame(sent[: data.draw(st.integers(0, len(sent) - 1))]) is None


def test_the_example_of_the_standard() -> None:
    """RFC 6455, section 5.7: a masked "Hello", there as text."""
    sent = bytes([0x82, 0x85, 0x37, 0xFA, 0x21, 0x3D, 0x7F, 0x9F, 0x4D, 0x51, 0x58])
    assert read_frame(sent) == Frame(b"Hello", 11, True)


def test_pieces_of_a_message_come_in_turn() -> None:
    """RFC 6455, section 5.4: the first has the kind, those that follow have none, the last is marked."""
    sent = masked(b"one", b"mask", 0x02) + masked(b"two", b"MASK", 0x00) + masked(b"three", b"mask", 0x80)
    at, found = 0, []
    while at < len(sent):
        piece = read_frame(sent, at, goes_on=bool(found))
        assert piece is not None
        found.append((piece.content, piece.final))
        at = piece.end
    assert found == [(b"one", False), (b"two", False), (b"three", True)]
    with pytest.raises(Odd):
        read_frame(sent, goes_on=True)
    with pytest.raises(Odd):
        read_frame(sent, 9)


def test_what_a_server_says_is_not_masked() -> None:
    assert answer_frame(b"\x20\x02\x00\x01") == b"\x82\x04\x20\x02\x00\x01"


@pytest.mark.parametrize(
    "sent",
    [
        masked(b"part", b"mask", 0x00),
        masked(b"text", b"mask", 0x81),
        masked(b"", b"mask", 0x89),
        masked(b"gone", b"mask", 0x88),
        masked(b"squeezed", b"mask", 0xC2),
        b"\x82\x05Hello",
        b"\x82\xff" + struct.pack(">Q", MOST + 1),
        b"\x10\x0d\0\4MQTT",
    ],
    ids=["a piece", "text", "a ping", "a close", "compressed", "not masked", "too long", "no frame"],
)
def test_other_frames_are_odd(sent: bytes) -> None:
    with pytest.raises(Odd):
        read_frame(sent)


@given(st.binary(max_size=60))
def test_rubbish_is_odd_or_waited_for_and_never_something_else(data: bytes) -> None:
    try:
        found = read_frame(data)
    except Odd:
        return
    assert found is None or found.end <= len(data)
