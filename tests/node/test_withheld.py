"""The audit log counts what was withheld: once an hour, at the end, and nothing twice."""

from typing import Any

from skerry.core.clock import SECOND, ManualClock
from skerry.node.withheld import EVENT, EVERY_S, Withheld


def test_counts_are_noted_once_an_hour_and_at_the_end() -> None:
    noted: list[tuple[str, Any]] = []
    clock = ManualClock(0)

    def note(event: str, **fields: Any) -> None:
        assert (event, fields.pop("by")) == (EVENT, "uplink")
        noted.append((fields.pop("reason"), fields.pop("total")))
        assert fields == {}

    withheld = Withheld(note, clock)
    withheld.look({"gps.*: drop": 5})
    assert noted == []
    clock.advance(round(EVERY_S * SECOND))
    withheld.look({"gps.*: drop": 9, "key: hash": 0})
    withheld.look({"gps.*: drop": 12})
    clock.advance(round(EVERY_S * SECOND))
    withheld.look({"gps.*: drop": 12, "key: hash": 3})
    withheld.look({"gps.*: drop": 12, "key: hash": 4}, last=True)
    withheld.look({"gps.*: drop": 12, "key: hash": 4}, last=True)
    assert noted == [("gps.*: drop", 9), ("gps.*: drop", 12), ("key: hash", 3), ("key: hash", 4)]
