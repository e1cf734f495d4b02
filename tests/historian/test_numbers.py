"""Numbers out of messages that nobody described: what is one, what is not, and what time they have."""

import json
import math
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from skerry.historian.numbers import MOST_FIELDS, numbers_of

AT = 1_795_545_600_000_000


def only(payload: bytes) -> tuple[int, dict[str, float]]:
    found = numbers_of(payload)
    assert found is not None
    assert len(found) == 1
    return found[0]


def test_every_number_of_an_object_by_its_path() -> None:
    payload = {"temperature": 21.5, "power": {"phase": {"a": 3, "b": -1}, "on": True}, "name": "x", "list": [1, 2], "none": None}
    assert only(json.dumps(payload).encode()) == (-1, {"temperature": 21.5, "power.phase.a": 3.0, "power.phase.b": -1.0})


@pytest.mark.parametrize(("payload", "value"), [(b"21.5", 21.5), (b" 7 ", 7.0), (b"-1e3", -1000.0)])
def test_one_number_as_text(payload: bytes, value: float) -> None:
    assert only(payload) == (-1, {"value": value})


@pytest.mark.parametrize(
    ("time", "microseconds"),
    [
        (AT / 1e6, AT),
        (AT // 1000, AT),
        ("2026-11-24T20:00:00Z", 1_795_550_400_000_000),
        ("2026-11-24T21:00:00+01:00", 1_795_550_400_000_000),
    ],
)
@pytest.mark.parametrize("field", ["ts", "time", "timestamp"])
def test_the_time_is_read_and_is_no_value(field: str, time: Any, microseconds: int) -> None:
    assert only(json.dumps({field: time, "x": 1}).encode()) == (microseconds, {"x": 1.0})


@pytest.mark.parametrize("time", [12, -5, 1e300, True, [], None])
def test_what_is_no_plausible_time_is_left_as_it_is(time: Any) -> None:
    when, numbers = only(json.dumps({"ts": time, "x": 1}).encode())
    assert when == -1
    assert numbers == {"x": 1.0} | ({"ts": float(time)} if isinstance(time, int | float) and time is not True else {})


def test_a_word_that_is_no_time_does_not_hide_the_next_field() -> None:
    assert only(b'{"ts": "soon", "time": 1795545600, "x": 1}') == (AT, {"x": 1.0})


def test_an_array_is_several_samples() -> None:
    assert numbers_of(b'[{"ts": 1795545600, "x": 1}, {"ts": 1795545601, "x": 2}]') == [(AT, {"x": 1.0}), (AT + 10**6, {"x": 2.0})]
    assert numbers_of(b"[1, 2]") == [(-1, {"value": 1.0}), (-1, {"value": 2.0})]
    assert numbers_of(b"[]") == []


@pytest.mark.parametrize("payload", [b"", b"on", b'"7"', b"null", b"true", b"{", b"\xff", b"NaN", b'["a"]', b"[1, null]"])
def test_what_holds_no_number_is_none(payload: bytes) -> None:
    assert numbers_of(payload) is None


def test_depth_and_fields_are_bounded() -> None:
    deep: Any = 1
    for _ in range(2000):
        deep = {"a": deep}
    assert numbers_of(json.dumps({f"f{at}": at for at in range(1000)}).encode()) is not None
    assert len(only(json.dumps({f"f{at}": at for at in range(1000)}).encode())[1]) == MOST_FIELDS
    nested: Any = 1
    for _ in range(20):
        nested = {"a": nested}
    assert only(json.dumps(nested).encode()) == (-1, {})
    try:
        payload = json.dumps(deep).encode()
    except RecursionError:
        payload = b'{"a":' * 2000 + b"1" + b"}" * 2000
    assert numbers_of(payload) in (None, [(-1, {})])


def test_numbers_beyond_a_float_are_none() -> None:
    assert only(b'{"x": 1' + b"0" * 400 + b', "y": 2}')[1] == {"y": 2.0}


LEAVES = st.none() | st.booleans() | st.floats() | st.integers() | st.text()


@settings(max_examples=50, deadline=None)
@given(st.recursive(LEAVES, lambda inner: st.dictionaries(st.text(), inner)))
def test_whatever_comes_only_finite_numbers_leave(item: Any) -> None:
    for time, numbers in numbers_of(json.dumps(item).encode()) or []:
        assert time == -1 or 10**15 <= time < 10**17
        assert all(math.isfinite(value) for value in numbers.values())
