"""The pipelines that the fault tests run, and the reckoning: which message is in which window, how often, and what is left over."""

from collections import Counter, defaultdict
from collections.abc import Iterable, Sequence
from typing import Any

import msgspec

from skerry.core.clock import to_rfc3339
from tests.fixtures.node import RunningNode, until
from tests.system.fleet import Device, Fleet

SECOND = 1_000_000
PIPELINE = """
[[pipelines]]
name = "{name}"
source = {{ topic = "devices/+/numbers", time = "ts", values = ["n"], max_future = "10m" }}
window = {{ kind = "tumbling", size = "1s", lateness = "{lateness}" }}
features = ["count", "min", "max", "sum"]
dedup = "{dedup}"
"""
ONCE, EVERY = "once", "every"
BOTH = PIPELINE.format(name=ONCE, dedup="time", lateness="30s") + PIPELINE.format(name=EVERY, dedup="off", lateness="30s")


class Account(msgspec.Struct):
    """What came of a fleet's messages.

    Attributes:
        resent: messages that the log holds twice since their PUBACK was lost on the way.
    """

    acknowledged: int
    windows: int
    resent: int


def windows_of(devices: Iterable[Device]) -> dict[tuple[str, str], list[int]]:
    """Serial numbers by device and start of their window."""
    found: dict[tuple[str, str], list[int]] = defaultdict(list)
    for device in devices:
        for serial, stamp in enumerate(device.times):
            found[device.name, to_rfc3339(stamp - stamp % SECOND)].append(serial)
    return found


def numbers(event: dict[str, Any]) -> tuple[float, float, float, float]:
    """count, min, max and sum of the serial numbers in an event's window."""
    features = event["features"]
    return features["n_count"], features["n_min"], features["n_max"], features["n_sum"]


def check_unique(events: list[dict[str, Any]]) -> None:
    """No id, and no time window of a device, is in the event log twice."""
    for name in ("id", "start"):
        counts = Counter((event["key"], event[name]) for event in events)
        assert [each for each, count in counts.items() if count > 1] == []


def check_ids(events: list[dict[str, Any]]) -> None:
    """No id is in the event log twice."""
    counts = Counter(event["id"] for event in events)
    assert [each for each, count in counts.items() if count > 1] == []


def settle(node: RunningNode, fleet: Fleet, before: Sequence[Device] = (), seconds: float = 30.0) -> None:
    """End the load, and wait until all is acknowledged, processed and closed but for the devices' last messages.

    `before`: devices of fleets that were settled before on this node.
    """
    fleet.stop()
    until(lambda: fleet.unacknowledged == 0, seconds, "every message is acknowledged")
    fleet.close_windows()
    until(lambda: fleet.unacknowledged == 0, seconds, "every message is acknowledged")
    devices = [*before, *fleet.devices]
    wanted = sum(len(device.times) for device in devices)

    def through() -> bool:
        status = node.try_status()
        books = {row["name"]: row["ledger"] for row in status["pipelines"]} if status else {}
        once, every = books.get(ONCE, {}), books.get(EVERY, {})
        if not books or once["received"] < wanted or every["received"] != once["received"]:
            return False
        return bool(once["open"] <= len(devices) and once["scored"] + once["open"] >= wanted)

    try:
        until(through, seconds, "every message is processed")
    except AssertionError as error:
        raise AssertionError(f"{error}: {wanted} wanted, {node.try_status()}\n{node.output[-3000:]}") from error


def check(node: RunningNode, devices: Sequence[Device]) -> Account:
    """The books of both pipelines close, and every window holds what was acknowledged: once, and in one window only."""
    once, every = node.events(ONCE), node.events(EVERY)
    again = check_windows(once, every, devices)
    last = _last(devices)
    books = {name: node.pipeline(name)["ledger"] for name in (ONCE, EVERY)}
    for each in books.values():
        assert (each["difference"], each["dead_letters"], each["given_up"]) == (0, {}, 0), books
    again += books[EVERY]["open"] - len(last - {(event["key"], event["start"]) for event in every})
    sent = sum(len(device.times) for device in devices)
    assert books[ONCE]["received"] == books[EVERY]["received"] == sent + again
    assert books[ONCE]["duplicates"] == again
    return Account(sum(len(device.acknowledged) for device in devices), len(once), again)


def check_windows(once: list[dict[str, Any]], every: list[dict[str, Any]], devices: Sequence[Device]) -> int:
    """By the events of both pipelines every window is there and whole, once; how many messages came twice where that is counted."""
    expected, last = windows_of(devices), _last(devices)
    for events in (once, every):
        check_unique(events)
        places = {(event["key"], event["start"]) for event in events}
        assert places <= set(expected), places - set(expected)
        assert set(expected) - places <= last, set(expected) - places - last
    for event in once:
        serials = expected[event["key"], event["start"]]
        assert numbers(event) == (len(serials), serials[0], serials[-1], sum(serials)), event
    again = 0
    for event in every:
        serials, found = expected[event["key"], event["start"]], numbers(event)
        assert found[1:3] == (serials[0], serials[-1]), event
        assert found[0] >= len(serials), event
        again += int(found[0]) - len(serials)
    return again


def missing(events: list[dict[str, Any]], devices: Sequence[Device]) -> set[tuple[str, str]]:
    """Windows (device, start) that have no event yet, but for the devices' last ones."""
    return set(windows_of(devices)) - {(event["key"], event["start"]) for event in events} - _last(devices)


def _last(devices: Sequence[Device]) -> set[tuple[str, str]]:
    return {(device.name, to_rfc3339(device.times[-1] - device.times[-1] % SECOND)) for device in devices}
