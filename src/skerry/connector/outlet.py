"""A sink at work: events, or messages of the log, behind a cursor of its own; a batch is done or comes again."""

import asyncio
from collections import deque
from collections.abc import Sequence

import msgspec

from skerry.broker import LOG, Bucket, Frame, LogReader, Position, WireClient, header_fields, position, stream_state
from skerry.connector.contract import Outgoing, Sink
from skerry.connector.intake import CURSORS, HEADER
from skerry.connector.protocol import ConnectorReport
from skerry.connector.spec import ConnectorSpec, settings_of
from skerry.core import log
from skerry.core.clock import Clock
from skerry.core.errors import RejectedError, SkerryError
from skerry.core.service import Backoff, until_one_ends
from skerry.pipeline import EVENTS, EVENTS_PREFIX, MQTT_PREFIX, QOS0_PREFIX, EventHead, event_topic, subjects_of, topic_of

QUEUE = 5000
MOST_BATCH = 200
STORE_S = 0.25
_log = log.get("connector")
_head = msgspec.json.Decoder(EventHead).decode


class Outlet:
    """Runs one sink. Its settings say what it gets: `topics` of the log (a list of what has a `source` filter), else events, with
    `pipelines` only those of some."""

    def __init__(self, spec: ConnectorSpec, sink: Sink, report: ConnectorReport, clock: Clock) -> None:
        self._name = spec.name
        self._sink = sink
        self._report = report
        self._clock = clock
        settings = settings_of(spec, f"connector {spec.name}")
        self._pipelines = frozenset(getattr(settings, "pipelines", ()))
        filters = [each.source for each in getattr(settings, "topics", ())]
        self._stream = LOG if filters else EVENTS
        subjects = [subject for each in filters for subject in subjects_of(each)]
        self._subjects = [prefix + each for each in dict.fromkeys(subjects) for prefix in (MQTT_PREFIX, QOS0_PREFIX)]
        self._waiting: deque[tuple[int, Frame]] = deque()
        self._news = asyncio.Event()
        self._taken = self._done = 0
        report.cursor = -1 if filters else None

    async def run(self, client: WireClient) -> None:
        """Deliver until cancelled or until the connection ends. Raises `UnavailableError`."""
        cursors = Bucket(client, CURSORS)
        self._waiting.clear()
        self._taken = self._done = await self._begin(client, cursors)
        subjects = self._subjects or [f"{EVENTS_PREFIX}>"]
        reader = LogReader(client, subjects, lambda: self._taken, self._take, self._stream, lambda: len(self._waiting) > QUEUE)
        await until_one_ends(reader.run(), self._deliver(reader), self._store(cursors))

    @property
    def _key(self) -> str:
        return f"connector.{self._name}.{'log' if self._stream == LOG else 'events'}"

    async def _begin(self, client: WireClient, cursors: Bucket) -> int:
        """Where to go on: one that is new begins with what comes from now on."""
        state = await stream_state(client, self._stream)
        kept = await cursors.get(self._key)
        begin = int(state["last_seq"]) if kept is None else int(kept)
        gone = int(state["first_seq"]) - 1 - begin
        if gone > 0 and int(state["messages"]):
            self._refuse("no longer kept", gone)
        if kept is None:
            await cursors.set(self._key, str(begin).encode())
        self._mark(begin)
        return begin

    def _mark(self, stored: int) -> None:
        if self._report.cursor is not None:
            self._report.cursor = stored

    def _refuse(self, reason: str, count: int) -> None:
        self._report.refused[reason] = self._report.refused.get(reason, 0) + count
        _log.warning(f"{count} were not brought out: {reason}", connector=self._name)

    def _take(self, frames: list[Frame], first: Position, last: Position) -> None:
        for at, frame in enumerate(frames):
            self._waiting.append((last.stream if at == len(frames) - 1 else position(frame[1]).stream, frame))
        self._taken = last.stream
        self._report.waiting = len(self._waiting)
        self._news.set()

    async def _deliver(self, reader: LogReader) -> None:
        backoff = Backoff(0.2, 30.0)
        while True:
            await self._news.wait()
            self._news.clear()
            while self._waiting:
                taken = [self._waiting[at] for at in range(min(len(self._waiting), MOST_BATCH))]
                batch = [each for each in (self._outgoing(*one) for one in taken) if each is not None]
                if batch and not await self._send(batch, backoff):
                    continue
                for _ in taken:
                    self._waiting.popleft()
                self._done = taken[-1][0]
                self._report.waiting = len(self._waiting)
            reader.go_on()

    async def _send(self, batch: Sequence[Outgoing], backoff: Backoff) -> bool:
        """Whether the batch is done with; otherwise some time has passed."""
        try:
            await self._sink.send(batch)
        except RejectedError as error:
            if len(batch) > 1:
                for each in batch:  # it may be one of them only
                    while not await self._send([each], backoff):
                        pass
                return True
            self._report.errors += 1
            self._refuse(f"refused by the other side: {error.message}"[:120], 1)
            return True
        except (SkerryError, OSError) as error:
            self._report.errors += 1
            self._report.trouble = str(error)
            _log.warning(f"nothing is taken, it waits: {error}", connector=self._name)
            await asyncio.sleep(backoff.next())
            return False
        self._report.trouble = ""
        self._report.moved += len(batch)
        self._report.last = self._clock.now()
        backoff.reset()
        return True

    def _outgoing(self, sequence: int, frame: Frame) -> Outgoing | None:
        """What a sink gets of a frame; None for what it does not ask for."""
        if self._stream == EVENTS:
            head = _head(frame[3])
            if self._pipelines and head.pipeline not in self._pipelines:
                return None
            topic = event_topic(head.pipeline, head.key)
            return Outgoing(head.id, topic, frame[3], head.pipeline, head.key, head.state)
        via = header_fields(frame[2]).get(HEADER.lower(), "") if frame[2] else ""
        return Outgoing(f"{sequence}", topic_of(frame[0]), frame[3], via=via)

    async def _store(self, cursors: Bucket) -> None:
        stored = self._done
        while True:
            await asyncio.sleep(STORE_S)
            if self._done != stored:
                stored = self._done
                await cursors.set(self._key, str(stored).encode())
                self._mark(stored)
