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

QUEUE = 10_000
STORE_S = 0.25
_TAIL = 32 * 1024 * 1024
_log = log.get("sinks")

Publish = Callable[[str, bytes, int, bool], Awaitable[None]]
"""topic, payload, qos, retain; returns when the broker has acknowledged."""


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
    """Reads the event log behind a stored cursor and hands it to one delivery, in order."""

    def __init__(self, delivery: Delivery, bell: Bell) -> None:
        self._delivery = delivery
        self._bell = bell
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
        return len(self._waiting)

    def status(self) -> dict[str, object]:
        """name, delivered, waiting, failure."""
        return {"name": self._delivery.name, "delivered": self.delivered, "waiting": self.lag, "failure": self.failure}

    async def run(self, client: WireClient, cursors: KeyValue) -> None:
        """Deliver until the connection ends. Raises `UnavailableError` when the log does not answer."""
        stored = await cursors.get(self._key)
        self.cursor = self._taken = max(self.cursor, int(stored or b"0"))
        self._waiting.clear()
        reader = LogReader(
            client, [f"{EVENTS_PREFIX}>"], lambda: self._taken, self._take, EVENTS, lambda: len(self._waiting) > QUEUE
        )
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
            await self._news.wait()
            self._news.clear()
            while self._waiting:
                batch = [self._waiting[at] for at in range(min(len(self._waiting), 200))]
                try:
                    await self._delivery.deliver([payload for _, payload in batch])
                except (SkerryError, OSError) as error:
                    self.failure = str(error)
                    _log.warning(f"sink {self._delivery.name} does not take events, they wait in the log: {error}")
                    await asyncio.sleep(backoff.next())
                    continue
                self.failure = ""
                backoff.reset()
                for _ in batch:
                    self._waiting.popleft()
                self.cursor = batch[-1][0]
                self.delivered += len(batch)
            reader.go_on()

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
