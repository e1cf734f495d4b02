"""The uplink's rows: what is measured is real messages and real bytes."""

import asyncio
import json

from bench.uplink import (
    DEVICES,
    EACH,
    SEGMENT,
    Meter,
    Wire,
    as_they_leave,
    broker,
    bytes_of,
    demo_messages,
    raw_messages,
    saved,
)
from bench.uplink_wire import KINDS, node_of
from skerry.core.settings import build
from skerry.uplink import UplinkConfig, encode_envelope
from skerry.uplink.envelope import read_envelope
from skerry.uplink.item import Item


def test_raw_messages_are_of_devices_in_turn() -> None:
    found = raw_messages(1)
    assert len(found) == DEVICES * EACH == 1000
    assert len({topic for topic, _ in found}) == DEVICES
    assert all(set(json.loads(payload)) == {"ts", "vibration_x", "vibration_y", "vibration_z"} for _, payload in found)
    assert raw_messages(1) == found != raw_messages(2)


def test_the_demo_s_messages_are_the_demo_s() -> None:
    found = demo_messages(3)
    assert len(found) == 18_000
    assert 590_000_000 < found[-1][2] - found[0][2] < 630_000_000
    assert found[0][0].startswith("devices/pump-")


def test_bytes_are_those_of_both_directions_with_headers() -> None:
    with broker() as port:
        few, many = (bytes_of(port, [("a/b", b"x" * 100)] * count, f"c-{count}") for count in (10, 20))
        # a PUBLISH of 109 bytes and a PUBACK of 4, and a segment or two each way
        assert 10 * (113 + 2 * SEGMENT) <= few <= 10 * (113 + 4 * SEGMENT)
        assert 1.6 < many / few < 2.4

        async def through() -> tuple[int, int]:
            meter = Meter(port)
            wire = await asyncio.to_thread(Wire, await meter.start(), "through")
            before = meter.cost(), wire.cost()
            await asyncio.to_thread(wire.publish, "a/b", b"x" * 100, 1)
            after = meter.cost(), wire.cost()
            wire.close()
            await meter.close()
            return after[0] - before[0], after[1] - before[1]

        seen, told = asyncio.run(through())
        assert abs(seen - told) <= 2 * SEGMENT
        assert seen >= 113 + 2 * SEGMENT


def test_alarms_leave_at_once_and_then_together() -> None:
    items = [
        (number, Item("event", "alarm", f"e{number}", "p", at * 1_000_000, 1, b"x"))
        for number, at in enumerate((10, 15, 39, 41, 90))
    ]
    envelope = encode_envelope("n", "s", "e", "alarm", items)
    for alarms, groups in (("30s", [1, 2, 1, 1]), ("0s", [1] * 5), ("1h", [1, 4])):
        settings: UplinkConfig = build(UplinkConfig, {"batch": {"alarms": alarms}}, "uplink")
        found = [read_envelope(each).items for each in as_they_leave([envelope], settings)]
        assert [len(each) for each in found] == groups
        assert [item for each in found for item in each] == items


def test_the_node_on_the_wire_is_the_demo_s_and_sends_its_alarms() -> None:
    for more in KINDS.values():
        text = node_of("mqtt://10.0.0.1:1883", more)
        assert text.count('"uplink"]') == 1
        assert more in text


def test_the_ratio_says_how_many_times_less() -> None:
    row = saved("n", "f", "≥ 50", [10.0, 20.0, 30.0], [1000.0, 2000.0, 3000.0])
    assert (row.skerry, row.peer, row.ratio, row.goal) == (20.0, 2000.0, 100.0, "ratio ≥ 50")
    assert saved("n", "f", "", [1.0], [1.0]).goal == ""
