"""What of a status has a history, and which alarms are in sight."""

from typing import Any

from skerry.dashboard.alarms import in_sight
from skerry.dashboard.watch import sample_of

Row = dict[str, Any]


def alarm(name: str, second: int, severity: str = "warning", state: str = "firing", shelved: Row | None = None) -> Row:
    since = f"2026-12-01T00:00:{second:02d}.000Z"
    return {"alarm_id": name, "state": state, "since": since, "severity": severity, "shelved": shelved}


def test_what_two_pipelines_read_of_one_topic_is_counted_once() -> None:
    rows = [
        {"topic": "a/#", "rate": 10.0, "lag": 0}, {"topic": "a/#", "rate": 9.9, "lag": 7}, {"topic": "b/#", "rate": 1.0, "lag": 1},
    ]  # fmt: skip
    found = sample_of({"pipelines": rows, "promises": {"latency": {"arrival_ms": {"p50": 1.0, "p99": 2.0}}}}, 5.0)
    assert (found.at, found.rate, found.lag, found.p50, found.p99) == (5.0, 11.0, 7, 1.0, 2.0)
    assert (found.scored_per_cpu_s, found.bytes_in, found.day_ratio) == (None, None, None)


def test_a_node_that_says_next_to_nothing_still_makes_a_sample() -> None:
    assert sample_of({}, 1.0).rate == 0.0


def test_alarms_in_sight_fire_and_are_not_shelved_the_severest_first() -> None:
    rows = [alarm("a", 1), alarm("b", 2), alarm("c", 3, severity="critical"), alarm("d", 4, state="cleared"), alarm("e", 5)]
    rows.append(alarm("f", 6, shelved={"by": "me"}))
    assert [row["alarm_id"] for row in in_sight(rows)] == ["c", "e", "b", "a"]
