"""The node's alarms: read from the event log when they are asked for, with what people did about them kept in the store."""

import asyncio
import json
from collections import OrderedDict
from collections.abc import AsyncIterator
from typing import Any, Protocol

import msgspec

from skerry.core.clock import Clock, to_rfc3339
from skerry.node.alarm_notes import Doing, Note, Notes

Row = dict[str, Any]
MOST_FIRING, MOST_ENDED = 10_000, 200
MOST_READ = 50_000
"""Events that one question reads at the most; a longer log is read in several, and `complete` says so."""


class EventLog(Protocol):
    """Where alarms are read from."""

    def alarm_events(self, after: int) -> AsyncIterator[tuple[int, bytes | None]]:
        """Sequence and payload of events behind a sequence, up to the end; None for one that belongs to no alarm."""
        ...


class Alarms:
    """Alarms that fire and that ended last. `over`: alarms that were left out since too many fire at once."""

    def __init__(self, log: EventLog, notes: Notes, clock: Clock) -> None:
        self.over = 0
        self.notes = notes
        self._log, self._clock = log, clock
        self._after = 0
        self._firing: dict[str, Row] = {}
        self._ended: OrderedDict[str, Row] = OrderedDict()
        self._reading = asyncio.Lock()

    async def shown(self) -> Row:
        """`{alarms, complete}`: those that fire, the newest first, then those that ended last."""
        async with self._reading:
            complete = await self._read()
            notes = await self.notes.all()
        found = [*reversed(self._firing.values()), *reversed(self._ended.values())]
        return {"alarms": [self._row(row, notes) for row in found], "complete": complete}

    async def note(self, id: str, what: str, by: str, comment: str, duration: int = 0) -> Row | None:
        """Keep what somebody did, durable when this returns; the alarm's row, None where there is none of that id."""
        async with self._reading:
            await self._read()
            row = self._firing.get(id) or self._ended.get(id)
            if row is None:
                return None
            now = self._clock.now()
            doing = Doing(by, to_rfc3339(now), comment, to_rfc3339(now + duration) if duration else None)
            await self.notes.change(id, lambda note: _done(note, what, doing))
            return self._row(row, await self.notes.all())

    async def _read(self) -> bool:
        """Read on in the log; whether its end was reached."""
        read = 0
        async for sequence, payload in self._log.alarm_events(self._after):
            self._after, read = sequence, read + 1
            if payload is not None:
                self._take(json.loads(payload))
            if read >= MOST_READ:
                return False
        return True

    def _take(self, event: Row) -> None:
        alarm = event["alarm_id"]
        before = self._firing.pop(alarm, None)
        since = before["since"] if before else event["start"]
        names = ("alarm_id", "pipeline", "key", "severity", "label", "score", "flaps")
        row = {**{name: event.get(name) for name in names}, "since": since, "last": event["end"], "state": event["state"]}
        if event["state"] == "firing":
            if len(self._firing) >= MOST_FIRING:
                self.over += 1
                return
            self._firing[alarm] = row
            return
        peak = before or row
        self._ended[alarm] = {**row, "severity": peak["severity"], "label": peak["label"], "score": peak["score"]}
        while len(self._ended) > MOST_ENDED:
            self._ended.popitem(last=False)

    def _row(self, row: Row, notes: dict[str, Note]) -> Row:
        note = notes.get(row["alarm_id"], Note())
        shelved = note.shelved
        if shelved is not None and (shelved.until or "") <= to_rfc3339(self._clock.now()):
            shelved = None
        return {
            **row,
            "acknowledged": msgspec.to_builtins(note.acknowledged),
            "shelved": msgspec.to_builtins(shelved),
            "comments": msgspec.to_builtins(note.comments),
        }


def _done(note: Note, what: str, doing: Doing) -> Note:
    if what == "acknowledge":
        note.acknowledged = doing
    elif what == "shelve":
        note.shelved = doing
    elif what == "unshelve":
        note.shelved = None
    else:
        note.comments = [*note.comments, doing]
    return note
