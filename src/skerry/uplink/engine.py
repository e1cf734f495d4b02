"""The uplink process at work: a connection to the broker, the queue over it, what fills it, and the outlets that empty it."""

import asyncio
import contextlib
from pathlib import Path

from skerry.broker import WireClient
from skerry.core import log
from skerry.core.clock import Clock
from skerry.core.errors import CorruptError, FencedError, OverloadedError, RejectedError, SkerryError, UnavailableError
from skerry.core.service import Backoff, Bell, cancel_and_wait, until_one_ends
from skerry.core.units import parse_rate, parse_size
from skerry.runtime import Throttle
from skerry.uplink import network
from skerry.uplink.collector import Collector
from skerry.uplink.envelope import encode_envelope
from skerry.uplink.item import PRIORITIES, Priority
from skerry.uplink.outlet import Batch, Name, Outlet, OutletCounts
from skerry.uplink.protocol import Assignment, Broker, LaneReport, LinkTest, Order, Pause, Report, Said, Tested
from skerry.uplink.queue import Queue
from skerry.uplink.targets import Place, open_target

MOST_COMMANDS = 100
POLL_S = 30.0
"""Over HTTP commands come with answers: so often there is one, where nothing else is sent."""
LOOK_S = 1.0
_log = log.get("uplink")


class Engine:
    """One node's uplink. Raises `ConfigError` for a target that will not do."""

    def __init__(self, given: Assignment, clock: Clock) -> None:
        config = given.config
        self.given = given
        self._clock = clock
        self.target = open_target(_place(given), self._take_command)
        self.collector = Collector(given, clock)
        self._throttle = Throttle(parse_rate(config.rate) if config.rate else 0, clock)
        self._running = asyncio.Event()
        if not given.paused:
            self._running.set()
        self._woken = Bell()
        self._broker: Broker | None = None
        self._placed = asyncio.Event()
        # what lies in `run` is in no backup
        self._life = Path(given.data_dir) / "run" / "uplink.life"
        self._queue: Queue | None = None
        self._outlets: dict[Priority, Outlet] = {}
        self._counts = {lane: OutletCounts() for lane in PRIORITIES}
        self._last = 0
        self._tested = Tested()
        self._commands: list[bytes] = []
        self._trouble = ""
        self._works: set[asyncio.Task[None]] = set()

    def order(self, order: Order) -> None:
        """Do what the agent says."""
        if isinstance(order, Broker):
            self._broker = order
            self._placed.set()
        elif isinstance(order, Pause):
            (self._running.clear if order.paused else self._running.set)()
            self._woken.ring()
        elif isinstance(order, Said):
            self.collector.say(order.event)
        elif isinstance(order, LinkTest):
            work = asyncio.create_task(self._test(order.number))
            self._works.add(work)
            work.add_done_callback(self._works.discard)

    async def run(self) -> None:
        """Gather and send until cancelled."""
        await self._placed.wait()
        backoff = Backoff(0.05, 2.0)
        watching = asyncio.create_task(network.watch(self._woken.ring))
        try:
            while True:
                try:
                    await self._live(backoff)
                except (UnavailableError, RejectedError, FencedError, OverloadedError, CorruptError) as error:
                    self._trouble = str(error)
                    _log.warning(f"the uplink waits for the broker: {error}")
                await asyncio.sleep(backoff.next())
        finally:
            await cancel_and_wait(watching, *self._works)
            await self.target.close()

    async def _live(self, backoff: Backoff) -> None:
        """Over one set of connections until one ends."""
        assert self._broker is not None
        place = self._broker
        client = await WireClient.connect(place.host, place.port, place.user, place.password, "uplink")
        queue = Queue(client, parse_size(self.given.config.queue.size))
        try:
            checkpoint = await queue.open(await asyncio.to_thread(_remembered, self._life))
            await asyncio.to_thread(_remember, self._life, checkpoint.epoch)
            self.collector.begin(queue, lambda lane: self._outlets[lane].sealed)
            self._outlets = {lane: self._outlet(lane, queue, checkpoint.epoch) for lane in PRIORITIES}
            self._queue = queue
            self._trouble = ""
            works = [
                self._poll(),
                self.collector.run(place),
                _until_closed(client),
                self._look(queue),
                *(each.run() for each in self._outlets.values()),
            ]
            backoff.reset()
            await until_one_ends(*works)
        finally:
            self._queue = None
            client.close()

    def _outlet(self, lane: Priority, queue: Queue, epoch: str) -> Outlet:
        config = self.given.config
        batch = Batch.of(config.batch)
        made = Outlet(
            lane, Name(self.given.node, self.given.site, epoch), queue, self.target, self._throttle, batch, config.compression,
            self._clock, self._woken, self._running, self._acknowledged,
        )  # fmt: skip
        made.counts = self._counts[lane]
        return made

    def _acknowledged(self, size: int) -> None:
        self.collector.sent += size
        self._last = self._clock.now()

    async def _look(self, queue: Queue) -> None:
        while True:
            await asyncio.sleep(LOOK_S)
            await queue.look()

    async def _poll(self) -> None:
        polls = self.given.config.kind == "http" and bool(self.given.config.commands.allow)
        while True:
            await asyncio.sleep(POLL_S)
            if polls and self._running.is_set() and self._clock.now() - self._last > POLL_S * 1e6:
                with contextlib.suppress(SkerryError):  # the outlets say why nothing gets through
                    await self.target.send(self._empty())

    def _empty(self) -> bytes:
        epoch = self._queue.checkpoint.epoch if self._queue is not None else "-"
        return encode_envelope(self.given.node, self.given.site, epoch, "alarm", [], self.given.config.compression)

    async def _test(self, number: int) -> None:
        began = self._clock.monotonic()
        try:
            await self.target.send(self._empty())
        except SkerryError as error:
            self._tested = Tested(number, False, 0.0, str(error))
            return
        took = (self._clock.monotonic() - began) * 1000
        self._tested = Tested(number, True, round(took, 2), f"{self.target.where} has acknowledged an envelope in {took:.1f} ms")
        self._woken.ring()

    def _take_command(self, command: bytes) -> None:
        if len(self._commands) < MOST_COMMANDS:
            self._commands.append(command)

    def report(self) -> Report:
        """How it stands."""
        queue, collector = self._queue, self.collector
        commands, self._commands = self._commands, []
        troubles = [each.trouble for each in self._outlets.values() if each.trouble]
        return Report(
            cursor=collector.cursor,
            holds=collector.gatherer.reads_log,
            caught_up=queue is not None and collector.caught_up,
            where=self.target.where,
            paused=not self._running.is_set(),
            lanes={lane: _lane_report(counts, queue.waiting[lane] if queue else 0) for lane, counts in self._counts.items()},
            queue_bytes=queue.bytes if queue else 0,
            queue_limit=parse_size(self.given.config.queue.size),
            sent=collector.sent,
            last=self._last,
            saved=collector.gatherer.counts,
            thinned=collector.thinned,
            dropped=collector.dropped,
            trouble=troubles[0] if troubles else self._trouble,
            gathering=collector.trouble,
            tested=self._tested,
            commands=commands,
            spent={name: allowance.sent for name, allowance in collector.allowances.items()},
            held={name: count for name, count in queue.held.items() if count} if queue is not None else {},
        )


def _lane_report(counts: OutletCounts, waiting: int) -> LaneReport:
    return LaneReport(max(0, waiting), counts.envelopes, counts.items, counts.bytes, counts.failed, counts.unreadable)


def _place(given: Assignment) -> Place:
    config, base = given.config, Path(given.base)
    url = config.url
    if config.kind == "file":
        url = str(base / url.removeprefix("file://"))
    return Place(
        config.kind, url, given.node, given.site, config.topic,
        base / config.credentials if config.credentials else None,
        str(base / config.ca) if config.ca else "",
        bool(config.commands.key and config.commands.allow),
    )  # fmt: skip


def _remembered(path: Path) -> str:
    try:
        return path.read_text("ascii").strip()
    except (OSError, UnicodeDecodeError):
        return ""


def _remember(path: Path, epoch: str) -> None:
    """Raises `UnavailableError`: nothing is sent under a name that is forgotten."""
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        draft = path.with_suffix(".new")
        draft.write_text(epoch)
        draft.replace(path)
    except OSError as error:
        raise UnavailableError(f"cannot be written: {error.strerror}", where=str(path), mend="make room on the disk") from error


async def _until_closed(client: WireClient) -> None:
    raise UnavailableError(f"the connection to the broker ended: {await asyncio.shield(client.closed)}")
