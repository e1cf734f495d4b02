"""Fills the queue: reads log and events behind its cursors, and queues what the rules let leave, step by step."""

import asyncio
from collections import deque
from collections.abc import Callable, Sequence
from pathlib import Path

from skerry.broker import LOG, Frame, LogReader, Position, WireClient, position, stream_state
from skerry.core import log
from skerry.core.clock import Clock
from skerry.core.errors import CorruptError, OverloadedError, UnavailableError
from skerry.core.service import until_one_ends
from skerry.core.units import parse_rate
from skerry.pipeline import EVENTS, EVENTS_PREFIX, parse_pipeline
from skerry.runtime import Allowance
from skerry.uplink.gather import Gatherer
from skerry.uplink.item import HELD, Item, Lane, Priority, decode_item, encode_item
from skerry.uplink.key_file import site_key
from skerry.uplink.protocol import Assignment, Broker
from skerry.uplink.queue import Entry, Queue
from skerry.uplink.said import said_item
from skerry.uplink.thinning import thin

STEP_S = 0.25
COMMIT_S = 1.0
REST = 9.0
"""Times as long as a commit took none is made: a tenth of the time at most, but for alarms."""
MOST_FRAMES = 20_000
MOST_SAID = 100
NEARLY_FULL, FULL = 0.85, 0.97
EMPTY_AGAIN = 0.5
FULL_S = 1.0
STEPS_OF_A_QUEUE = 32
"""Where a queue is nearly full, a step takes in a part of what it holds, so that all of it fits as soon as there is room."""
THIN_ITEMS, THIN_BYTES = 256, 8 * 1024 * 1024
THINNED: tuple[Lane, ...] = ("held.bulk", "bulk", "held.normal", "normal")
RELEASED = 256
BURST_S = 4.0
"""What is held is looked at once a second, and less often where the disk is slow: so much of a pause may be made up for."""
_log = log.get("uplink")


class Collector:
    """Gathers for one queue after the other: `begin`, then `run` until the connection ends.

    Attributes:
        cursor: of the log, stored. sent: bytes acknowledged by the centre, ever; stored with each commit.
        allowances: by pipeline, of those with `resources.network`.
        thinned, dropped: items of a full queue that roll-ups stand for now, and that are gone.
    """

    def __init__(self, given: Assignment, clock: Clock) -> None:
        self._given = given
        self._clock = clock
        self._key = site_key(Path(given.data_dir))
        self._specs = [parse_pipeline(table, f"pipelines.{table.get('name')}") for table in given.pipelines]
        self.gatherer = self._gatherer("-")
        self.cursor = -1
        self.sent = self.thinned = self.dropped = 0
        self.trouble = ""
        self._log_frames: list[Frame] = []
        self._event_frames: list[Frame] = []
        self._taken = {LOG: 0, EVENTS: 0}
        self._readers: list[LogReader] = []
        self._said: deque[bytes] = deque(maxlen=MOST_SAID)
        self._queue: Queue | None = None
        self._sealed: Callable[[Priority], int] = lambda lane: 0
        self._committed_at = self._pause = 0.0
        self._owed = self._careful = False
        self._fed = dict(self._taken)
        rates = {spec.name: parse_rate(spec.resources.network) for spec in self._specs if spec.resources.network}
        self.allowances = {name: Allowance(rate, clock, BURST_S) for name, rate in rates.items()}

    def _gatherer(self, epoch: str) -> Gatherer:
        return Gatherer(self._given.config, self._specs, self._key, epoch)

    def begin(self, queue: Queue, sealed: Callable[[Priority], int]) -> None:
        """Go on from what the queue's checkpoint says; what was gathered behind it is gathered again."""
        self._queue, self._sealed = queue, sealed
        checkpoint = queue.checkpoint
        self.gatherer = self._gatherer(checkpoint.epoch)
        if checkpoint.state:
            self.gatherer.restore(checkpoint.state)
        self._log_frames, self._event_frames = [], []
        self._taken = {LOG: checkpoint.log, EVENTS: checkpoint.events}
        self._fed = dict(self._taken)
        self.cursor = checkpoint.log
        self.sent = max(self.sent, checkpoint.sent)

    def say(self, event: bytes) -> None:
        """Queue an event of the node's own, as an alarm; it is lost with this process if that ends within the next second."""
        self._said.append(event)

    @property
    def caught_up(self) -> bool:
        """Whether all that there is has been gathered and counts."""
        queue = self._queue
        read = bool(self._readers) and all(reader.caught_up for reader in self._readers)
        stored = queue is not None and queue.checkpoint.events == self._taken[EVENTS] and queue.checkpoint.log == self._taken[LOG]
        return read and stored

    async def run(self, place: Broker) -> None:
        """Read and queue until a connection ends. Raises `UnavailableError`, `FencedError`, `RejectedError`."""
        login = (place.host, place.port, place.user, place.password)
        clients: list[WireClient] = []
        try:
            clients.append(await WireClient.connect(*login, "uplink-events"))
            await self._find_ends(clients[0])
            self._readers = [self._reader(clients[0], EVENTS, f"{EVENTS_PREFIX}>", self._event_frames_in)]
            if self.gatherer.reads_log:
                clients.append(await WireClient.connect(*login, "uplink-log"))
                self._readers.append(self._reader(clients[1], LOG, ">", self._log_frames_in))
            readers = [reader.run() for reader in self._readers]
            await until_one_ends(*readers, self._steps(), signs=[client.closed for client in clients])
        finally:
            self._readers = []
            for client in clients:
                client.close()
        raise UnavailableError("a connection to the log ended")

    def _reader(self, client: WireClient, stream: str, subject: str, take: Callable[[list[Frame]], None]) -> LogReader:
        def on_batch(frames: list[Frame], first: Position, last: Position) -> None:
            take(frames)
            self._taken[stream] = last.stream

        return LogReader(client, [subject], lambda: self._taken[stream], on_batch, stream, self._full)

    def _log_frames_in(self, frames: list[Frame]) -> None:
        self._log_frames += frames

    def _event_frames_in(self, frames: list[Frame]) -> None:
        self._event_frames += frames

    def _full(self) -> bool:
        return len(self._log_frames) + len(self._event_frames) >= MOST_FRAMES

    async def _find_ends(self, client: WireClient) -> None:
        """What has no cursor begins where the stream ends; a stream that ends before a cursor has lost its end."""
        for stream in (LOG, EVENTS):
            last = int((await stream_state(client, stream))["last_seq"])
            if (stream == LOG and not self.gatherer.reads_log) or not 0 <= self._taken[stream] <= last:
                self._taken[stream] = last
        self._fed = dict(self._taken)
        await self._commit(self._fed)

    async def _steps(self) -> None:
        while True:
            await asyncio.sleep(STEP_S)
            await self._step()
            for reader in self._readers:
                if not self._full():
                    reader.go_on()

    async def _step(self) -> None:
        assert self._queue is not None
        small = self._queue.size // STEPS_OF_A_QUEUE
        if self._queue.bytes > NEARLY_FULL * self._queue.size:
            self._careful = True
        elif self._careful and self._queue.bytes < EMPTY_AGAIN * self._queue.size:
            held = sum(len(frame[3]) for frame in (*self._log_frames, *self._event_frames))
            self._careful = held > small or not all(reader.caught_up for reader in self._readers)
        await self._make_room()
        if self._careful and self._owed:
            await self._commit(self._fed)  # then a put that does not fit can be taken back without what came before it
        cursors = dict(self._taken)
        most = small if self._careful else 0
        log_frames, self._log_frames = _portion(self._log_frames, most)
        event_frames, self._event_frames = _portion(self._event_frames, most)
        if self._log_frames:
            cursors[LOG] = position(log_frames[-1][1]).stream
        if self._event_frames:
            cursors[EVENTS] = position(event_frames[-1][1]).stream
        items = self._fitting(self.gatherer.feed(log_frames, event_frames, self._clock.now()))
        items += self._answers()
        if items:
            await self._put(self._entries(items))
        self._fed = cursors
        stored = self._queue.checkpoint
        moved = bool(items) or self._owed or (stored.log, stored.events, stored.sent) != (*cursors.values(), self.sent)
        self._owed = moved
        urgent = any(item.priority == "alarm" for item in items)
        due = self._clock.monotonic() - self._committed_at >= self._pause
        moved_on = await self._release() if due else []
        if urgent or moved_on or (moved and due):
            await self._commit(cursors, moved_on)

    def _entries(self, items: list[Item]) -> list[Entry]:
        """Items where they go: to their lanes, or where they wait until their pipeline may send them. An alarm does not wait."""
        assert self._queue is not None
        entries, held = [], self._queue.holding()
        for item in items:
            body, allowance, name = encode_item(item), self.allowances.get(item.pipeline), item.pipeline
            lane: Lane = item.priority
            if allowance is not None and item.priority != "alarm" and (name in held or allowance.wait(len(body))):
                held.add(name)
                lane = HELD[item.priority]
            elif allowance is not None:
                allowance.spend(len(body))
            entries.append(Entry(lane, name, body))
        return entries

    async def _release(self) -> list[int]:
        """Queue anew what was held and may leave by now; the sequences that these stand for, which go with the next commit."""
        queue, gone = self._queue, []
        assert queue is not None
        for name in [name for name, count in queue.held.items() if count] if queue.bytes < FULL * queue.size else []:
            allowance = self.allowances.get(name)
            for priority, lane in HELD.items():
                entries = []
                for sequence, body in await queue.read(lane, RELEASED, THIN_BYTES, source=name):
                    if allowance is not None and allowance.wait(len(body)):
                        break
                    if allowance is not None:
                        allowance.spend(len(body))
                    entries.append(Entry(priority, name, body))
                    gone.append(sequence)
                await self._put(entries)
        return gone

    async def _put(self, entries: list[Entry]) -> None:
        """Queue the items of a step. Where alarms have filled the queue it waits until some have left; the outlets go on."""
        assert self._queue is not None
        while True:
            try:
                await self._queue.put(entries)
            except OverloadedError as error:
                if not self._careful:
                    self._careful = True  # from the checkpoint on, in small steps
                    raise
                if not self.trouble:
                    _log.error(f"nothing more is gathered for the centre: {error}")
                self.trouble = str(error)
                await self._queue.roll_back()
                await asyncio.sleep(FULL_S)
            else:
                self.trouble = ""
                return

    async def _commit(self, cursors: dict[str, int], void: Sequence[int] = ()) -> None:
        assert self._queue is not None
        began = self._clock.monotonic()
        await self._queue.commit(cursors[LOG], cursors[EVENTS], self.gatherer.snapshot(), self.sent, void)
        self.cursor, self._owed = cursors[LOG], False
        self._committed_at = self._clock.monotonic()
        self._pause = max(COMMIT_S, REST * (self._committed_at - began))

    def _answers(self) -> list[Item]:
        return [said_item(self._said.popleft(), self._clock.now()) for _ in range(len(self._said))]

    def _fitting(self, items: list[Item]) -> list[Item]:
        """All items; where the queue is full of what cannot go, the alarms alone."""
        assert self._queue is not None
        if self._queue.bytes <= FULL * self._queue.size:
            return items
        alarms = [item for item in items if item.priority == "alarm"]
        self.dropped += len(items) - len(alarms)
        return alarms

    async def _make_room(self) -> None:
        """Where the queue is nearly full: roll-ups for the oldest raw data, else the oldest roll-ups go. Alarms stay."""
        queue = self._queue
        assert queue is not None
        for lane in THINNED:
            while queue.bytes > NEARLY_FULL * queue.size and await self._thin(lane):
                await queue.look()

    async def _thin(self, lane: Lane) -> bool:
        """Replace the oldest items of a lane that are not under way; False where there are none."""
        queue = self._queue
        assert queue is not None
        async with queue.sealing:
            sealed = self._sealed(lane) if lane in ("bulk", "normal") else 0
            entries = await queue.read(lane, THIN_ITEMS, THIN_BYTES, sealed)
            if not entries:
                return False
            try:
                items = thin([decode_item(body) for _, body in entries])
            except CorruptError as error:
                _log.error(f"old items of the uplink's queue are given up: {error}")
                items = []
            kept = [Entry(lane, item.pipeline, encode_item(item)) for item in items]
            less = 2 * sum(len(entry.body) for entry in kept) <= sum(len(body) for _, body in entries)
            if lane not in ("bulk", "held.bulk") or not less:
                kept = []
            if not self.thinned + self.dropped:
                _log.warning("the uplink's queue is full (uplink.queue.size): its oldest data are thinned, alarms stay")
            if kept:
                self.thinned += len(entries)
            else:
                self.dropped += len(entries)
            await queue.put(kept)
            await self._commit(self._fed, [sequence for sequence, _ in entries])
        return True


def _portion(frames: list[Frame], most: int) -> tuple[list[Frame], list[Frame]]:
    """The first frames, of `most` bytes of payload together (at least one; 0: all), and the rest."""
    size = 0
    for at, frame in enumerate(frames):
        size += len(frame[3])
        if most and at and size > most:
            return frames[:at], frames[at:]
    return frames, []
