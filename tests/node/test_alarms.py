"""Alarms from the event log, and what people did about them, over a real store that is opened again."""

import asyncio
import json
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest

from skerry.broker import WireClient, ensure
from skerry.core.clock import ManualClock
from skerry.core.errors import OverloadedError
from skerry.node import alarms as alarms_module
from skerry.node.alarm_notes import MOST_COMMENTS, CommonNotes, Doing, Note, OwnNotes
from skerry.node.alarms import MOST_ENDED, Alarms
from skerry.store import KeyValueStore, StorageConfig
from tests.fixtures.nats import NatsServer

pytestmark = pytest.mark.asyncio
HOUR = 3_600_000_000
START = 1_796_095_063_000_000


class Log:
    """Events that are put in by hand; as `Outputs` reads them."""

    def __init__(self) -> None:
        self.events: list[dict[str, Any]] = []

    def put(self, alarm: str | None, state: str, second: int = 0, score: float = 9.0) -> None:
        at = f"2026-12-01T00:00:{second:02d}.000Z"
        row = {"alarm_id": alarm, "state": state, "start": at, "end": at, "pipeline": "p", "key": "k", "severity": "critical"}
        self.events.append({**row, "label": "leak", "score": score, "flaps": None})

    async def alarm_events(self, after: int) -> AsyncIterator[tuple[int, bytes | None]]:
        for sequence, event in enumerate(self.events[after:], after + 1):
            yield sequence, json.dumps(event).encode() if event["alarm_id"] else None


class Kept:
    """A store that is opened when it is asked for, and again."""

    def __init__(self, path: Path, clock: ManualClock) -> None:
        self.path, self.clock = path, clock
        self.found: KeyValueStore | None = None

    async def __call__(self) -> KeyValueStore:
        if self.found is None:
            self.found = await KeyValueStore(StorageConfig(str(self.path), "64MiB", "none"), self.clock).__aenter__()
        return self.found

    async def close(self) -> None:
        if self.found is not None:
            await self.found.close()
            self.found = None


async def test_alarms_fire_and_end_and_cost_no_store_until_something_is_noted(tmp_path: Path) -> None:
    clock, log = ManualClock(START), Log()
    kept = Kept(tmp_path / "kv", clock)
    alarms = Alarms(log, OwnNotes(kept, kept.path), clock)
    log.put("a", "firing", 1)
    log.put(None, "info", 2)
    log.put("b", "firing", 3)
    log.put("a", "firing", 4, score=11.0)
    log.put("b", "cleared", 5, score=0.1)
    found = await alarms.shown()
    assert found["complete"]
    assert [(row["alarm_id"], row["state"]) for row in found["alarms"]] == [("a", "firing"), ("b", "cleared")]
    first, second = found["alarms"]
    assert (first["since"][17:19], first["last"][17:19], first["score"]) == ("01", "04", 11.0)
    assert (second["label"], second["score"], second["acknowledged"], second["comments"]) == ("leak", 9.0, None, [])
    assert kept.found is None
    assert not kept.path.exists()


async def test_what_was_done_is_there_after_a_restart_with_who_and_when_and_a_shelf_ends(tmp_path: Path) -> None:
    clock, log = ManualClock(START), Log()
    log.put("a", "firing", 1)
    kept = Kept(tmp_path / "kv", clock)
    alarms = Alarms(log, OwnNotes(kept, kept.path), clock)
    assert await alarms.note("nope", "acknowledge", "token:me", "") is None
    await alarms.note("a", "acknowledge", "token:me", "on my way")
    await alarms.note("a", "comment", "token:me", "the bearing")
    await alarms.note("a", "shelve", "token:you", "", 2 * HOUR)
    await kept.close()
    again = Alarms(log, OwnNotes(kept, kept.path), clock)
    row = (await again.shown())["alarms"][0]
    assert (row["acknowledged"]["by"], row["acknowledged"]["comment"]) == ("token:me", "on my way")
    assert row["acknowledged"]["at"].startswith("2026-12-01T03:17:43")
    assert [each["comment"] for each in row["comments"]] == ["the bearing"]
    assert row["shelved"]["by"] == "token:you"
    clock.advance(2 * HOUR)
    assert (await again.shown())["alarms"][0]["shelved"] is None
    await again.note("a", "shelve", "token:you", "", HOUR)
    await again.note("a", "unshelve", "token:you", "")
    assert (await again.shown())["alarms"][0]["shelved"] is None
    await kept.close()


async def test_it_is_bounded(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    clock, log = ManualClock(START), Log()
    kept = Kept(tmp_path / "kv", clock)
    alarms = Alarms(log, OwnNotes(kept, kept.path), clock)
    for number in range(MOST_ENDED + 5):
        log.put(f"e{number}", "firing")
        log.put(f"e{number}", "cleared")
    monkeypatch.setattr(alarms_module, "MOST_READ", 100)
    assert not (await alarms.shown())["complete"]
    while not (found := await alarms.shown())["complete"]:
        pass
    assert len(found["alarms"]) == MOST_ENDED
    monkeypatch.setattr(alarms_module, "MOST_FIRING", 2)
    for number in range(4):
        log.put(f"f{number}", "firing")
    assert len((await alarms.shown())["alarms"]) == MOST_ENDED + 2
    assert alarms.over == 2
    for _ in range(MOST_COMMENTS):
        await alarms.note("f0", "comment", "token:me", "x")
    with pytest.raises(OverloadedError, match="too much"):
        await alarms.note("f0", "comment", "token:me", "x")
    await kept.close()


def saying(text: str) -> Any:
    def edit(note: Note) -> Note:
        note.comments = [*note.comments, Doing("token:me", "2026-12-01T00:00:00.000Z", text)]
        return note

    return edit


async def test_in_a_cluster_all_nodes_have_the_same_and_what_two_write_at_once_both_stays(tmp_path: Path) -> None:
    clock = ManualClock(START)
    before = Kept(tmp_path / "kv", clock)
    await OwnNotes(before, before.path).change("old", saying("before there was a cluster"))
    nobody = Kept(tmp_path / "none", clock)
    with NatsServer(tmp_path) as server:
        first, second = await server.client(), await server.client()
        await ensure(first, CommonNotes.plan)

        def node(client: WireClient, kept: Kept) -> CommonNotes:
            return CommonNotes(lambda: client, lambda: client, OwnNotes(kept, kept.path))

        a, b = node(first, before), node(second, nobody)
        await asyncio.gather(*[each.change("x", saying(f"{name} {at}")) for at in range(5) for name, each in (("a", a), ("b", b))])
        for each in (a, b, node(second, nobody)):
            found = await each.all()
            said = sorted(doing.comment for doing in found["x"].comments)
            assert said == sorted(f"{name} {at}" for at in range(5) for name in "ab")
            assert [doing.comment for doing in found["old"].comments] == ["before there was a cluster"]
        first.close()
        second.close()
    await before.close()
