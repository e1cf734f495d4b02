"""What people did about alarms, kept: in the store of a node alone, in a replicated bucket of a cluster, the same at all nodes."""

import asyncio
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import TYPE_CHECKING, Protocol

import msgspec

from skerry.broker import MIB, StreamPlan, WireClient, bucket_plan, kv_get, kv_put, read_page
from skerry.core.errors import FencedError, OverloadedError, UnavailableError

if TYPE_CHECKING:
    from skerry.store import KeyValueStore

PREFIX = b"skerry/alarms/"
KEEP_S = 90 * 86_400
MOST_COMMENTS, MOST_NOTES = 50, 10_000
BUCKET, BUCKET_BYTES = "skerry_alarms", 32 * MIB
TRIES = 10


class Doing(msgspec.Struct, frozen=True):
    """Who did something, when, and what they wrote. `until`: of a shelf."""

    by: str
    at: str
    comment: str = ""
    until: str | None = None


class Note(msgspec.Struct):
    """What people did about one alarm."""

    acknowledged: Doing | None = None
    shelved: Doing | None = None
    comments: list[Doing] = []


Edit = Callable[[Note], Note]


class Notes(Protocol):
    """Where they are kept."""

    async def all(self) -> dict[str, Note]:
        """By alarm."""
        ...

    async def change(self, id: str, edit: Edit) -> None:
        """Edit one, durable when this returns. Raises `OverloadedError`, `UnavailableError`."""
        ...


def _edited(notes: dict[str, Note], id: str, before: Note, edit: Edit) -> Note:
    note = edit(msgspec.structs.replace(before))
    if len(note.comments) > MOST_COMMENTS or (id not in notes and len(notes) >= MOST_NOTES):
        mend = f"at most {MOST_COMMENTS} comments an alarm"
        raise OverloadedError("too much is written beside alarms already", mend=mend)
    return note


class OwnNotes:
    """In the node's own store, which is opened only where there is one, or something to write."""

    def __init__(self, store: Callable[[], Awaitable["KeyValueStore"]], path: Path) -> None:
        self._store, self._path = store, path
        self._notes: dict[str, Note] | None = None

    async def all(self) -> dict[str, Note]:
        if self._notes is None:
            found: dict[str, Note] = {}
            if await asyncio.to_thread(self._path.exists):
                async for key, value in (await self._store()).scan(prefix=PREFIX):
                    found[key.removeprefix(PREFIX).decode(errors="replace")] = msgspec.json.decode(value, type=Note)
                    if len(found) >= MOST_NOTES:
                        break
            self._notes = found
        return self._notes

    async def change(self, id: str, edit: Edit) -> None:
        notes = await self.all()
        note = _edited(notes, id, notes.get(id, Note()), edit)
        await (await self._store()).set(PREFIX + id.encode(), msgspec.json.encode(note), ttl=KEEP_S)
        notes[id] = note


class CommonNotes:
    """In a bucket that all nodes of a cluster have; what a node noted before it was in one is put there.

    Args:
        reading, writing: the connection for each; raise `UnavailableError` while there is none.
    """

    plan: StreamPlan = msgspec.structs.replace(bucket_plan(BUCKET, BUCKET_BYTES), longest_age_s=KEEP_S)

    def __init__(self, reading: Callable[[], WireClient], writing: Callable[[], WireClient], own: OwnNotes) -> None:
        self._reading, self._writing, self._own = reading, writing, own
        self._notes: dict[str, Note] = {}
        self._read_to = 0
        self._moved = False

    async def all(self) -> dict[str, Note]:
        await self._read()
        if not self._moved:
            await self._move()
        return self._notes

    async def _read(self) -> None:
        subject = f"$KV.{BUCKET}."
        while page := await read_page(self._reading(), f"KV_{BUCKET}", f"{subject}>", self._read_to, 100):
            self._read_to = page[-1].sequence
            for stored in page:
                self._notes[stored.subject.removeprefix(subject)] = msgspec.json.decode(stored.payload, type=Note)

    async def _move(self) -> None:
        """The node's own of before; where they cannot be written now, the next time."""
        own = await self._own.all()
        try:
            for alarm in own.keys() - self._notes.keys():
                try:
                    await kv_put(self._writing(), BUCKET, alarm, msgspec.json.encode(own[alarm]), 0)
                except FencedError:
                    continue  # another node was faster
            self._moved = True
        except UnavailableError:
            return
        await self._read()

    async def change(self, id: str, edit: Edit) -> None:
        notes = await self.all()
        for _ in range(TRIES):
            found = await kv_get(self._writing(), BUCKET, id)
            before, revision = (msgspec.json.decode(found[0], type=Note), found[1]) if found else (Note(), 0)
            note = _edited(notes, id, before, edit)
            try:
                await kv_put(self._writing(), BUCKET, id, msgspec.json.encode(note), revision)
            except FencedError:  # somebody at another node did something at the same moment: both stay
                await asyncio.sleep(0.05)
                continue
            notes[id] = note
            return
        raise OverloadedError("too many write beside this alarm at once", mend="try again")
