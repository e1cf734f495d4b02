"""What the pages draw of the API's answers: all of it as text, and something sensible where there is nothing."""

from typing import Any

import pytest

from skerry.dashboard import alarms, cluster, devices, journal, models, pipelines, plant
from skerry.dashboard.history import Stretch
from skerry.dashboard.overview import head, overview, pipelines_table

Row = dict[str, Any]
EVIL = "<script>alert(1)</script>"
BOOKS = {"received": 10, "scored": 8, "open": 1, "waiting": 0, "duplicates": 0, "dead_letters": {EVIL: 1}, "difference": 0}
PIPELINE: Row = {
    "name": "level", "state": "running", "reason": "", "rate": 12.34, "lag": 3, "keys": 2, "windows": 4, "events": 1,
    "received_bytes": 2048, "latency_ms": {"p50": 1.0, "p99": None}, "ledger": BOOKS, "shed": ["history-raw"], "topic": EVIL,
    "model": None,
    "config": {
        "source": {"topic": EVIL, "format": "json"}, "window": {"kind": "session", "gap": "5s"}, "features": ["mean"],
        "rule": {"field": "score", "above": 5.0, "below": None, "severity": "critical", "for": 2}, "sinks": [{"kind": "event"}],
    },
}  # fmt: skip
EVENT: Row = {
    "key": EVIL, "end": "2026-12-01T00:00:01.000Z", "score": 9.0, "state": "firing", "label": EVIL, "count": 2, "latency_ms": 1.5,
}  # fmt: skip
LETTER: Row = {
    "id": "7", "sequence": 7, "reason": "undecodable", "topic": "t", "key": "", "payload": "x" * 500, "detail": EVIL, "messages": 1,
    "at": "2026-12-01T00:00:01.000Z",
}  # fmt: skip


def test_the_way_of_a_message_has_its_figures_on_the_arrows() -> None:
    drawn = pipelines.flow(PIPELINE)
    assert '<span class="wrong">1 refused' in drawn
    for words in ("12.3 /s", "3 waiting", "session 5s", "score above 5", "critical, for 2", "4 windows", "p99 –"):
        assert words in drawn
    failing = {**PIPELINE, "ledger": {**BOOKS, "dead_letters": {"score-nan": 2}}}
    drawn = pipelines.flow(failing, [{"waiting": 7, "failure": "the broker is away"}])
    for words in ('<span class="wrong">2 failed', "0 refused", "7 waiting", "the broker is away"):
        assert words in drawn
    assert "degraded: history-raw" in pipelines.pipeline_head(PIPELINE)


def test_scores_stand_beside_the_bounds_of_their_rule() -> None:
    windows = [{"key": EVIL, "end": f"2026-12-01T00:00:0{at}.000Z", "score": float(at)} for at in range(3)]
    drawn = pipelines.scores(windows, {"field": "score", "above": 5.0, "clear_below": 2.0})
    for words in ("tone-threshold", "fires at 5", "tone-clear", "clears at 2"):
        assert words in drawn
    assert "fires at 1" in pipelines.scores(windows, {"field": "score", "above": None, "below": 1.0})
    assert "tone-threshold" not in pipelines.scores(windows, {"field": "mean", "above": 5.0})
    assert "No window was scored" in pipelines.scores([], None)
    many = [{**windows[0], "key": f"pump-{at}"} for at in range(9)]
    assert "Of 9 devices" in pipelines.scores(many, None)


def test_a_dead_letter_says_why_and_is_cut_where_it_is_long() -> None:
    drawn = pipelines.letters([LETTER], more=True)
    assert f"{'x' * pipelines.SHOWN}…" in drawn
    assert "there are more" in drawn.lower()
    assert "no dead letters" in pipelines.letters([], more=False)
    assert "none of this reason" in pipelines.letters([], more=False, filtered=True)


def test_a_dead_letter_is_chosen_by_a_box_that_stays_with_its_row() -> None:
    drawn = pipelines.letters([LETTER, {**LETTER, "id": "8"}], more=False)
    for each in ("7", "8"):
        assert f'<input type="checkbox" value="{each}" aria-label="Choose undecodable {each}">' in drawn
        assert f'<tr data-key="{each}">' in drawn
    odd = pipelines.letters([{**LETTER, "id": f"{EVIL}@1", "topic": "", "key": EVIL}], more=False)
    assert EVIL not in odd
    assert "a window of &lt;script&gt;" in odd


def test_what_is_inside_of_a_dead_letter_is_shown_whole() -> None:
    drawn = pipelines.inside([LETTER])
    assert "x" * 500 in drawn
    assert EVIL not in drawn
    assert 'aria-label="Inside 7"' in drawn
    window = {"start": "2026-12-01T00:00:01.000Z", "end": "2026-12-01T00:00:02.000Z", "samples": 2, "values": [1.0, 7.5, 2.0, 8.25]}
    kept = {name: value for name, value in LETTER.items() if name != "payload"}
    drawn = pipelines.inside([{**kept, "window": window}])
    assert "1, 7.5, 2, 8.25" in drawn
    assert "<dt>Samples</dt><dd>2</dd>" in drawn
    assert "It was not kept" in pipelines.inside([kept])
    assert pipelines.inside([]) == ""


def test_nothing_of_others_becomes_markup_anywhere() -> None:
    named = {"id": EVIL, "kind": EVIL, "created": None, "revoked": None, "topics": [EVIL], "client_ids": [EVIL]}
    version = {"name": EVIL, "version": EVIL, "inputs": [{"name": EVIL, "dtype": "f", "shape": [None, 2]}], "error": EVIL}
    drift = {EVIL: {"psi": {EVIL: 1.0}, "firing": True, "bound": 0.25}}
    alarm: Row = {"key": EVIL, "alarm_id": EVIL, "label": EVIL, "pipeline": EVIL, "severity": EVIL, "score": 1.0, "since": None}
    doing = {"by": EVIL, "at": None, "comment": EVIL, "until": None}
    alarm |= {"state": "firing", "last": None, "acknowledged": doing, "shelved": None, "comments": [doing]}
    drawn = [
        pipelines.pipelines([{**PIPELINE, "name": EVIL}]), pipelines.flow(PIPELINE), pipelines.last_events([EVENT]),
        pipelines.scores([EVENT], None), pipelines.books(PIPELINE), devices.devices([named], {EVIL: 1}, 0),
        devices.device(named, 0),
        models.models([version]), models.model({"name": EVIL, "active": EVIL, "drift": drift, "shadow": {"version": EVIL}}),
        plant.uplink({"uplink": {EVIL: EVIL, "sentence": EVIL}}),
        cluster.members([{"id": EVIL, "partitions": [EVIL], "leader": True}]),
        overview({"node": EVIL, "warnings": [EVIL]}, [], [alarm]), alarms.alarm(alarm),
        alarms.alarms({"alarms": [alarm, {**alarm, "shelved": doing}, {**alarm, "state": "cleared"}], "complete": False}),
    ]  # fmt: skip
    assert all("<script" not in each for each in drawn)
    assert all("&lt;script" in each for each in drawn)


@pytest.mark.parametrize(
    ("drawn", "mend"),
    [
        (pipelines_table([]), "skerry.toml"), (devices.devices([], {}, 0), "Add one"), (models.models([]), "skerry model add"),
        (plant.uplink({"uplink": None}), "uplink.url"), (cluster.alone(), "[cluster]"),
        (overview({}, [], []), "No alarm is firing"), (overview({}, [], None), "may not read events"),
    ],
)  # fmt: skip
def test_where_there_is_nothing_it_says_what_to_do(drawn: str, mend: str) -> None:
    assert mend in drawn


def test_the_link_is_shown_by_priority_and_what_did_not_have_to_leave() -> None:
    """As `skerry.node.uplink` says it: numbers with units, and no row of Python."""
    lane = {"waiting": 2, "envelopes": 3, "items": 40, "bytes": 2048, "failed": 1, "unreadable": 0}
    counts = {
        "messages": 900, "bytes_in": 90_000, "queued": {"event": 512}, "items": {"event": 4}, "saved": {"select": 80_000},
        "waiting": 0, "passed_over": {}, "full": {},
    }  # fmt: skip
    own = {
        "sentence": "to the centre", "kind": "mqtt", "where": EVIL, "paused": False, "connected": True, "trouble": "",
        "last": "2026-12-01T00:00:01.000Z", "bytes_sent": 4096, "waiting": 2, "lanes": {"alarm": lane, EVIL: lane},
        "queue": {"bytes": 1024, "limit": 1048576, "thinned": 5, "dropped": 0},
        "saved": {"pipelines": {"level": counts, EVIL: {**counts, "saved": {EVIL: 1}}}, "withheld": {"gps.*": 7}, "undecodable": 0},
        "cursor": 12,
    }  # fmt: skip
    drawn = plant.uplink({"uplink": own})
    assert EVIL not in drawn
    assert "{" not in drawn
    for words in ("1.0 KiB of 1.0 MiB", "5 thinned, 0 dropped", "event 512 B", "select 78.1 KiB", "87.9 KiB", "gps.* 7", "4.0 KiB"):
        assert words in drawn, words
    assert "held up" in plant.uplink({"uplink": {**own, "trouble": "no link"}})
    starting = plant.uplink({"uplink": {"sentence": "the uplink is starting", "kind": "mqtt"}})
    assert "the uplink is starting" in starting
    assert "By priority" not in starting


def test_the_disk_is_shown_part_by_part() -> None:
    parts = [{"name": "log", "bytes": 50, "limit": 100, "when_full": "waits"}, {"name": "models", "bytes": 1, "limit": None}]
    drawn = plant.storage({"storage": {"sentence": "51 B", "parts": parts, "given_up": {"raw history": 7}}})
    assert 'aria-label="50.0 % full"' in drawn
    assert "7 bytes of raw history" in drawn


def test_a_node_that_is_not_ready_says_why_first() -> None:
    drawn = head({"node": "box", "ready": False, "reason": "the broker is starting"})
    assert "not ready" in drawn
    assert "The broker is starting." in drawn


def test_lines_of_a_log_stand_newest_first_with_what_is_beside_them() -> None:
    entries = [
        {"timestamp": "2026-12-01T00:00:01.000Z", "level": "info", "part": "broker", "event": "the oldest"},
        {"timestamp": "2026-12-01T00:00:02.000Z", "level": "error", "part": "node", "event": EVIL, "device": "pump-1"},
    ]
    drawn = journal.drawn("log", {"entries": entries, "whole": False}, held=True)
    assert drawn.index("device pump-1") < drawn.index("the oldest")
    assert "held: 2 lines" in drawn
    assert "were not looked at" in drawn
    assert "<script" not in drawn
    noted = [{"timestamp": "2026-12-01T00:00:01Z", "event": "device added", "by": "token:me", "address": "10.0.0.9", "id": "x-1"}]
    for words in ("device added", "token:me", "10.0.0.9", "id x-1"):
        assert words in journal.drawn("audit", {"entries": noted, "whole": True}, held=False)
    assert "No line fits" in journal.drawn("log", {"entries": [], "whole": True}, held=False)


def test_a_device_is_drawn_with_its_channels_and_what_it_was_refused() -> None:
    now = 1_796_095_063
    row = {"id": "pump", "kind": "password", "created": None, "topics": [], "connected": True}
    row["last_seen"] = "2026-12-01T03:17:40.000Z"
    drawn = devices.device({**row, "refused": {"publish": 2, "last_topic": "devices/other/x"}}, now * 1_000_000)
    for words in ("connected", "3 s ago", "devices/other/x"):
        assert words in drawn
    assert "away" in devices.devices([{**row, "connected": False}], {}, 0)
    assert "revoked" in devices.devices([{**row, "revoked": "2026-12-01T03:17:40.000Z"}], {"wrong": 0}, 0)
    assert "No log-in was refused" in devices.devices([row], {"wrong": 0}, 0)
    found = {"pump/sensors/x": [(now - 2.0, 1.0), (now - 1.0, 4.0)], "pump/sensors/y": []}
    plots = devices.channels(found, Stretch(300), now, more=True)
    assert (plots.count("<figure"), plots.count("nothing in the last five minutes")) == (1, 1)
    assert 'href="/data"' in plots
    assert "Nothing of it is in the history yet." in devices.channels({}, Stretch(300), now, more=False)
    assert "may not." in devices.attempts(None, "may not")
    refused = {"timestamp": "2026-12-01T03:17:40.000Z", "event": "log-in refused", "reason": EVIL}
    assert "&lt;script" in devices.attempts([refused])


def test_a_cluster_says_who_leads_what_runs_where_and_what_is_wrong() -> None:
    found = {"sentence": "2 of 3 nodes are online; box leads", "leader": "box", "epoch": 3, "nodes": 3, "unplaced": ["level/1"]}
    drawn = cluster.state(found)
    for words in ("2 of 3 nodes are online; box leads.", "Work without a place", "level/1"):
        assert words in drawn
    assert "no quorum" not in drawn
    assert "no quorum" in cluster.state({**found, "no_quorum_since": "2026-12-01T03:17:40.000Z"})
    rows = [{"id": "barn", "status": "Maintenance", "reason": "drained by ops", "partitions": ["level/0", "level/2"]}]
    for words in ("drained", "level/0, level/2", "drained by ops"):
        assert words in cluster.members(rows)
    assert "No members" in cluster.members([])
    assert cluster.pending([]) == ""
    assert "4711" in cluster.pending([{"node": EVIL, "address": EVIL, "code": "4711"}])
    moved = [{"at": "2026-12-01T03:17:40.000Z", "node": "barn", "kind": "status", "before": "Online", "after": "Suspect"}]
    assert "Online → Suspect" in cluster.changes(moved)
    assert "Nothing has changed" in cluster.changes([])
