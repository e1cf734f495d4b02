"""Server-sent events survive the way out and back."""

from hypothesis import given
from hypothesis import strategies as st

from skerry.http import Message, MessageParser, comment, message

# what a line of a stream may hold; U+0085 and its kin are no line ends here, but str.splitlines() takes them for one
TEXT = st.text(st.characters(exclude_characters="\r\n", exclude_categories=["Cs"]))


def parse(raw: bytes) -> list[Message]:
    parser = MessageParser()
    found = [parser.feed(line) for line in raw.decode().split("\n")]
    return [each for each in found if each is not None]


@given(st.lists(st.tuples(st.lists(TEXT, min_size=1, max_size=3), st.integers(0, 9), st.booleans()), max_size=5))
def test_round_trip(events: list[tuple[list[str], int, bool]]) -> None:
    raw = b"".join(
        message("\n".join(lines).encode(), event="event", id=str(number)) + (comment("alive") if beat else b"")
        for lines, number, beat in events
    )
    assert parse(raw) == [Message("\n".join(lines), "event", str(number)) for lines, number, _ in events]


def test_an_event_without_name_and_id() -> None:
    assert message(b"{}") == b"data: {}\n\n"
    assert parse(message(b"{}")) == [Message("{}", "message", "")]


def test_the_last_id_stays_and_an_event_name_does_not() -> None:
    raw = message(b"1", event="a", id="7") + message(b"2")
    assert parse(raw) == [Message("1", "a", "7"), Message("2", "message", "7")]


def test_what_is_no_event_gives_none() -> None:
    assert parse(b"retry: 2000\n\n" + comment("alive") + b"event: x\n\n" + b"unknown: 1\n\n" + b"data: cut off") == []


def test_one_space_after_the_colon_goes() -> None:
    assert parse(b"data:x\ndata:  y\ndata\n\n") == [Message("x\n y\n")]


def test_an_id_with_a_zero_is_ignored() -> None:
    assert parse(b"id: 1\n\ndata: a\nid: 2\0\n\n") == [Message("a", "message", "1")]
