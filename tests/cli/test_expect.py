"""Events as they came against events as they were expected."""

from copy import deepcopy
from itertools import zip_longest
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from skerry.cli.expect import differences, plain, read_expected
from skerry.core.errors import RejectedError
from tests.api.fake_view import event

EVENTS = [event(number) for number in range(3)]
VALUES = st.none() | st.booleans() | st.integers(-9, 9) | st.floats(allow_nan=False, allow_infinity=False) | st.text(max_size=3)
EVENT = st.dictionaries(st.sampled_from(["id", "key", "score", "features"]), VALUES | st.dictionaries(st.text(max_size=2), VALUES))


def test_the_same() -> None:
    assert differences(EVENTS, deepcopy(EVENTS)) == []
    assert differences([], []) == []


@given(st.lists(EVENT, max_size=4), st.lists(EVENT, max_size=4))
def test_something_is_said_exactly_when_something_differs(expected: list[dict[str, Any]], came: list[dict[str, Any]]) -> None:
    expected, came = plain(expected), plain(came)
    named = [
        other if one is None or "id" in one else {key: other[key] for key in one if key in other}
        for one, other in zip_longest(expected, came)
        if other is not None
    ]
    assert bool(differences(expected, came)) == (expected != named)


def test_missing_more_changed() -> None:
    changed = {**EVENTS[1], "score": 0.25, "features": {"x_mean": 2.0, "x_max": 3.0}}
    del changed["label"]
    assert differences(EVENTS, [changed, EVENTS[2], event(9)]) == [
        "missing: pump-1 2025-11-24T16:00:00.000Z (info)",
        "not expected: pump-1 2025-11-24T16:00:09.000Z (info)",
        "pump-1 2025-11-24T16:00:01.000Z (info): score should be 0.5, it is 0.25",
        "pump-1 2025-11-24T16:00:01.000Z (info): label should be null, it is absent",
        "pump-1 2025-11-24T16:00:01.000Z (info): features.x_mean should be 1.0, it is 2.0",
        "pump-1 2025-11-24T16:00:01.000Z (info): features.x_max should be absent, it is 3.0",
    ]


def test_order_counts() -> None:
    said = differences(EVENTS, [EVENTS[0], EVENTS[2], EVENTS[1]])
    assert said == [
        "the order differs: event 2 should be pump-1 2025-11-24T16:00:01.000Z (info), it is pump-1 2025-11-24T16:00:02.000Z (info)"
    ]


def test_events_without_ids_are_compared_by_place() -> None:
    bare = [{"key": "a", "score": 1.0}, {"key": "b", "score": 2.0}]
    assert differences(bare, [{"key": "a", "score": 1.5}]) == [
        "event 1: score should be 1.0, it is 1.5",
        "2 events expected, 1 came",
    ]


def test_an_event_without_an_id_names_what_counts() -> None:
    assert differences([{"key": "pump-1", "state": "info"}] * 3, EVENTS) == []
    assert differences([{"key": "pump-1"}, {"label": "worn"}, {}], EVENTS) == ['event 2: label should be "worn", it is null']
    assert differences([{"seen": True}, {}, {}], EVENTS) == ["event 1: seen should be true, it is absent"]


def test_a_thing_twice_is_a_difference() -> None:
    assert differences([EVENTS[0]], [EVENTS[0], EVENTS[0]]) == ["1 event expected, 2 came"]


def test_long_lists_are_cut() -> None:
    said = differences([event(number) for number in range(50)], [])
    assert len(said) == 21
    assert said[-1] == "and 30 more"


@pytest.mark.parametrize(
    "text",
    ['{"events": [{"id": "1"}], "messages": 3}', '[{"id": "1"}]', '{"id": "1"}', '\n{"id": "1"}\n\n'],
)
def test_files(tmp_path: Path, text: str) -> None:
    file = tmp_path / "expected"
    file.write_text(text)
    assert read_expected(file) == [{"id": "1"}]


def test_more_files(tmp_path: Path) -> None:
    file = tmp_path / "expected"
    file.write_text('{"id": "1"}\n{"id": "2"}\n')
    assert read_expected(file) == [{"id": "1"}, {"id": "2"}]
    file.write_text("")
    assert read_expected(file) == []
    file.write_text('{"id": "1"}\nrubbish\n')
    with pytest.raises(RejectedError, match="expected:2: is no JSON"):
        read_expected(file)
    file.write_text("[1]")
    with pytest.raises(RejectedError, match="holds something else than events"):
        read_expected(file)
    with pytest.raises(RejectedError, match="cannot be read: No such file"):
        read_expected(tmp_path / "none")
