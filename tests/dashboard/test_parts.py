"""What the pages draw of the API's answers: all of it as text, and something sensible where there is nothing."""

from typing import Any

import pytest

from skerry.dashboard import alarms, devices, models, pipelines, plant
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


def test_the_way_of_a_message_has_its_figures_on_the_arrows() -> None:
    drawn = pipelines.flow(PIPELINE)
    for words in ("12.3 /s, 3 waiting, 1 dead", "session 5s", "score above 5", "critical, for 2", "4 windows", "p99 –"):
        assert words in drawn
    assert "degraded: history-raw" in pipelines.pipeline_head(PIPELINE)


def test_scores_stand_beside_the_bound_of_their_rule() -> None:
    drawn = pipelines.scores([EVENT, {**EVENT, "end": "2026-12-01T00:00:02.000Z", "score": 1.0}], PIPELINE["config"]["rule"])
    assert "tone-threshold" in drawn
    assert "bound 5" in drawn
    assert "tone-threshold" not in pipelines.scores([EVENT], None)
    assert "no event yet" in pipelines.scores([], None)


def test_a_dead_letter_says_why_and_is_cut_where_it_is_long() -> None:
    letter = {"reason": "undecodable", "topic": "t", "payload": "x" * 500, "detail": EVIL, "at": "2026-12-01T00:00:01.000Z"}
    drawn = pipelines.letters([letter], more=True)
    assert f"{'x' * pipelines.SHOWN}…" in drawn
    assert "there are more" in drawn.lower()
    assert "no dead letters" in pipelines.letters([], more=False)


def test_nothing_of_others_becomes_markup_anywhere() -> None:
    named = {"id": EVIL, "kind": EVIL, "created": None, "revoked": None, "topics": [EVIL], "client_ids": [EVIL]}
    version = {"name": EVIL, "version": EVIL, "inputs": [{"name": EVIL, "dtype": "f", "shape": [None, 2]}], "error": EVIL}
    drift = {EVIL: {"psi": {EVIL: 1.0}, "firing": True, "bound": 0.25}}
    alarm: Row = {"key": EVIL, "alarm_id": EVIL, "label": EVIL, "pipeline": EVIL, "severity": EVIL, "score": 1.0, "since": None}
    doing = {"by": EVIL, "at": None, "comment": EVIL, "until": None}
    alarm |= {"state": "firing", "last": None, "acknowledged": doing, "shelved": None, "comments": [doing]}
    drawn = [
        pipelines.pipelines([{**PIPELINE, "name": EVIL}]), pipelines.flow(PIPELINE), pipelines.last_events([EVENT]),
        pipelines.scores([EVENT], None), pipelines.books(PIPELINE), devices.devices([named], {EVIL: 1}), devices.device(named),
        models.models([version]), models.model({"name": EVIL, "active": EVIL, "drift": drift, "shadow": EVIL}),
        plant.uplink({"uplink": {EVIL: EVIL, "sentence": EVIL}}), plant.cluster({"cluster": {"members": [{"id": EVIL}]}}),
        overview({"node": EVIL, "warnings": [EVIL]}, [], [alarm]), alarms.alarm(alarm),
        alarms.alarms({"alarms": [alarm, {**alarm, "shelved": doing}, {**alarm, "state": "cleared"}], "complete": False}),
    ]  # fmt: skip
    assert all("<script" not in each for each in drawn)
    assert all("&lt;script" in each for each in drawn)


@pytest.mark.parametrize(
    ("drawn", "mend"),
    [
        (pipelines_table([]), "skerry.toml"), (devices.devices([], {}), "Add one"), (models.models([]), "skerry model add"),
        (plant.uplink({"uplink": None}), "uplink.url"), (plant.cluster({"cluster": None}), "[cluster]"),
        (overview({}, [], []), "No alarm is firing"), (overview({}, [], None), "may not read events"),
    ],
)  # fmt: skip
def test_where_there_is_nothing_it_says_what_to_do(drawn: str, mend: str) -> None:
    assert mend in drawn


def test_the_disk_is_shown_part_by_part() -> None:
    parts = [{"name": "log", "bytes": 50, "limit": 100, "when_full": "waits"}, {"name": "models", "bytes": 1, "limit": None}]
    drawn = plant.storage({"storage": {"sentence": "51 B", "parts": parts, "given_up": {"raw history": 7}}})
    assert 'aria-label="50.0 % full"' in drawn
    assert "7 bytes of raw history" in drawn


def test_a_node_that_is_not_ready_says_why_first() -> None:
    drawn = head({"node": "box", "ready": False, "reason": "the broker is starting"})
    assert "not ready" in drawn
    assert "The broker is starting." in drawn
