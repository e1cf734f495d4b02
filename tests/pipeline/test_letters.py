"""Which dead letters a filter takes, and what is shown of one that is looked into."""

import base64

import pytest
from hypothesis import given
from hypothesis import strategies as st

from skerry.pipeline import DeadLetter, LetterFilter, look_inside
from skerry.pipeline.event import window_letter
from skerry.pipeline.letters import MOST_VALUES
from skerry.window.state import Closed

LATE = DeadLetter(7, "late", "why", "devices/d/v", "d", 1_000_000, b"x")
WINDOW = window_letter(Closed("w", 1_000_000, 2_000_000, [1.0, 7.0, 2.0, 8.0], 2, 3), "feature-error", "why", 9)


def test_without_anything_all_are_meant() -> None:
    assert LetterFilter().all
    assert LetterFilter().takes(LATE)
    assert LetterFilter().takes(WINDOW)


@pytest.mark.parametrize(
    ("which", "message", "window"),
    [
        (LetterFilter(ids=frozenset({"7"})), True, False),
        (LetterFilter(ids=frozenset({"w@2000000"})), False, True),
        (LetterFilter(ids=frozenset({"7", "w@2000000"})), True, True),
        (LetterFilter(reason="late"), True, False),
        (LetterFilter(reason="lat"), False, False),
        (LetterFilter(key="w"), False, True),
        (LetterFilter(reason="late", key="w"), False, False),
        (LetterFilter(ids=frozenset({"7"}), reason="nan"), False, False),
    ],
)
def test_a_filter_takes_what_fits_all_that_it_says(which: LetterFilter, message: bool, window: bool) -> None:
    assert not which.all
    assert (which.takes(LATE), which.takes(WINDOW)) == (message, window)


@given(st.binary(max_size=200))
def test_a_message_is_shown_as_it_came(payload: bytes) -> None:
    shown = look_inside(DeadLetter(1, "undecodable", "", "t", "", 0, payload))
    text = shown.get("payload")
    assert payload == (text.encode() if text is not None else base64.b64decode(shown["payload_base64"]))


def test_a_window_is_shown_with_its_numbers() -> None:
    assert look_inside(WINDOW)["window"] == {
        "start": "1970-01-01T00:00:01.000Z", "end": "1970-01-01T00:00:02.000Z", "samples": 2, "values": [1.0, 7.0, 2.0, 8.0],
    }  # fmt: skip
    assert look_inside(WINDOW)["messages"] == 3


def test_a_window_that_is_long_is_shown_by_its_first_numbers_and_one_that_was_not_kept_without() -> None:
    long = window_letter(Closed("w", 0, 1, [0.5] * 30_000, 15_000, 1), "feature-error", "why", 9)
    inside = look_inside(long)["window"]
    assert (len(inside["values"]), inside["samples"]) == (MOST_VALUES, 15_000)
    assert "window" not in look_inside(DeadLetter(7, "feature-error", "why", "", "w", 7_000_000, b"", 12, True))
