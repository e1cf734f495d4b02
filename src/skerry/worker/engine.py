"""The worker's engine: one reader over the log feeds all its pipelines; a connection lost is a reader lost, never a state."""

import asyncio
import os
import sys
import traceback
from pathlib import Path

from skerry.broker import Frame, LogReader, Position, WireClient, position, to_subject
from skerry.core import log
from skerry.core.clock import Clock
from skerry.core.errors import ConfigError, CorruptError, RejectedError, SkerryError, UnavailableError
from skerry.core.service import Backoff, cancel_and_wait
from skerry.inference import ModelConfig, Models
from skerry.pipeline import MAX_SUBJECT, QOS0_PREFIX, Runner, parse_pipeline
from skerry.worker.outbox import Outbox
from skerry.worker.protocol import Assignment, PipelineReport, Report
from skerry.worker.slot import Slot
from skerry.worker.trace import FileTrace

CHECKPOINT_S = 1.0
TICK_S = 0.25
IDLE_CURSOR_S = 5.0
EXIT_BROKEN = 70
QOS0_QUEUE = b"skerry-qos0"
QOS0_MARKS = (b"NATS/1.0\r\nNmqtt-Pub:0\r\n", b"NATS/1.0\r\nNmqtt-Pub: 0\r\n")
_log = log.get("worker")


class Engine:
    """Runs what it is assigned until `drain` is called or a fence stops it."""

    def __init__(self, assignment: Assignment, clock: Clock) -> None:
        self._assignment = assignment
        self._clock = clock
        self._trace = FileTrace(Path(assignment.trace))
        self._slots: dict[str, Slot] = {}
        self._client: WireClient | None = None
        self._feed_client: WireClient | None = None
        self._reader: LogReader | None = None
        self._fed: list[Slot] = []
        self._changed = asyncio.Event()
        self._drained = asyncio.Event()
        self._draining = False
        self.ready = False
        if assignment.base not in sys.path:
            sys.path.insert(0, assignment.base)
        configs = [ModelConfig(**table) for table in assignment.models]
        self._models = Models(configs, Path(assignment.base), assignment.threads)
        for table in assignment.pipelines:
            spec = parse_pipeline(table, f"pipelines.{table.get('name')}")
            self._slots[spec.name] = Slot(spec, (assignment.partition, assignment.partitions), clock, Outbox(self._on_drained))

    async def run(self) -> None:
        """Work until drained. Raises `FencedError` when another worker has taken over."""
        backoff = Backoff(0.05, 2.0)
        while not self._drained.is_set():
            try:
                await self._connect()
                backoff.reset()
                await self._work()
            except (UnavailableError, RejectedError) as error:
                _log.warning(f"worker {self._assignment.partition} waits for the broker: {error}")
                await asyncio.sleep(backoff.next())
            finally:
                for client in (self._client, self._feed_client):
                    if client is not None:
                        client.close()

    async def _connect(self) -> None:
        given = self._assignment
        name = f"worker-{given.partition}"
        login = (given.host, given.port, given.user, given.password)
        self._client = await WireClient.connect(*login, name)
        # a connection of its own for the log: answers to checkpoints must not stand in line behind a backlog
        self._feed_client = await WireClient.connect(*login, f"{name}-reader")
        for slot in self._slots.values():
            if slot.runner is None and not slot.failure:
                await self._load(slot)
            elif slot.runner is not None:
                await slot.forget_stored(self._client)
                slot.touch()
            slot.outbox.attach(self._client)
        for slot in self._slots.values():
            if slot.runner is not None and slot.fresh:
                slot.start()
        self._tap_qos0()

    async def _load(self, slot: Slot) -> None:
        assert self._client is not None
        given = self._assignment
        try:
            state = await slot.load_state(self._client)
            scorer = self._models.load(slot.spec.model) if slot.spec.model else None
            if scorer is not None and slot.spec.columns:
                scorer.check_columns(len(slot.spec.columns))
            runner = Runner(
                slot.spec,
                scorer,
                given.node,
                state,
                now=self._clock.now,
                partition=(given.partition, given.partitions),
                poison=given.poison.get(slot.spec.name, ()),
                known_letters=slot.known_letters,
                trace=self._trace,
            )
        except (ConfigError, RejectedError, CorruptError) as error:
            slot.fail(error)
            return
        slot.take(runner)

    def _tap_qos0(self) -> None:
        """QoS 0 is not in the log: put it there, each message by one worker only. What is lost before that, MQTT allows."""
        assert self._feed_client is not None
        client = self._feed_client

        def take(frames: list[Frame]) -> None:
            for subject, _, _, payload in frames:
                if len(subject) <= MAX_SUBJECT:  # a longer one has no room in a line, and the server would end the connection
                    client.publish(QOS0_PREFIX.encode() + subject, payload)

        wanted: set[str] = set()
        for slot in self._slots.values():
            subject = to_subject(slot.spec.source.topic)
            wanted.add(subject)
            if slot.spec.source.topic.endswith("/#"):
                wanted.add(subject.removesuffix(".>"))
        for subject in sorted(_widest(wanted)):
            client.subscribe(subject.encode(), take, QOS0_QUEUE, QOS0_MARKS)

    async def _work(self) -> None:
        assert self._client is not None
        assert self._feed_client is not None
        timers = asyncio.create_task(self._keep_time(self._client))
        ends = (self._client.closed, self._feed_client.closed)
        try:
            while not any(end.done() for end in ends) and not self._drained.is_set():
                self._changed.clear()
                await self._read(self._feed_client, timers, self._client.closed)
        finally:
            await cancel_and_wait(timers)
        if not self._drained.is_set():
            raise UnavailableError(f"the connection ended: {next(end.result() for end in ends if end.done())}")

    async def _read(self, client: WireClient, timers: "asyncio.Task[None]", end: "asyncio.Future[str]") -> None:
        """Read for the pipelines that run, until that set changes, the connection ends or a timer failed."""
        self._fed = running = self._running()
        changed = asyncio.create_task(self._changed.wait())
        reading: asyncio.Task[None] | None = None
        if running and not self._draining:
            subjects = sorted(_widest({subject for slot in running for subject in slot.subjects}))
            cursor = lambda: min(slot.cursor for slot in running)  # noqa: E731 - the reader's own set, not that of a later moment
            self._reader = LogReader(client, subjects, cursor, self._on_batch, full=self._full)
            reading = asyncio.create_task(self._reader.run())
        self.ready = True
        watched = [task for task in (changed, reading, timers, client.closed, end) if task is not None]
        await asyncio.wait(watched, return_when=asyncio.FIRST_COMPLETED)
        self._reader = None
        await cancel_and_wait(*[task for task in (changed, reading) if task is not None and not task.done()])
        for task in (reading, timers):
            if task is not None and task.done() and not task.cancelled():
                task.result()

    def _running(self) -> list[Slot]:
        return [slot for slot in self._slots.values() if slot.runner is not None and not slot.paused]

    def _full(self) -> bool:
        return any(slot.outbox.full for slot in self._slots.values())

    def _on_drained(self) -> None:
        if self._reader is not None and not self._full():
            self._reader.go_on()

    def _on_batch(self, frames: list[Frame], first: Position, last: Position) -> None:
        try:
            self._take(frames, first, last)
        except BaseException:  # noqa: BLE001 - see below
            # no state is left that could be trusted, and a callback has no caller to tell: the agent starts a new worker
            traceback.print_exc()
            sys.stderr.flush()
            os._exit(EXIT_BROKEN)

    def _take(self, frames: list[Frame], first: Position, last: Position) -> None:
        if first.stream <= self._assignment.careful_until:
            for frame in frames:
                where = position(frame[1])
                self._feed([frame], where, where)
        else:
            self._feed(frames, first, last)

    def _feed(self, frames: list[Frame], first: Position, last: Position) -> None:
        mono = self._clock.monotonic()
        careful = first.stream <= self._assignment.careful_until
        for slot in self._fed:
            if slot.runner is not None:
                slot.runner.batch = 1 if careful else slot.batch
                slot.runner.feed(frames, first, last, mono)
                slot.release()

    async def _keep_time(self, client: WireClient) -> None:
        """Timers: windows of silent devices, checkpoints, re-sends, cursors that move over others' messages."""
        last_checkpoint = last_idle = before = self._clock.monotonic()
        while not client.closed.done():
            await asyncio.sleep(TICK_S)
            now = self._clock.monotonic()
            caught_up = self._reader is not None and self._reader.caught_up
            urgent = False
            stood_still = now - before > 2 * TICK_S  # what it did not hear then says nothing about the devices
            for slot in self._fed:
                if stood_still:
                    slot.touch()
                elif caught_up:
                    urgent |= slot.advance()
            for slot in self._slots.values():
                slot.outbox.resend()
            if urgent or now - last_checkpoint >= CHECKPOINT_S:
                last_checkpoint = now
                await self.checkpoint()
            if caught_up and now - last_idle >= IDLE_CURSOR_S:
                last_idle = now
                await self._move_idle_cursors()
            before = self._clock.monotonic()

    async def checkpoint(self) -> None:
        """Store the state of every pipeline that has moved."""
        if self._client is not None:
            await asyncio.gather(*[slot.checkpoint(self._client) for slot in self._slots.values()])

    async def _move_idle_cursors(self) -> None:
        reader = self._reader
        cursor = await reader.idle_cursor() if reader is not None else None
        if cursor is None or reader is not self._reader:
            return
        for slot in self._fed:
            slot.skip_to(cursor)

    def pause(self, pipeline: str, paused: bool) -> None:
        """Stop or go on reading for one pipeline; its state stays."""
        slot = self._slots.get(pipeline)
        if slot is not None and slot.paused != paused:
            slot.paused = paused
            # what this reader still brings stands behind a gap for a pipeline that was not there all the time
            self._fed = [each for each in self._fed if each is not slot]
            if slot.runner is not None:
                slot.runner.touch(self._clock.monotonic())
            self._changed.set()

    async def drain(self) -> None:
        """Stop reading, store all, end `run`."""
        self._draining = True
        self._fed = []
        self._changed.set()
        await asyncio.sleep(0)
        try:
            async with asyncio.timeout(3):
                await self.checkpoint()
        except (SkerryError, TimeoutError) as error:
            _log.warning(f"the last checkpoint was not stored, its part is read again at the next start: {error}")
        self._drained.set()
        self._changed.set()

    def report(self) -> Report:
        """How all pipelines of this worker stand."""
        lag = self._reader.pending if self._reader is not None else 0
        reports: dict[str, PipelineReport] = {name: slot.report(lag) for name, slot in self._slots.items()}
        spent = os.times()
        return Report(ready=self.ready, pipelines=reports, cpu_seconds=spent.user + spent.system)


def _widest(subjects: set[str]) -> set[str]:
    """The subjects less those that another one covers: the server refuses filters that overlap."""
    return {
        subject
        for subject in subjects
        if not any(other != subject and _covers(other.split("."), subject.split(".")) for other in subjects)
    }


def _covers(wide: list[str], narrow: list[str]) -> bool:
    for at, level in enumerate(wide):
        if level == ">":
            return len(narrow) > at
        if at >= len(narrow) or narrow[at] == ">" or level not in ("*", narrow[at]):
            return False
    return len(wide) == len(narrow)
