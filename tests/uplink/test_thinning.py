"""Thinning: less is said about the same, nothing is said twice, and what can say no less stays."""

from itertools import pairwise

import pytest

from skerry.core.errors import CorruptError
from skerry.uplink.item import Item
from skerry.uplink.thinning import thin
from tests.uplink.rig import START, after, gatherer, happening, message, pipeline, records


def raw_items(seconds: int, devices: str = "ab", pipelines: str = "p") -> list[Item]:
    specs = [pipeline({"select": ["raw"]}, source={"values": ["x", "y"]}, name=name) for name in pipelines]
    found = gatherer(*specs, batch={"messages": 500})
    frames = [message(at, float(at), at / 10, device=device) for at in range(seconds) for device in devices]
    return found.feed(frames, [], 0) + found.finish()


def test_raw_becomes_minutes_and_minutes_hours() -> None:
    items = raw_items(7200)
    minutes = thin(items)
    assert sum(len(item.body) for item in minutes) < sum(len(item.body) for item in items) / 5
    assert {(item.kind, item.priority) for item in minutes} == {("rollup", "bulk")}
    rows = records(minutes)
    assert len(rows) == 2 * 120
    assert sum(row.values["x"]["count"] for row in rows) == 2 * 7200
    assert {row.width for row in rows} == {60}
    hours = thin(minutes)
    found = {(row.key, row.time): row for row in records(hours)}
    assert len(found) == 4
    first = found["a", START].values
    assert first["x"] == {"count": 3600, "min": 0.0, "max": 3599.0, "sum": 3599 * 1800.0, "last": 3599.0, "mean": 1799.5}
    assert first["y"]["sum"] == pytest.approx(3599 * 180.0, rel=1e-12)
    assert found["b", after(3600)].values["x"]["min"] == 3600.0
    assert thin(hours) == hours
    assert len({item.id for item in items + minutes + hours}) == len(items + minutes + hours)
    assert thin(items) == minutes  # the same ids, when it is done again


def test_pipelines_events_and_priorities_stay_apart() -> None:
    found = gatherer(pipeline({"select": ["event"]}))
    event = found.feed([], [happening(1, 0, 1)], 0)
    items = raw_items(100, pipelines="pq")
    thinned = thin([*event, *items])
    assert thinned[0] == event[0]
    assert sorted(item.pipeline for item in thinned[1:]) == ["p", "q"]
    with pytest.raises(CorruptError):
        thin([Item("raw", "bulk", "i", "p", 0, 1, b"x")])
    assert thin([]) == []


def test_large_ones_are_cut() -> None:
    devices = [f"d{at}" for at in range(500)]
    found = gatherer(pipeline({"select": ["raw"]}), batch={"messages": 10_000})
    frames = [message(at, 1.0, at=at * 60, device=device) for at in range(20) for device in devices]
    minutes = thin(found.feed(frames, [], 0) + found.finish())
    assert [item.rows for item in minutes] == [4096, 4096, 1808]
    rows = records(minutes)
    assert all(one.sequence <= other.sequence for one, other in pairwise(rows))
    assert {row.key for row in rows} == set(devices)
