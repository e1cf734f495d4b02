"""One lane of the uplink: the items of one priority, in order, an envelope at a time, each until the centre has acknowledged it."""

import asyncio
import bisect
import itertools
import math
from collections.abc import Callable
from typing import Protocol, Self

import msgspec

from skerry.core import log
from skerry.core.clock import Clock
from skerry.core.errors import CorruptError, SkerryError, UnavailableError
from skerry.core.service import Backoff, Bell
from skerry.core.units import parse_duration, parse_size
from skerry.runtime import BULK, Throttle
from skerry.uplink.config import BatchSection
from skerry.uplink.envelope import Codec, encode_envelope
from skerry.uplink.item import Item, Priority, decode_item
from skerry.uplink.table import MOST_NUMBERS, numbers_of
from skerry.uplink.targets import HeldUpError, Target, TooLargeError

FIRST_S, MOST_S = 0.5, 60.0
LOOK_S = 1.0
DECODED_TO_WIRE = 8
"""Packed items become smaller still: so many bytes of items are read for one of an envelope, until it is known better."""
_RANK: dict[Priority, int] = {"normal": BULK, "bulk": BULK - 1}
_log = log.get("uplink")


class Batch(msgspec.Struct, frozen=True):
    """When an envelope is closed: items, bytes (packed), seconds; how long after an envelope of alarms the next one is."""

    messages: int
    bytes: int
    delay_s: float
    alarms_s: float = 0.0

    @classmethod
    def of(cls, section: BatchSection) -> Self:
        """As `[uplink] batch` says it."""
        delay, alarms = (parse_duration(text) / 1e6 for text in (section.delay, section.alarms))
        return cls(section.messages, parse_size(section.bytes), delay, alarms)


class Source(Protocol):
    """The queue as a lane needs it."""

    bell: Bell
    sealing: asyncio.Lock

    def waits(self, lane: Priority) -> int:
        """Items of a lane that are there."""
        ...

    async def read(self, lane: Priority, limit: int, most_bytes: int) -> list[tuple[int, bytes]]: ...

    async def drop(self, lane: Priority, through: int) -> None: ...


class Name(msgspec.Struct, frozen=True):
    """Whose envelopes they are."""

    node: str
    site: str
    epoch: str


class OutletCounts(msgspec.Struct):
    """Since the start: envelopes and items acknowledged, their bytes, tries that failed, and items that could not be read."""

    envelopes: int = 0
    items: int = 0
    bytes: int = 0
    failed: int = 0
    unreadable: int = 0


class Outlet:
    """Sends the items of one priority until cancelled.

    Args:
        woken: rings when it is worth trying at once; this lane rings it when it gets through after it did not.
        sent: called with the bytes of each acknowledged envelope.

    Attributes:
        sealed: the last sequence of the envelope under way, 0 where none is: those items must stay as they are.
        trouble: why it does not get on.
    """

    def __init__(
        self,
        lane: Priority,
        name: Name,
        source: Source,
        target: Target,
        throttle: Throttle,
        batch: Batch,
        codec: Codec,
        clock: Clock,
        woken: Bell,
        running: asyncio.Event,
        sent: Callable[[int], None],
    ) -> None:
        self.lane = lane
        self.counts = OutletCounts()
        self.trouble = ""
        self.sealed = 0
        self._name = name
        self._source = source
        self._target = target
        self._throttle = throttle
        self._batch = batch
        self._codec = codec
        self._clock = clock
        self._woken = woken
        self._running = running
        self._sent = sent
        self._backoff = Backoff(FIRST_S, MOST_S)
        self._limit = batch.messages
        self._ratio = float(DECODED_TO_WIRE)
        self._delivered_at = -math.inf

    async def run(self) -> None:
        """Send until cancelled. Raises what the queue raises."""
        while True:
            await self._running.wait()
            await self._until_due()
            count = 0
            try:
                found = await self._seal()
                if found is None:
                    await self._source.bell.wait(LOOK_S)
                    continue
                envelope, last, count = found
                if count:
                    await self._deliver(envelope)
                await self._source.drop(self.lane, last)
            except TooLargeError as error:
                self._shrink(count, error)
                continue
            finally:
                self.sealed = 0
            if not count:
                continue
            self.counts.envelopes += 1
            self.counts.items += count
            self.counts.bytes += len(envelope)
            self._sent(len(envelope))
            self._limit = min(self._batch.messages, self._limit * 2)

    async def _until_due(self) -> None:
        """Until there is something, and as much as an envelope takes or for as long as it may wait.

        An alarm does not wait, unless alarms have just left: then it goes with those that come meanwhile."""
        began: float | None = None
        while True:
            waiting = self._source.waits(self.lane)
            now = self._clock.monotonic()
            if waiting:
                began = now if began is None else began
                since, pause = (self._delivered_at, self._batch.alarms_s) if self.lane == "alarm" else (began, self._batch.delay_s)
                rest = since + pause - now
                if waiting >= self._batch.messages or rest <= 0:
                    return
                await self._source.bell.wait(min(rest, LOOK_S))
            else:
                await self._source.bell.wait(LOOK_S)

    def _shrink(self, count: int, error: TooLargeError) -> None:
        """Go on with half of it."""
        self._limit = max(1, count // 2)
        self.trouble = str(error) if count == 1 else ""

    async def _seal(self) -> tuple[bytes, int, int] | None:
        """The next envelope, its last sequence and how many items it has; from now on these items stay as they are."""
        async with self._source.sealing:
            entries = await self._source.read(self.lane, self._limit, round(self._batch.bytes * self._ratio))
            found = self._packed(entries) if entries else None
            self.sealed = found[1] if found is not None else 0
            return found

    def _packed(self, entries: list[tuple[int, bytes]]) -> tuple[bytes, int, int]:
        """As many of the entries as an envelope takes, at least one."""
        numbered, held = self._readable(entries)
        if not numbered:
            return b"", entries[-1][0], 0
        numbers = list(itertools.accumulate(held))
        count = max(1, bisect.bisect_right(numbers, MOST_NUMBERS))
        while True:
            name = self._name
            envelope = encode_envelope(name.node, name.site, name.epoch, self.lane, numbered[:count], self._codec)
            self._ratio = min(64.0, max(1.0, sum(len(body) for _, body in entries[:count]) / len(envelope)))
            if len(envelope) <= self._batch.bytes or count == 1:
                last = numbered[count - 1][0] if count < len(numbered) else entries[-1][0]
                return envelope, last, count
            count = max(1, min(count - 1, count * self._batch.bytes // len(envelope)))

    def _readable(self, entries: list[tuple[int, bytes]]) -> tuple[list[tuple[int, Item]], list[int]]:
        """Items with their sequences, and how many numbers each has; without those that cannot be read."""
        numbered: list[tuple[int, Item]] = []
        held: list[int] = []
        for sequence, body in entries:
            try:
                item = decode_item(body)
                held.append(numbers_of(item))
            except CorruptError as error:
                self.counts.unreadable += 1
                _log.error(f"an item of the uplink's queue is given up: {error}")
                continue
            numbered.append((sequence, item))
        return numbered, held

    async def _deliver(self, envelope: bytes) -> None:
        """Send until it is acknowledged. Raises `TooLargeError` where the centre takes only smaller ones."""
        while True:
            await self._running.wait()
            if self.lane == "alarm":  # it waits for nothing, and what it takes the others pay
                self._throttle.spend(len(envelope))
            else:
                await self._throttle.take(len(envelope), _RANK[self.lane])
            try:
                await self._target.send(envelope)
            except SkerryError as error:
                self.counts.failed += 1
                await self._wait_after(error)
                if isinstance(error, TooLargeError):
                    raise
                continue
            if self.trouble:
                _log.info(f"the uplink gets through again ({self.lane})")
                self.trouble = ""
                self._woken.ring()
            self._backoff.reset()
            self._delivered_at = self._clock.monotonic()
            return

    async def _wait_after(self, error: SkerryError) -> None:
        if not self.trouble:
            _log.warning(f"the uplink does not get through, what is to leave waits ({self.lane}): {error}")
        self.trouble = str(error)
        delay = self._backoff.next()
        if isinstance(error, HeldUpError) and error.wait:
            # what the centre asks for is asked for: nothing wakes it before
            await asyncio.sleep(error.wait)
        elif isinstance(error, UnavailableError):
            await self._woken.wait(delay)
        else:
            await asyncio.sleep(delay)
