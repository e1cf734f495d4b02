"""The one thread that writes: what came in while the disk was busy goes out together, so that one sync serves them all.

It decides room, compare-and-set and eviction, since nobody else changes the store between its look and its write.
"""

import asyncio
import threading
import time
from collections import deque
from collections.abc import Callable, Sequence
from concurrent.futures import Future
from typing import NamedTuple

from skerry.core import log
from skerry.core.clock import SECOND, Clock
from skerry.core.errors import OverloadedError, SkerryError, UnavailableError
from skerry.store.engine import Change, DiskFull, Engine
from skerry.store.entry import Entry, decode, encode, index_key, read_index_key
from skerry.store.room import Room

ROWS, BYTES = 4096, 4 * 1024 * 1024
MOST_WAITING = 64 * 1024 * 1024
EXPIRY, AGE = "$expiry", "$age"
_SWEEP, _IDLE_S, _BUSY_S = 512, 0.5, 1.0
_EVICT = 8192
_BREATH = 16
_log = log.get("store")


class Put(NamedTuple):
    """One change that a caller wants; `value` None deletes. `ends`: microseconds since the epoch, or -1."""

    table: str
    key: bytes
    value: bytes | None
    ends: int = -1


class Request(NamedTuple):
    """Changes that happen together or not at all, if the expected values are there; `future` gets whether they were."""

    puts: Sequence[Put]
    expected: Sequence[tuple[str, bytes, bytes | None]]
    durable: bool
    future: "Future[bool] | asyncio.Future[bool]"
    loop: asyncio.AbstractEventLoop | None
    size: int


class Committer:
    """Takes requests from any thread, in order; each is answered when it is as durable as it asked for.

    `counts` are of groups (each at most one sync), requests, refused, expired and evicted entries; `stopped` is the error after
    which the engine takes nothing more, empty while it does.
    """

    def __init__(self, engine: Engine, room: Room, clock: Clock, evictable: Sequence[str]) -> None:
        self.counts = dict.fromkeys(("groups", "syncs", "requests", "refused", "expired", "evicted"), 0)
        self.stopped = ""
        self._engine = engine
        self._room = room
        self._clock = clock
        self._evictable = frozenset(evictable)
        self._queue: deque[Request] = deque()
        self._waiting = 0
        self._wake = threading.Condition()
        self._closing = False
        self._kept_at = clock.monotonic()
        self._behind = False
        self._trouble = ""
        for table in (EXPIRY, AGE):
            engine.ensure(table)
        self._thread = threading.Thread(target=self._run, name="store", daemon=True)
        self._thread.start()

    def submit(self, request: Request) -> None:
        """Queue a request. Raises `OverloadedError` over 64 MiB of waiting ones and `UnavailableError` after `close`."""
        with self._wake:
            if self._closing:
                raise UnavailableError("the store is closed")
            if self._waiting and self._waiting + request.size > MOST_WAITING:
                raise OverloadedError("the disk is slower than what is to be written", mend="wait for calls before making more")
            self._queue.append(request)
            self._waiting += request.size
            if len(self._queue) == 1:
                self._wake.notify()

    def close(self) -> None:
        """Write what was asked for, then end."""
        with self._wake:
            self._closing = True
            self._wake.notify()
        self._thread.join()

    def _run(self) -> None:
        while True:
            with self._wake:
                if not self._queue and not self._closing:
                    self._wake.wait(_IDLE_S)
                group = self._take()
                if not group and self._closing:
                    return
            if group:
                try:
                    self._commit(group)
                except Exception as error:  # noqa: BLE001 - the thread must outlive it, and its callers must hear of it
                    _log.error(f"the store's writer failed: {error!r}")
                    _settle(group, [UnavailableError(f"the store's writer failed: {error!r}")] * len(group))
            # one that is never idle must not grow by what has ended
            if not group or self._behind or self._clock.monotonic() - self._kept_at > _BUSY_S:
                self._keep_house()

    def _take(self) -> list[Request]:
        group: list[Request] = []
        rows = size = 0
        while self._queue and rows < ROWS and size < BYTES:
            request = self._queue.popleft()
            group.append(request)
            rows += len(request.puts)
            size += request.size
        self._waiting -= size
        return group

    def _commit(self, group: list[Request]) -> None:
        now = self._clock.now()
        answers: list[bool | SkerryError] = []
        changes: list[Change] = []
        # what the group changes is looked up by those of it that expect something
        expecting = any(request.expected for request in group)
        changed: dict[tuple[str, bytes], bytes | None] = {}
        indexed: dict[tuple[str, bytes], Entry] = {}
        durable = False
        self._room.look_at_disk()
        roomy = self._room.short(sum(request.size for request in group)) <= 0
        for number, request in enumerate(group, 1):
            if number % _BREATH == 0:
                time.sleep(0)  # lets go of the interpreter's lock: a loop that waits for it is late otherwise
            answer = self._admit(request, changed, now, roomy)
            answers.append(answer)
            if answer is True:
                durable = durable or request.durable
                for put in request.puts:
                    self._change(put, now, changes, indexed)
                    if expecting:
                        changed[put.table, put.key] = put.value
        try:
            self._write(changes, durable)
            self.stopped = ""
        except SkerryError as error:
            self.stopped = "" if isinstance(error, DiskFull) else str(error)
            answers = [error if answer is True else answer for answer in answers]
        self.counts["groups"] += 1
        self.counts["requests"] += len(group)
        self.counts["refused"] += sum(isinstance(answer, SkerryError) for answer in answers)
        _settle(group, answers)

    def _admit(self, request: Request, changed: dict[tuple[str, bytes], bytes | None], now: int, roomy: bool) -> bool | SkerryError:
        try:
            for table, key, expected in request.expected:
                held = changed[table, key] if (table, key) in changed else self._held(table, key, now)
                if held != expected:
                    return False
            if not roomy and any(put.value is not None for put in request.puts):
                self._make_room(request.size)
        except SkerryError as error:
            return error
        self._room.admitted(request.size)
        return True

    def _held(self, table: str, key: bytes, now: int) -> bytes | None:
        data = self._engine.get(table, key)
        entry = decode(data) if data is not None else None
        return entry.value if entry is not None and entry.alive(now) else None

    def _change(self, put: Put, now: int, changes: list[Change], indexed: dict[tuple[str, bytes], Entry]) -> None:
        """Add a put's changes; `indexed` is what the group has put into the indexes so far, without values."""
        table, key, value, ends = put
        if value is None:
            self._room.deleted = True
            changes.append(Change(table, key, None))
            return
        written = now if table in self._evictable else -1
        if ends >= 0 or written >= 0:
            # a value that is set again and again must not leave an index entry each time
            changes += self._unindexed(table, key, indexed.get((table, key)))
            indexed[table, key] = Entry(b"", ends, written)
        changes.append(Change(table, key, encode(Entry(value, ends, written))))
        if ends >= 0:
            changes.append(Change(EXPIRY, index_key(ends, table, key), b""))
        if written >= 0:
            changes.append(Change(AGE, index_key(written, table, key), b""))

    def _unindexed(self, table: str, key: bytes, held: Entry | None) -> list[Change]:
        """What takes the entry that a key has out of the indexes."""
        if held is None:
            data = self._engine.get(table, key)
            if data is None:
                return []
            held = decode(data)
        times = ((EXPIRY, held.ends), (AGE, held.written))
        return [Change(index, index_key(time, table, key), None) for index, time in times if time >= 0]

    def _write(self, changes: list[Change], durable: bool) -> None:
        try:
            if changes:
                self._engine.write(changes)
            if durable:
                self._engine.sync()
                self.counts["syncs"] += 1
        except DiskFull:
            # a disk that is full to the last byte: the ballast makes room for what was taken on already
            if not self._room.drop_ballast():
                raise
            _log.warning("the disk is full: the store's ballast was given up for what is being written")
            self._engine.write(changes)
            self._engine.sync()

    def _make_room(self, size: int) -> None:
        """Raises `StoreFull` when nothing more can be given up."""
        if self._room.short(size) <= 0:
            return
        self._sweep(1 << 62)
        if self._room.deleted:
            self._compact()
        while self._room.short(size) > 0 and self._evict(max(self._room.short(size), self._room.limit // 8)):
            self._compact()
        if (short := self._room.short(size)) > 0:
            raise self._room.full(size, short)

    def _compact(self) -> None:
        self._engine.compact()
        self._room.deleted = False
        self._room.look()

    def _evict(self, size: int) -> int:
        """Remove the oldest entries of evictable tables, about `size` bytes; how many bytes went."""
        freed = 0
        while freed < size:
            rows, count, bytes_gone = self._remove(AGE, b"", lambda entry: entry.written, size - freed, _EVICT)
            self.counts["evicted"] += count
            freed += bytes_gone
            if not rows:
                break
        return freed

    def _sweep(self, most: int) -> None:
        """Remove what has ended, at most so many rows; `_behind` says whether there may be more."""
        until = index_key(self._clock.now() + 1, "", b"")
        gone = 0
        while True:
            rows, count, _ = self._remove(EXPIRY, until, lambda entry: entry.ends, 1 << 62, _SWEEP)
            self.counts["expired"] += count
            gone += rows
            self._behind = rows >= _SWEEP
            if not self._behind or gone >= most:
                return

    def _remove(self, index: str, end: bytes, time_of: Callable[[Entry], int], size: int, most: int) -> tuple[int, int, int]:
        """Remove entries in the order of an index, until so many bytes or rows are gone: rows, entries and bytes that went.

        An index entry whose time is not its entry's any more is of an older value, and goes alone."""
        gone: list[Change] = []
        freed = count = 0
        for at, _ in self._engine.scan(index, b"", end):
            if freed >= size or len(gone) >= most:
                break
            time, table, key = read_index_key(at)
            gone.append(Change(index, at, None))
            freed += len(at)
            data = self._engine.get(table, key)
            if data is not None and time_of(decode(data)) == time:
                gone.append(Change(table, key, None))
                freed += len(data) + len(key)
                count += 1
        if gone:
            self._engine.write(gone)
            self._room.deleted = True
        return len(gone), count, freed

    def _keep_house(self) -> None:
        """What has ended goes, and the figures are fresh. Trouble is said once, and waits for the next round."""
        self._kept_at = self._clock.monotonic()
        try:
            self._sweep(_SWEEP)
            self._room.look()
            self._room.keep_ballast()
        except Exception as error:  # noqa: BLE001 - the thread must outlive it
            self._behind = False
            if str(error) != self._trouble:
                _log.warning(f"the store's housekeeping failed, it is tried again: {error}")
            self._trouble = str(error)
        else:
            self._trouble = ""


def _settle(group: list[Request], answers: list[bool | SkerryError]) -> None:
    by_loop: dict[asyncio.AbstractEventLoop | None, list[tuple[Request, bool | SkerryError]]] = {}
    for request, answer in zip(group, answers, strict=True):
        by_loop.setdefault(request.loop, []).append((request, answer))
    for loop, pairs in by_loop.items():
        if loop is None:
            _give(pairs)
        else:
            try:
                loop.call_soon_threadsafe(_give, pairs)
            except RuntimeError:
                # its loop has ended: nobody waits for the answer any more
                continue


def _give(pairs: list[tuple[Request, bool | SkerryError]]) -> None:
    for request, answer in pairs:
        if request.future.done():
            continue
        if isinstance(answer, SkerryError):
            request.future.set_exception(answer)
        else:
            request.future.set_result(answer)


def ends_at(now: int, ttl: float) -> int:
    """When a time to live of so many seconds is over."""
    return now + round(ttl * SECOND)
