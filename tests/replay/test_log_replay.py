"""A replay out of a node's log, over its API: what arrived, in the order in which it arrived."""

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from skerry.core.clock import SECOND, from_rfc3339, to_rfc3339
from skerry.historian import NodeSource
from skerry.http import Client
from skerry.pipeline import PipelineSpec, run_messages
from skerry.replay import Past, choose, replay, replay_file, span_of
from tests.api.fake_view import Serving
from tests.replay.rig import BEGIN, NOW, Sample, samples, spec_of


@pytest.fixture
def serving(tmp_path: Path) -> Iterator[Serving]:
    with Serving(tmp_path / "skerry.sock").running() as found:
        yield found


def fill(serving: Serving, rows: list[Sample], first: int = 1) -> None:
    """The samples as messages that arrived in this order, each as its own time passed, or at once behind the one before."""
    arrival = 0
    for sequence, (device, time, x, y) in enumerate(rows, start=first):
        arrival = max(arrival + 1, time)
        payload = json.dumps({"ts": time / SECOND, "x": x, "y": y})
        serving.view.messages_log.append(
            {"sequence": sequence, "at": arrival / SECOND, "topic": f"devices/{device}/v", "payload": payload}
        )


def over_log(
    serving: Serving, spec: PipelineSpec, start: int = BEGIN - 60 * SECOND, end: int = NOW, diff: bool = False
) -> dict[str, Any]:
    client = Client(serving.socket)
    try:
        past, span = Past(client, None), span_of(spec, start, end, NOW)
        return replay(spec, None, "rock", past, choose(spec, past, span), span, diff, lambda done: None)
    finally:
        client.close()


def lately(rows: list[Sample]) -> list[Sample]:
    """One of ten is five seconds late, and of those each second one ten more."""
    order = sorted(
        range(len(rows)), key=lambda at: rows[at][1] + (5 * SECOND if at % 10 == 0 else 0) + (10 * SECOND if at % 20 == 0 else 0)
    )
    return [rows[at] for at in order]


def messages_in(serving: Serving) -> Iterator[tuple[str, bytes, int | None]]:
    for row in serving.view.messages_log:
        yield row["topic"], row["payload"].encode(), round(row["at"] * SECOND)


def test_it_gives_the_events_and_the_dead_letters_that_the_messages_gave(serving: Serving) -> None:
    fill(serving, lately(samples()))
    spec = spec_of(rule={"above": 0.9, "clear_below": 0.5})
    wanted = run_messages(spec, None, "rock", messages_in(serving))
    assert wanted["late"] > 10
    serving.view.log = wanted["events"]
    found = over_log(serving, spec, diff=True)
    assert found["source"]["kind"] == "log"
    assert found["events"] == wanted["events"] != []
    assert (found["messages"], found["windows"], found["late"]) == (wanted["messages"], wanted["windows"], wanted["late"])
    assert [letter["sequence"] for letter in found["dead_letters"]] == [letter["sequence"] for letter in wanted["dead_letters"]]
    assert (found["diff"]["rows"], found["diff"]["totals"]["same"]) == ([], len(wanted["events"]))
    assert json.dumps(over_log(serving, spec, diff=True)) == json.dumps(found)


def test_windows_of_a_device_that_fell_silent_close_while_others_speak(serving: Serving) -> None:
    rows = samples(2)
    silent = [row for row in rows if row[0] == "d1" or not 105 * SECOND <= row[1] - BEGIN < 300 * SECOND]
    back = next(at for at, row in enumerate(silent) if row[0] == "d0" and row[1] - BEGIN >= 300 * SECOND)
    # what it kept of before is sent when it comes back: its window was closed then, as it is in the replay
    late = ("d0", BEGIN + 106 * SECOND, 100.0, 100.0)
    fill(serving, [*silent[:back], late, *silent[back:]])
    found = over_log(serving, spec_of())
    assert found["late"] == 1
    assert found["dead_letters"][0]["key"] == "d0"
    assert max(event["score"] for event in found["events"]) < 3


def test_a_log_that_was_given_back_is_read_from_where_it_begins_and_that_is_said(serving: Serving) -> None:
    rows = [row for row in samples() if row[1] - BEGIN >= 200 * SECOND]
    fill(serving, rows, first=1000)
    found = over_log(serving, spec_of())
    assert found["messages"] == len(rows)
    assert [note.partition(":")[0] for note in found["source"]["notes"]] == [f"the log begins at {to_rfc3339(rows[0][1])[:13]}"]
    assert found["source"]["gaps"][0]["to"] == to_rfc3339(rows[0][1])


@pytest.mark.parametrize(
    ("history_from", "log_from", "first", "kind"),
    [
        (0, 0, 1, "log"),  # a young node has both from its beginning
        (0, 300, 1, "history"),  # the log is a new one, such as after a restore without it
        (0, 300, 1000, "history"),
        (300, 100, 1000, "log"),
        (0, None, 1, "history"),
        (None, 300, 1000, "log"),
    ],
)
def test_the_one_that_reaches_back_further_is_read(
    serving: Serving, history_from: int | None, log_from: int | None, first: int, kind: str
) -> None:
    rows = samples(1)
    if history_from is not None:
        mine = [row for row in rows if row[1] >= BEGIN + history_from * SECOND]
        serving.view.history = {f"d0/v/{name}": [(row[1], row[at]) for row in mine] for at, name in ((2, "x"), (3, "y"))}
    if log_from is not None:
        fill(serving, [row for row in rows if row[1] >= BEGIN + log_from * SECOND], first)
    client = Client(serving.socket)
    past, span = Past(client, NodeSource(client)), span_of(spec_of(), BEGIN, NOW, NOW)
    assert choose(spec_of(), past, span).kind == kind
    client.close()


def test_messages_of_after_the_span_are_not_read(serving: Serving) -> None:
    fill(serving, samples())
    found = over_log(serving, spec_of(), BEGIN + 60 * SECOND, BEGIN + 120 * SECOND)
    assert {event["start"] for event in found["events"]} == {to_rfc3339(BEGIN + at * SECOND) for at in range(60, 120, 10)}
    assert found["messages"] < 3 * 140


def test_events_before_the_event_log_come_out_of_the_history_and_none_is_taken_twice(serving: Serving) -> None:
    rows = samples()
    fill(serving, rows)
    events = run_messages(spec_of(), None, "rock", messages_in(serving))["events"]
    begins = events[len(events) // 2]["end"]
    # the clock of one device is behind: what the log has of it ends before the log's oldest event
    slow = [event for event in events if event["key"] == "d2" and event["end"] < begins][-3:]
    serving.view.log = [event for event in events if event["end"] >= begins] + slow
    serving.view.history = {
        f"p/{key}/score": [(from_rfc3339(e["end"]) + at, e["score"]) for at, e in enumerate(events) if e["key"] == key]
        for key in ("d0", "d1", "d2")
    }
    client = Client(serving.socket)
    spec, past, span = spec_of(), Past(client, NodeSource(client)), span_of(spec_of(), BEGIN, NOW, NOW)
    found = replay(spec, None, "rock", past, choose(spec, past, span), span, True, lambda done: None)
    client.close()
    assert (found["diff"]["totals"]["then"], found["diff"]["totals"]["same"]) == (len(events), len(events))
    assert found["diff"]["rows"] == []
    old = len([event for event in events if event["end"] < begins]) - len(slow)
    assert found["source"]["notes"] == [f"of {old} events then the history has the score alone"]


def test_a_file_in_its_place_is_read_whole(serving: Serving, tmp_path: Path) -> None:
    fill(serving, samples())
    file = tmp_path / "recorded.jsonl"
    file.write_text("".join(json.dumps(row) + "\n" for row in serving.view.messages_log))
    spec = spec_of()
    wanted = run_messages(spec, None, "rock", messages_in(serving))
    serving.view.log = wanted["events"][:-2]
    client = Client(serving.socket)
    found = replay_file(spec, None, "rock", Past(client, None), file, True, lambda done: None)
    client.close()
    assert found["events"] == wanted["events"]
    assert found["source"] == {"kind": "file", "file": str(file), "gaps": [], "notes": []}
    assert [row["difference"] for row in found["diff"]["rows"]] == ["only now", "only now"]
