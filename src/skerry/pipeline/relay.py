"""From the event log to the sinks: each delivery has a cursor of its own, so a slow sink holds up no other.

An event is delivered at least once; ids let whoever receives it drop what a crash made come twice.
"""

import asyncio
import contextlib
import os
from collections import deque
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Protocol

import msgspec

from skerry.broker import Frame, LogReader, Position, WireClient, position
from skerry.core import log
from skerry.core.errors import SkerryError
from skerry.core.ports import KeyValue
from skerry.core.service import Backoff, Bell, beat, until_one_ends
from skerry.pipeline.event import EVENTS, EVENTS_PREFIX
from skerry.pipeline.spec import PipelineSpec, SinkSpec
from skerry.pipeline.topics import event_topic, topic_level
from skerry.runtime import Allowance

QUEUE, BATCH = 10_000, 200
STORE_S = 0.25
_TAIL = 32 * 1024 * 1024
_log = log.get("sinks")

Publish = Callable[[str, bytes, int, bool], Awaitable[None]]
"""topic, payload, qos, retain; returns when the broker has acknowledged."""


Limits = Callable[[str], "Allowance | None"]
"""By pipeline, what it may send; None: as much as it likes."""


class EventHead(msgspec.Struct, gc=False):
    """What a sink needs to know of an event."""

    id: str
    pipeline: str
    key: str
    state: str
    severity: str | None = None


_head = msgspec.json.Decoder(EventHead).decode


class Delivery(Protocol):
    """A sink as the relay sees it. `deliver` returns when the events are where they should be, or raises."""

    name: str

    async def deliver(self, events: list[bytes]) -> None: ...


class MqttDelivery:
    """`events/<pipeline>/<key>` for pipelines with the event sink, and the topics of their mqtt sinks."""

    name = "mqtt"

    def __init__(self, pipelines: list[PipelineSpec], publish: Publish) -> None:
        self._sinks = {spec.name: [sink for sink in spec.sinks if sink.kind in ("event", "mqtt")] for spec in pipelines}
        self._publish = publish

    async def deliver(self, events: list[bytes]) -> None:
        sending = []
        for payload in events:
            head = _head(payload)
            for sink in self._sinks.get(head.pipeline, ()):
                topic = event_topic(head.pipeline, head.key) if sink.kind == "event" else _topic(sink, head)
                sending.append(self._publish(topic, payload, sink.qos, sink.retain))
        await asyncio.gather(*sending)


def _topic(sink: SinkSpec, head: EventHead) -> str:
    fields = {"device": head.key, "key": head.key, "pipeline": head.pipeline, "state": head.state}
    topic = sink.topic
    for name, value in {**fields, "severity": head.severity or ""}.items():
        topic = topic.replace("{" + name + "}", "/".join(map(topic_level, value.split("/"))))
    return topic


class FileDelivery:
    """One JSON line an event, appended and synced; lines that are there already after a crash are not repeated."""

    def __init__(self, path: Path, pipelines: list[str]) -> None:
        self.name = f"file-{path.name}"
        self._path = path
        self._pipelines = set(pipelines)
        self._written: set[str] | None = None

    async def deliver(self, events: list[bytes]) -> None:
        appending = asyncio.create_task(asyncio.to_thread(self._append, events))
        try:
            await asyncio.shield(appending)
        except BaseException:
            # how far it came is not known: the file says, when it is asked for its last lines
            await asyncio.wait([appending])
            self._written = None
            raise

    def _append(self, events: list[bytes]) -> None:
        if self._written is None:
            self._written = self._tail_ids()
        fresh = []
        for payload in events:
            head = _head(payload)
            if head.id in self._written:
                self._written.discard(head.id)
            elif head.pipeline in self._pipelines:
                fresh.append(payload + b"\n")
        if fresh:
            self._path.parent.mkdir(parents=True, exist_ok=True)
            with self._path.open("ab") as file:
                file.write(b"".join(fresh))
                file.flush()
                os.fsync(file.fileno())

    def _tail_ids(self) -> set[str]:
        """Ids of the last lines of the file; a line cut short by a crash is cut off."""
        if not self._path.exists():
            return set()
        with self._path.open("r+b") as file:
            size = file.seek(0, os.SEEK_END)
            file.seek(max(0, size - _TAIL))
            tail = file.read()
            whole = tail.rfind(b"\n") + 1
            if whole != len(tail):
                file.truncate(size - len(tail) + whole)
        found = set()
        for line in tail[:whole].split(b"\n"):
            with contextlib.suppress(msgspec.MsgspecError, UnicodeDecodeError, RecursionError):  # a line of others, or half of one
                found.add(_head(line).id)
        return found


class Relay:
    """Reads the event log behind a stored cursor and hands it to one delivery, in order.

    Events of a pipeline that has sent what it may wait beside the others, in order; alarms do not, the rest pays for them. After
    a crash all is delivered again from the oldest that waited on."""

    def __init__(self, delivery: Delivery, bell: Bell, limits: Limits | None = None) -> None:
        self._delivery = delivery
        self._bell = bell
        self._limits = limits
        self._held: dict[str, deque[tuple[int, bytes]]] = {}
        self._passed = self._under_way = 0
        self._waiters: list[asyncio.Future[None]] = []
        self._key = f"relay.{delivery.name}"
        self._waiting: deque[tuple[int, bytes]] = deque()
        self._news = asyncio.Event()
        self._taken = 0
        self.cursor = 0
        self.delivered = 0
        self.failure = ""

    @property
    def name(self) -> str:
        return self._delivery.name

    @property
    def lag(self) -> int:
        """Events read and not yet delivered."""
        return self._under_way + len(self._waiting) + sum(map(len, self._held.values()))

    def held(self, pipeline: str) -> int:
        """Events of a pipeline that wait since it has sent what it may."""
        return len(self._held.get(pipeline, ()))

    async def reached(self, sequence: int) -> None:
        """Return when all events up to this one are delivered."""
        while self.cursor < sequence:
            future = asyncio.get_running_loop().create_future()
            self._waiters.append(future)
            await future

    def status(self) -> dict[str, object]:
        """name, delivered, waiting, failure."""
        return {"name": self._delivery.name, "delivered": self.delivered, "waiting": self.lag, "failure": self.failure}

    async def run(self, client: WireClient, cursors: KeyValue) -> None:
        """Deliver until the connection ends. Raises `UnavailableError` when the log does not answer."""
        stored = await cursors.get(self._key)
        self.cursor = self._taken = max(self.cursor, int(stored or b"0"))
        self._passed, self._under_way = self.cursor, 0
        self._waiting.clear()
        self._held.clear()
        reader = LogReader(client, [f"{EVENTS_PREFIX}>"], lambda: self._taken, self._take, EVENTS, self._full)
        await until_one_ends(reader.run(), self._deliver(reader), self._store(cursors))

    def _take(self, frames: list[Frame], first: Position, last: Position) -> None:
        for at, frame in enumerate(frames):
            sequence = last.stream if at == len(frames) - 1 else position(frame[1]).stream
            self._waiting.append((sequence, frame[3]))
        self._taken = last.stream
        self._news.set()
        self._bell.ring()

    async def _deliver(self, reader: LogReader) -> None:
        backoff = Backoff(0.2, 30.0)
        while True:
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(self._until_one_may()):
                    await self._news.wait()
            self._news.clear()
            while batch := self._next():
                self._under_way = len(batch)
                await self._hand_on(batch, backoff)
                self._under_way = 0
                self.cursor = min([self._passed, *(line[0][0] - 1 for line in self._held.values() if line)])
                self.delivered += len(batch)
                if self._waiters:
                    self._tell_waiters()
            if not self._full():
                reader.go_on()

    async def _hand_on(self, batch: list[bytes], backoff: Backoff) -> None:
        """Deliver, and again until it is."""
        while True:
            try:
                await self._delivery.deliver(batch)
            except (SkerryError, OSError) as error:
                self.failure = str(error)
                _log.warning(f"sink {self._delivery.name} does not take events, they wait in the log: {error}")
                await asyncio.sleep(backoff.next())
                continue
            self.failure = ""
            backoff.reset()
            return

    def _tell_waiters(self) -> None:
        waiters, self._waiters = self._waiters, []
        for future in waiters:
            if not future.done():
                future.set_result(None)

    def _full(self) -> bool:
        return self.lag > QUEUE

    def _until_one_may(self) -> float | None:
        """Seconds until the first that is held may go; None where none is."""
        rests = [self._rest(name, len(line[0][1])) for name, line in self._held.items() if line]
        return min(rests) if rests else None

    def _rest(self, pipeline: str, size: int) -> float:
        allowance = self._limits(pipeline) if self._limits is not None else None
        return allowance.wait(size) if allowance is not None else 0.0

    def _next(self) -> list[bytes]:
        """What goes next: what was held and may go by now, then what has come, less what must wait."""
        batch: list[bytes] = []
        for name, line in self._held.items():
            while line and len(batch) < BATCH and not self._rest(name, len(line[0][1])):
                batch.append(line.popleft()[1])
                self._spend(name, len(batch[-1]))
        while self._waiting and len(batch) < BATCH:
            self._passed, payload = self._waiting.popleft()
            if self._limits is None or not self._hold(payload):
                batch.append(payload)
        return batch

    def _hold(self, payload: bytes) -> bool:
        """Whether an event has to wait; then it is put in its pipeline's line."""
        head = _head(payload)
        line = self._held.get(head.pipeline)
        if head.state == "info" and (line or self._rest(head.pipeline, len(payload))):
            self._held.setdefault(head.pipeline, deque()).append((self._passed, payload))
            return True
        self._spend(head.pipeline, len(payload))
        return False

    def _spend(self, pipeline: str, size: int) -> None:
        allowance = self._limits(pipeline) if self._limits is not None else None
        if allowance is not None:
            allowance.spend(size)

    async def _store(self, cursors: KeyValue) -> None:
        stored = self.cursor
        while True:
            await beat(STORE_S)
            if self.cursor != stored:
                stored = self.cursor
                await cursors.set(self._key, str(stored).encode())


def deliveries(pipelines: list[PipelineSpec], publish: Publish, base: Path) -> list[Delivery]:
    """The deliveries that the sinks of these pipelines need."""
    found: list[Delivery] = [MqttDelivery(pipelines, publish)]
    files: dict[Path, list[str]] = {}
    for spec in pipelines:
        for sink in spec.sinks:
            if sink.kind == "file":
                files.setdefault(base / sink.path, []).append(spec.name)
    return found + [FileDelivery(path, names) for path, names in files.items()]
