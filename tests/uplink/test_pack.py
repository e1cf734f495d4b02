"""Items as columns: all come back byte for byte, ids that can be computed take no room, what does not fit together is refused."""

from typing import Any

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from skerry.core.errors import CorruptError
from skerry.pipeline.rule import digest
from skerry.uplink.columns import column, spread
from skerry.uplink.envelope import MOST_ENVELOPE
from skerry.uplink.event_columns import EventColumns
from skerry.uplink.item import Item
from skerry.uplink.pack import pack, unpack

START = 1_700_000_000_000
NUMBERS = st.none() | st.integers(-(2**53), 2**53) | st.floats() | st.sampled_from([0, 0.0, -0.0, 0.1, 1e300])
TEXTS = st.none() | st.text(max_size=4) | st.sampled_from(["firing", "cleared", "info", "critical", "n1"])
IDS = st.one_of(st.text(max_size=5), st.binary(max_size=12).map(bytes.hex), st.sampled_from(["ff00", "00", "0A", "0", ""]))


def event(**changes: Any) -> bytes:
    """A body as `notice` writes it."""
    fields = {
        "withheld": 0, "start": START, "end": START + 1000, "key": "pump-1", "node": "n1", "count": 10, "score": 0.5,
        "label": "leak", "state": "firing", "severity": "critical", "features": [[], [], []],
        "model": "pump", "version": "1", "latency_ms": 0,
        "alarm_id": None, "flaps": 0, **changes,
    }  # fmt: skip
    return msgspec.msgpack.encode(list(fields.values()))


def item(body: bytes, identity: str = "x", time: int = (START + 1000) * 1000, kind: Any = "event", pipeline: str = "p") -> Item:
    return Item(kind, "alarm", identity, pipeline, time, 1, body)


def named(state: str, at: int, key: str = "pump-1", **changes: Any) -> Item:
    """An event with the ids that the pipelines give."""
    start, end = START + 1000 * at, START + 1000 * at + 1000
    identity = digest("p", key, str(start * 1000), str(end * 1000), "0", state)
    return item(event(start=start, end=end, key=key, state=state, **changes), identity, end * 1000)


def there_and_back(items: list[Item]) -> bytes:
    numbered = [(7 + at * at, each) for at, each in enumerate(items)]
    packed = pack(numbered, "n1")
    assert unpack(packed, 7, len(items), "alarm", "n1", MOST_ENVELOPE) == numbered
    return packed


@st.composite
def items(draw: st.DrawFn) -> Item:
    kind = draw(st.sampled_from(["event", "event", "event", "rollup", "raw"]))
    body = draw(st.binary(max_size=8))
    if kind == "event" and draw(st.booleans()):
        many = draw(st.integers(0, 3))
        features = [[f"v{at}" for at in range(many)], ["mean", "max"], [draw(NUMBERS) for _ in range(2 * many)]]
        body = event(
            key=draw(TEXTS), node=draw(TEXTS), score=draw(NUMBERS), label=draw(TEXTS | NUMBERS), state=draw(TEXTS),
            count=draw(NUMBERS), severity=draw(TEXTS), features=features,
            alarm_id=draw(st.none() | IDS), withheld=draw(st.integers(0, 9)), start=draw(st.integers(0, START)),
        )  # fmt: skip
    return item(body, draw(IDS), draw(st.integers(0, 2**52)), kind, draw(st.sampled_from(["p", "q"])))


@given(st.lists(items(), min_size=1, max_size=6))
def test_any_items_come_back(found: list[Item]) -> None:
    numbered = [(7 + at, each) for at, each in enumerate(found)]
    back = unpack(pack(numbered, "n1"), 7, len(found), "alarm", "n1", MOST_ENVELOPE)
    # NaN is in bytes here, and bytes are equal
    assert back == numbered


def test_ids_that_can_be_computed_take_no_room() -> None:
    alarm = digest("p", "pump-1", "alarm", str(START * 1000))
    fired, cleared = named("firing", 0, alarm_id=alarm), named("cleared", 5, alarm_id=alarm)
    again = named("cleared", 9, key="pump-2", alarm_id="0" * 24)
    packed = there_and_back([fired, cleared, again])
    assert alarm.encode() not in packed
    assert bytes.fromhex(alarm) not in packed
    assert all(bytes.fromhex(each.id) not in packed for each in (fired, cleared, again))
    assert bytes(12) in packed  # nobody knows how that was made
    one = there_and_back([named("firing", 0, alarm_id=alarm)])
    assert len(one) < 100
    assert len(there_and_back([named("firing", at, alarm_id=alarm) for at in range(50)])) < 50 * 8


def test_ids_of_another_making_go_as_they_are() -> None:
    masked = msgspec.structs.replace(named("firing", 0, alarm_id="ab" * 16), id="cd" * 16)
    packed = there_and_back([masked, item(event(key=None)), item(event(alarm_id="a-1"), "e-1")])
    assert bytes.fromhex("cd" * 16) in packed
    assert b"e-1" in packed


def test_an_event_of_another_form_goes_as_it_is() -> None:
    longer = msgspec.msgpack.encode([*msgspec.msgpack.decode(event()), "more"])
    uneven = event(features=[["x"], ["mean"], []])
    there_and_back([item(longer), item(event()), item(uneven), item(b""), item(b"\x93", kind="raw")])


def test_a_column_tells_like_numbers_apart() -> None:
    assert column([1, 1, 1]) == 1
    for values in ([1, 1.0], [0.0, -0.0], ["1", 1], [None, 0]):
        assert repr(spread(column(values), 2)) == repr(values)
    with pytest.raises(CorruptError, match="a column of 2 for 3"):
        spread([1, 2], 3)


def broken(**changes: Any) -> bytes:
    """One firing event, and something wrong with it."""
    whole = msgspec.msgpack.decode(pack([(1, item(event()))], "n1"))
    fields = list(EventColumns.__struct_fields__)
    for name, value in changes.items():
        if name in fields:
            whole[9][fields.index(name)] = value
        else:
            whole[("steps", "kinds", "ids", "pipelines", "unit", "time", "times", "rows", "bodies").index(name)] = value
    return msgspec.msgpack.encode(whole)


@pytest.mark.parametrize(
    "changes",
    [
        {"kinds": 4}, {"kinds": -1}, {"kinds": 1}, {"kinds": [0, 0]}, {"ids": None}, {"bodies": [b"x"]}, {"steps": [1]},
        {"time": 1 << 63}, {"alarm_id": 1}, {"alarm_id": -1}, {"named": 1},
        {"numbers": [8]}, {"score": b"123"}, {"state": 99}, {"ids": b"\xff\xff"},
        {"named": -2}, {"key": "\ud800"}, {"unit": 1 << 63, "time": 1 << 60}, {"lasted": -(1 << 62), "time": 1 << 61},
    ],
)  # fmt: skip
def test_what_does_not_fit_together_is_refused(changes: dict[str, Any]) -> None:
    if "key" in changes:
        packed = broken(key="KEY").replace(b"KEY", b"\xed\xa0\x80")
    else:
        packed = broken(**changes)
    with pytest.raises(CorruptError):
        unpack(packed, 1, 1, "alarm", "n1", MOST_ENVELOPE)


@given(st.binary(max_size=80))
def test_rubbish_is_refused(rubbish: bytes) -> None:
    with pytest.raises(CorruptError):
        unpack(rubbish, 1, 3, "alarm", "n1", MOST_ENVELOPE)
