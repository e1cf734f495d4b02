"""A pipeline proposed from messages: it reads them, and is what somebody would have written."""

import json
import tomllib

import pytest
from hypothesis import given
from hypothesis import strategies as st

from skerry.core.clock import SECOND
from skerry.core.errors import RejectedError
from skerry.pipeline import parse_pipeline, propose, run_messages
from skerry.pipeline.proposal import MOST_VALUES, Message

BEGAN = 1_764_000_000 * SECOND


def messages(count: int, every: float, *keys: str, topic: str = "devices/{}/motor", **row: object) -> list[Message]:
    """So many a key, each so many seconds apart, with the time in `ts` and a value `x`."""
    found = []
    for at in range(count):
        for key in keys or ("a",):
            moment = BEGAN + round(at * every * SECOND)
            found.append((topic.format(key), json.dumps({"ts": moment / SECOND, "x": at, **row}).encode(), moment))
    return found


def test_a_slow_and_a_fast_one() -> None:
    slow = propose("level", "devices/+/motor", messages(20, 1.0, "a", "b"))
    assert slow.table == {
        "name": "level",
        "source": {"topic": "devices/+/motor", "format": "json", "time": "ts", "values": ["x"]},
        "window": {"kind": "tumbling", "size": "10s", "by": "device", "lateness": "2s"},
        "features": ["mean", "std", "min", "max"],
        "sinks": ["event"],
    }
    assert slow.found == ["40 messages of 2 keys, x", "one message each 1 s a key: windows of 10s"]
    fast = propose("level", "devices/+/motor", messages(200, 0.01))
    assert (fast.table["window"]["size"], fast.table["features"][2]) == ("1s", "rms")
    assert propose("level", "devices/+/motor", messages(3, 7200.0)).table["window"]["size"] == "1h"


def test_its_toml_is_the_table() -> None:
    proposal = propose("level", "devices/+/motor", messages(20, 1.0, odd_ä={"un der": 5, "b": 1.5}))
    (table,) = tomllib.loads(proposal.toml)["pipelines"]
    assert table == proposal.table
    assert table["source"]["values"] == ["x", "odd_ä.un der", "odd_ä.b"]


@pytest.mark.parametrize(
    ("row", "time", "values"),
    [
        ({"v": 1}, "", ["v"]),
        ({"v": 1, "time": "2025-11-24T16:00:00Z"}, "time", ["v"]),
        ({"v": 1, "timestamp": 1_764_000_000_000}, "timestamp", ["v"]),
        ({"v": 1, "t": 21.5}, "", ["v", "t"]),
        ({"v": True, "w": None, "x": 2, "s": "text"}, "", ["x"]),
        ({"a": {"b": 1, "c": {"d": 2}}}, "", ["a.b", "a.c.d"]),
    ],
)
def test_time_and_numbers(row: dict[str, object], time: str, values: list[str]) -> None:
    source = propose("p", "devices/+/v", [("devices/a/v", json.dumps(row).encode(), BEGAN)]).table["source"]
    assert (source.get("time", ""), source["values"]) == (time, values)


def test_a_field_that_is_not_always_there_is_left_out() -> None:
    rows = [{"a": 1, "b": 1}, {"a": 1}, {"a": 1, "b": "none"}]
    made = [("devices/a/v", json.dumps(row).encode(), BEGAN + at) for at, row in enumerate(rows)]
    assert propose("p", "devices/+/v", made).table["source"]["values"] == ["a"]


def test_arrays_are_several_samples() -> None:
    batch = json.dumps([{"x": 1}] * 50).encode()
    made = [("devices/a/v", batch, BEGAN + at * SECOND) for at in range(5)]
    assert propose("p", "devices/+/v", made).table["window"]["size"] == "1s"


def test_lines_of_numbers() -> None:
    made = [("devices/a/v", b"1.5, 2", BEGAN + at * SECOND) for at in range(3)]
    assert propose("p", "devices/+/v", made).table["source"] == {"topic": "devices/+/v", "format": "text", "values": ["v1", "v2"]}
    assert propose("p", "devices/+/v", [("devices/a/v", b"21.5", BEGAN)]).table["source"]["values"] == ["value"]


def test_the_level_that_tells_devices_apart() -> None:
    found = propose("p", "plant/line/+/state", messages(3, 1.0, "a", "b", topic="plant/line/{}/state")).table
    assert found["source"]["key"] == "{3}"


@pytest.mark.parametrize(
    ("payloads", "sentence"),
    [
        ([], "no message came on devices/"),
        ([b'{"a": "text"}'], "no field is a number in every message"),
        ([b"\xff\xd8"], "neither JSON objects nor numbers"),
        ([b"INFO door closed"], "neither JSON objects nor numbers"),
        ([b"1 2", b"1"], "different numbers of numbers"),
    ],
)
def test_what_no_pipeline_reads(payloads: list[bytes], sentence: str) -> None:
    with pytest.raises(RejectedError, match=sentence):
        propose("p", "devices/+/v", [("devices/a/v", payload, BEGAN) for payload in payloads])


ROW = st.dictionaries(
    st.text(st.characters(codec="utf-8"), max_size=8),
    st.floats(allow_nan=False, allow_infinity=False, width=32) | st.text(max_size=3) | st.booleans() | st.none(),
    max_size=20,
)


@given(st.lists(ROW, min_size=1, max_size=5), st.floats(0.001, 100))
def test_what_is_proposed_reads_every_message(rows: list[dict[str, object]], every: float) -> None:
    made = [("devices/a/v", json.dumps(row).encode(), BEGAN + round(at * every * SECOND)) for at, row in enumerate(rows)]
    try:
        proposal = propose("p", "devices/+/v", made)
    except RejectedError:
        return
    (table,) = tomllib.loads(proposal.toml)["pipelines"]
    spec = parse_pipeline(table, "p")
    assert 0 < len(spec.source.values) <= MOST_VALUES
    answer = run_messages(spec, None, "n", iter(made))
    assert answer["dead_letters"] == []
