"""What a gatherer remembers is bounded: its checkpoint is one message of the broker, whatever comes; what had to go is counted."""

import random
from typing import Any

import pytest

from skerry.pipeline import ForwardSpec
from skerry.uplink.around import Kept, Ring
from skerry.uplink.flow import ROOM
from skerry.uplink.sieve import Sieve, size_of
from skerry.uplink.stretches import Stretches
from tests.uplink.rig import START, after, gatherer, message, pipeline, records

BROKER_TAKES = 8_000_000


@pytest.mark.parametrize(
    ("sink", "what"),
    [
        ({"select": ["1m", "1h"]}, "roll-ups early"),
        ({"select": ["event"], "around": {"before": "1h", "after": "1s"}}, "samples not kept"),
        ({"select": ["raw"], "deadband": 1e-9}, "devices forgotten"),
    ],
)
def test_a_checkpoint_fits_into_a_message_of_the_broker(sink: dict[str, Any], what: str) -> None:
    draw = random.Random(1)
    source = {"topic": "devices/+/v", "values": ["x", "y", "z"], "key": "{2}"}
    found = gatherer(*(pipeline(sink, source=source, name=name) for name in "ab"), batch={"messages": 10_000, "delay": "1h"})
    given = 0
    for step in range(4):
        frames = []
        for at in range(2000):
            device = f"{step}-{at}-{'long' * 20}"
            frames.append(message(step, *(draw.gauss(0, 1e9) for _ in "xyz"), device=device, at=step + at / 2000))
        given += len(frames)
        found.feed(frames, [], 0)
        assert len(found.snapshot()) < BROKER_TAKES
    for name in "ab":
        counts = found.counts["pipelines"][name]
        assert counts["full"][what] > 0
        assert counts["messages"] == given
        samples = sum(size for kind, size in counts["queued"].items() if kind != "event")
        assert counts["bytes_in"] == samples + sum(counts["saved"].values()) + counts["waiting"]


def test_roll_ups_that_closed_early_add_up() -> None:
    stretches = Stretches(60_000_000, 0, room=20 * size_of("d0", 7))
    rows = []
    for at in range(100):
        stretches.add(f"d{at % 30}", (float(START), 1.0), START)
        rows += [row for part in stretches.due(START) for found in part.values() for row in found]
    rows += [row for part in stretches.close() for found in part.values() for row in found]
    assert sum(row[1] for row in rows) == 100
    assert stretches.early > 0


def test_the_oldest_samples_are_given_up_first() -> None:
    ring = Ring(1_000_000, 0, room=3 * size_of("d", 4))
    gone = [kept.cost for at in range(6) for kept in ring.keep(Kept("d", (float(at), 1.0), at, at))]
    assert gone == [0, 1, 2]
    assert ring.early == 3
    assert [kept.cost for kept in ring.alarm("d", 4, 5)] == [3, 4, 5]
    assert [kept.cost for at in range(6, 9) for kept in ring.keep(Kept("d", (float(at), 1.0), at, at))] == []


def test_the_device_known_longest_is_forgotten_first() -> None:
    sieve = Sieve(ForwardSpec(on_change=True), ["x"], room=2 * size_of("a", 2))
    assert [sieve.holds_back(key, (0.0, 1.0)) for key in "abab"] == ["", "", "on_change", "on_change"]
    assert [sieve.holds_back(key, (0.0, 1.0)) for key in "cba"] == ["", "on_change", ""]
    assert sieve.forgotten == 2
    again = Sieve(ForwardSpec(on_change=True), ["x"], room=2 * size_of("a", 2))
    again.state = sieve.state
    assert [again.holds_back(key, (0.0, 1.0)) for key in "ca"] == ["on_change", "on_change"]


def test_the_room_is_shared_among_pipelines() -> None:
    assert ROOM < BROKER_TAKES
    one = gatherer(pipeline({"select": ["1m"]}))
    items = one.feed([message(at, 1.0, device=f"d{at}", at=0) for at in range(5000)], [], 0)
    assert items == []
    assert len(records(one.feed([], [], after(71)))) == 5000
