"""A replay out of a history's files: the events that the messages gave, what another rule makes of them, what is missing."""

import json
from pathlib import Path

import numpy as np
import pytest

from skerry.core.clock import SECOND, from_rfc3339
from skerry.core.errors import RejectedError
from skerry.replay import Past, choose, span_of
from skerry.store import Archive
from tests.replay.rig import BEGIN, NOW, history, live, over, samples, spec_of

RULE = {"above": 0.9, "clear_below": 0.5, "for": 2}
HOUR = 3600 * SECOND


def kept_events(archive: Archive, events: list[dict[str, object]]) -> None:
    """Scores as the historian keeps them."""
    for number, event in enumerate(events):
        time = np.array([from_rfc3339(str(event["end"])) + number % 1000], np.int64)
        archive.append(f"p/{event['key']}/score", time, np.array([event["score"]], np.float64))


@pytest.mark.parametrize(
    "more",
    [
        {},
        {"rule": RULE},
        {"window": {"kind": "sliding", "size": "30s", "every": "10s"}},
        {"window": {"kind": "session", "gap": "3s"}},
        {"dedup": "id", "dedup_field": "serial"},
    ],
    ids=str,
)
def test_it_gives_the_events_that_the_messages_gave(tmp_path: Path, more: dict[str, object]) -> None:
    rows = samples()
    wanted = live(spec_of(**{**more, "dedup": "off"}), rows)
    with history(tmp_path, rows) as source:
        first = over(spec_of(**more), source)
        assert {event["id"]: event for event in first["events"]} == {event["id"]: event for event in wanted}
        assert (first["messages"], first["late"], first["dead_letters"], first["left_out"]) == (len(rows), 0, [], 0)
        assert json.dumps(over(spec_of(**more), source)) == json.dumps(first)
    assert first["source"]["kind"] == "history"
    assert wanted


def test_alarms_of_before_are_known_and_only_windows_within_count(tmp_path: Path) -> None:
    rows = samples()
    spec, start, end = spec_of(rule=RULE), BEGIN + 100 * SECOND, BEGIN + 300 * SECOND
    with history(tmp_path, rows) as source:
        found = over(spec, source, start, end)["events"]
    wanted = [e for e in live(spec, rows) if start <= from_rfc3339(e["start"]) and from_rfc3339(e["end"]) <= end]
    # the alarms that are cleared began before the span
    assert [(event["id"], event["alarm_id"]) for event in found] == [(event["id"], event["alarm_id"]) for event in wanted]
    assert {event["state"] for event in found} == {"cleared"}


def test_another_rule_gives_another_table_with_the_scores_of_then_out_of_the_history(tmp_path: Path) -> None:
    rows = samples()
    events = live(spec_of(rule=RULE), rows)
    with history(tmp_path, rows, lambda archive: kept_events(archive, events)) as source:
        same = over(spec_of(rule=RULE), source, diff=True)
        other = over(spec_of(rule={**RULE, "above": 0.95}), source, diff=True)
    totals = same["diff"]["totals"]
    assert same["diff"]["rows"] == []
    assert totals["then"] == totals["now"] == totals["same"] == len(events)
    assert any("has the score alone" in note for note in same["source"]["notes"])
    kinds = {row["difference"] for row in other["diff"]["rows"]}
    assert kinds == {"only then", "only now"}
    assert other["diff"]["totals"]["now"] == len(other["events"])
    for row in other["diff"]["rows"]:
        assert (row["then"] is None) is (row["difference"] == "only now")


def test_what_has_no_data_is_named(tmp_path: Path) -> None:
    rows = [row for row in samples() if not 200 * SECOND <= row[1] - BEGIN < 500 * SECOND]
    old = NOW - 20 * 24 * HOUR

    def rolled_up(archive: Archive) -> None:
        keep = archive._keep  # only minutes are left of what is older than the raw samples
        archive._keep = type(keep)(1 << 60, 1 << 60, 1 << 60)
        archive.append("d0/v/x", np.array([old], np.int64), np.array([1.0]))
        archive.flush()
        archive._keep = keep
        archive.retain()

    with history(tmp_path, rows, rolled_up) as source:
        hole = over(spec_of(), source, BEGIN, BEGIN + 600 * SECOND)["source"]
        assert [(gap["from"][11:16], gap["to"][11:16]) for gap in hole["gaps"]] == [("17:43", "17:48")], hole
        young = over(spec_of(), source, BEGIN - 600 * SECOND)["source"]
        assert young["notes"] == ["no node runs here: the log, which has the messages themselves, needs it"]
        before = over(spec_of(), source, old - HOUR)["source"]
        assert any("before that only 1-minute roll-ups, which cannot be replayed" in note for note in before["notes"])
        empty = over(spec_of(), source, old - HOUR, old + HOUR, diff=True)
    assert (empty["events"], empty["messages"], empty["diff"]["rows"]) == ([], 0, [])
    assert any("no raw samples of this time, only 1-minute roll-ups" in note for note in empty["source"]["notes"])
    assert [len(empty["source"]["gaps"])] == [1]


def test_late_samples_are_where_they_belong_and_a_device_without_one_value_is_left_out(tmp_path: Path) -> None:
    rows = samples(2)
    shuffled = [*rows[1::2], *rows[::2]]

    def half(archive: Archive) -> None:
        archive.append("d9/v/x", np.array([BEGIN], np.int64), np.array([1.0]))

    with history(tmp_path, shuffled, half) as source:
        found = over(spec_of(), source)
    assert [event["id"] for event in found["events"]] == [event["id"] for event in live(spec_of(), rows)]


@pytest.mark.parametrize(
    ("more", "wanted", "said"),
    [
        ({"source": {"topic": "devices/+/other", "values": ["x"]}}, "auto", "the history has no series of devices/\\+/other"),
        ({}, "log", "the log needs the running node"),
        (
            {"source": {"topic": "c/+/f", "format": "string"}, "window": {}, "features": [], "model": "m@1"},
            "auto",
            "no history keeps messages of the format string",
        ),
    ],
)
def test_what_cannot_be_read_is_said(tmp_path: Path, more: dict[str, object], wanted: str, said: str) -> None:
    spec = spec_of(**more)
    with history(tmp_path, samples(1, 10)) as source:
        span = span_of(spec, BEGIN, NOW, NOW)
        with pytest.raises(RejectedError, match=said):
            choose(spec, Past(None, source), span, wanted)  # type: ignore[arg-type]  # a word of the parameters above
        with pytest.raises(RejectedError, match=r"there is no history|log needs|no history keeps"):
            choose(spec, Past(None, None), span, wanted)  # type: ignore[arg-type]  # as above
