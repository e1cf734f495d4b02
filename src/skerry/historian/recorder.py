"""The recorder: reads the log and the events behind its own cursors, and stores samples and cursors together.

The log is its journal: what is not stored yet is read again after a crash, and a sample that is stored twice is one.
"""

import asyncio
from contextlib import suppress
from typing import NamedTuple

import numpy as np

from skerry.broker import LOG, Frame, LogReader, Position, WireClient, stream_state
from skerry.core import log
from skerry.core.clock import Clock
from skerry.core.errors import RejectedError, SkerryError, StoreFull, UnavailableError
from skerry.core.service import Backoff, cancel_and_wait, until_one_ends
from skerry.core.units import parse_size
from skerry.historian.intake import MOST_GATHERED, Intake, Samples
from skerry.historian.protocol import Assignment, Order, Place, Report
from skerry.pipeline import EVENTS, EVENTS_PREFIX, QOS0_PREFIX, parse_pipeline, subjects_of
from skerry.store import Archive, Keep, StorageConfig, SyncKeyValueStore

LOG_CURSOR, EVENTS_CURSOR = "log", "events"
TAKE_S = 1.0
STORE_S = 10.0
REST = 9.0
"""Times as long as storing took it is not done again: a tenth of a core at most."""
RETAIN_S = 600.0
REREAD = 20_000
"""Messages before a cursor that a new process reads again: a power cut may take the log's end, and others come in its place."""
QOS0_QUEUE = b"skerry-qos0"
QOS0_MARKS = (b"NATS/1.0\r\nNmqtt-Pub:0\r\n", b"NATS/1.0\r\nNmqtt-Pub: 0\r\n")
_MOST_SUBJECT = 2048
MOST_ORDERS = 8
_log = log.get("history")


class Done(NamedTuple):
    """How the last order went."""

    number: int = 0
    freed: int = 0
    failed: str = ""


class Recorder:
    """One node's history. The store is open from the first line on; `close` ends it.

    Raises `UnavailableError` where another process has the store, `CorruptError` for a damaged one.
    """

    def __init__(self, given: Assignment, clock: Clock) -> None:
        self.given = given
        self._clock = clock
        # blocks are packed already
        self._store = SyncKeyValueStore(StorageConfig(given.directory, given.max_size, "none", "8MiB", "8MiB"), clock)
        self.archive = Archive(self._store, Keep(given.keep.raw, given.keep.minutes, given.keep.hours), clock)
        specs = [parse_pipeline(table, f"pipelines.{table.get('name')}") for table in given.pipelines]
        self._intake = Intake(specs, given.topics, self.archive.series(), given.max_series)
        self._stored = {name: self.archive.cursor(name) or 0 for name in (LOG_CURSOR, EVENTS_CURSOR)}
        self._taken = {name: max(0, cursor - REREAD) for name, cursor in self._stored.items()}
        self._pending: dict[str, int] | None = None
        self._place: Place | None = None
        self._placed = asyncio.Event()
        self._readers: list[LogReader] = []
        self._storing = asyncio.Lock()
        self._stored_at = self._retained_at = 0.0
        self._pause = TAKE_S
        self._given_up = 0
        self._trouble = ""
        self._orders: asyncio.Queue[Order] = asyncio.Queue(MOST_ORDERS)
        self._done = Done()

    def place(self, place: Place) -> None:
        """Where the log is, and what is not kept."""
        self._place = place
        self._intake.thin = frozenset(place.thin)
        self._placed.set()

    def order(self, order: Order) -> None:
        """Do something once, between two stores; one that stands behind too many is dropped, and whoever waits gives up."""
        with suppress(asyncio.QueueFull):
            self._orders.put_nowait(order)

    async def run(self) -> None:
        """Record until cancelled; what has come by then is stored by `close`."""
        await self._placed.wait()
        backoff = Backoff(0.05, 2.0)
        keeping = asyncio.create_task(self._keep())
        obeying = asyncio.create_task(self._obey())
        try:
            while True:
                reading = asyncio.create_task(self._read(backoff))
                await asyncio.wait([keeping, reading], return_when=asyncio.FIRST_COMPLETED)
                await cancel_and_wait(*([] if reading.done() else [reading]))
                if keeping.done():
                    keeping.result()
                try:
                    reading.result()
                except (UnavailableError, RejectedError) as error:
                    _log.warning(f"the history waits for the broker: {error}")
                await asyncio.sleep(backoff.next())
        finally:
            await cancel_and_wait(keeping, obeying)

    async def _read(self, backoff: Backoff) -> None:
        """Read over one pair of connections until one ends: the events must not stand in line behind a backlog."""
        assert self._place is not None
        login = (self._place.host, self._place.port, self._place.user, self._place.password)
        clients: list[WireClient] = []
        try:
            clients.append(await WireClient.connect(*login, "history"))
            clients.append(await WireClient.connect(*login, "history-events"))
            backoff.reset()
            await self._check(clients[0])
            log_of = LogReader(clients[0], [">"], lambda: self._taken[LOG_CURSOR], self._on_log, LOG, self._full)
            events = LogReader(
                clients[1], [f"{EVENTS_PREFIX}>"], lambda: self._taken[EVENTS_CURSOR], self._on_events, EVENTS, self._full
            )
            self._tap_qos0(clients[0])
            self._readers = [log_of, events]
            await until_one_ends(log_of.run(), events.run(), signs=[client.closed for client in clients])
        finally:
            self._readers = []
            for client in clients:
                client.close()
        raise UnavailableError("the connection ended")

    async def _check(self, client: WireClient) -> None:
        """A log that ends before the cursor is another one, or has lost its end: what it holds is read anew."""
        for stream, name in ((LOG, LOG_CURSOR), (EVENTS, EVENTS_CURSOR)):
            if int((await stream_state(client, stream))["last_seq"]) < self._taken[name]:
                _log.warning(f"{stream} ends before what was read of it: it is read from its beginning")
                self._taken[name] = self._stored[name] = 0

    def _tap_qos0(self, client: WireClient) -> None:
        """QoS 0 is not in the log: the workers put in what pipelines read, this what `topics` name beside; each message once."""

        def take(frames: list[Frame]) -> None:
            for subject, _, _, payload in frames:
                if len(subject) <= _MOST_SUBJECT:
                    client.publish(QOS0_PREFIX.encode() + subject, payload)

        for subject in sorted({subject for topic in self.given.topics for subject in subjects_of(topic)}):
            client.subscribe(subject.encode(), take, QOS0_QUEUE, QOS0_MARKS)

    def _full(self) -> bool:
        return self._intake.count >= MOST_GATHERED

    def _on_log(self, frames: list[Frame], first: Position, last: Position) -> None:
        self._intake.take(frames)
        self._taken[LOG_CURSOR] = last.stream

    def _on_events(self, frames: list[Frame], first: Position, last: Position) -> None:
        self._intake.take_events(frames)
        self._taken[EVENTS_CURSOR] = last.stream

    async def _keep(self) -> None:
        """Take over what came, again and again, and let go what has been kept for its time."""
        while True:
            await asyncio.sleep(TAKE_S)
            await self.store()
            if self._store.stopped:  # the next life opens it anew
                raise UnavailableError(f"the history takes nothing since an I/O error: {self._store.stopped}")
            for reader in self._readers:
                if not self._full():
                    reader.go_on()
            if self._clock.monotonic() - self._retained_at >= RETAIN_S:
                self._retained_at = self._clock.monotonic()
                await self._retain()

    async def _obey(self) -> None:
        while True:
            order = await self._orders.get()
            try:
                async with self._storing:
                    freed = await asyncio.to_thread(self._do, order)
                self._done = Done(order.number, freed)
            except (SkerryError, OSError) as error:
                self._done = Done(order.number, failed=str(error))

    def _do(self, order: Order) -> int:
        freed = 0
        if order.give_up:
            freed = self.archive.drop_oldest(order.give_up, order.levels or None)
            self._given_up += freed
            self._store.compact()
        if order.copy:
            self._store.backup(order.copy)
        return freed

    async def _retain(self) -> None:
        try:
            await asyncio.to_thread(self.archive.retain)
        except SkerryError as error:
            _log.warning(f"what is old was not removed from the history, it is tried again: {error}")

    async def store(self, last: bool = False) -> None:
        """Give the archive what has come, and where that is due store all of it with how far it came.

        What cannot be stored now waits, and so does the log."""
        async with self._storing:
            began = self._clock.monotonic()
            gathered: dict[str, Samples] = {}
            if self._pending is None:
                held = self.archive.waiting + self._intake.count
                reached = {name: max(cursor, self._stored[name]) for name, cursor in self._taken.items()}
                due = last or held > MOST_GATHERED or began - self._stored_at >= self._pause
                if due and (held or reached != self._stored):
                    self._pending = reached
                gathered = self._intake.hand_over()
            writing = asyncio.create_task(asyncio.to_thread(self._write, gathered, self._pending))
            try:
                await asyncio.shield(writing)
            except asyncio.CancelledError:
                await asyncio.wait([writing])  # the cursors must not be stored before all samples are taken
                raise
            except SkerryError as error:
                if not self._trouble:
                    _log.error(f"the history is not stored, the log waits: {error}")
                self._trouble = str(error)
                return
            if self._pending is not None:
                self._stored, self._pending, self._trouble = self._pending, None, ""
                self._stored_at = self._clock.monotonic()
                self._pause = max(STORE_S, REST * (self._stored_at - began))

    def _write(self, gathered: dict[str, Samples], cursors: dict[str, int] | None) -> None:
        for name, samples in gathered.items():
            times, values = np.array(samples.times, np.int64), np.array(samples.values, np.float64)
            self.archive.append(name, times, values, keep=samples.kept)
        if cursors is None:
            return
        try:
            self.archive.flush(cursors)
        except StoreFull:
            freed = self.archive.drop_oldest(parse_size(self.given.max_size) // 8)
            self._given_up += freed
            if not freed:
                raise
            _log.warning(f"the history is full: {freed} bytes of its oldest samples were given up")
            self.archive.flush(cursors)

    async def close(self) -> None:
        """Store what has come, and let go of the store."""
        try:
            await self.store(last=True)
        except SkerryError as error:
            _log.warning(f"the last samples were not stored, they are read again at the next start: {error}")
        try:
            self._store.close()
        except SkerryError as error:
            _log.warning(f"the history did not close well: {error}")

    def report(self) -> Report:
        """How it stands."""
        passed = dict(self._intake.passed_over)
        if late := self.archive.counts["too_late"]:
            passed["too late"] = late
        held = self._store.stats()
        return Report(
            cursor=self._stored[LOG_CURSOR],
            caught_up=bool(self._readers) and all(reader.caught_up for reader in self._readers),
            samples=self.archive.counts["samples"],
            passed_over=passed,
            series=self.archive.count,
            bytes=held["bytes"],
            limit=held["limit"],
            given_up=self._given_up,
            trouble=self._trouble,
            clock_doubted=self.archive.doubts_the_clock,
            done=self._done.number,
            freed=self._done.freed,
            failed=self._done.failed,
        )
