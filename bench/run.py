"""One measurement: a load, a sink and what came out, against a running system."""

import asyncio
import sys
import time
from bisect import bisect_left, bisect_right
from typing import NamedTuple

import msgspec
import numpy as np

from bench.load import WINDOW, Load, Outcome
from bench.sink import Seen
from bench.systems import ROOT, System, end

LINE = 256 * 1024 * 1024


class Helper:
    """A process of the bench that answers lines on stdin with lines on stdout."""

    def __init__(self, process: asyncio.subprocess.Process) -> None:
        self._process = process

    @classmethod
    async def start(cls, module: str, *arguments: str) -> "Helper":
        pipe = asyncio.subprocess.PIPE
        command = [sys.executable, "-m", module, *arguments]
        process = await asyncio.create_subprocess_exec(*command, stdin=pipe, stdout=pipe, limit=LINE, cwd=ROOT)
        helper = cls(process)
        if await helper.read() != b"ready\n":
            raise SystemExit(f"{module} did not start")
        return helper

    async def ask(self, line: str = "") -> bytes:
        assert self._process.stdin is not None
        self._process.stdin.write(line.encode() + b"\n")
        await self._process.stdin.drain()
        return await self.read()

    async def read(self) -> bytes:
        assert self._process.stdout is not None
        return await self._process.stdout.readline()

    async def stop(self) -> None:
        await end(self._process)


class Sink(Helper):
    """See `bench.sink`."""

    @classmethod
    async def of(cls, system: System) -> "Sink":
        login = ["bench-sink", system.password] if system.password else []
        sink = await cls.start("bench.sink", str(system.port), *login)
        assert isinstance(sink, Sink)
        return sink

    async def take(self, count: int, seconds: float) -> list[Seen]:
        """All events since the last call, once there are `count` different ones or the seconds have passed."""
        seen: list[Seen] = []
        give_up = time.monotonic() + seconds
        while (short := count - len({event.id for event in seen})) > 0 and (left := give_up - time.monotonic()) > 0:
            seen += msgspec.json.decode(await self.ask(f"{short} {left}"), type=list[Seen])
        return seen


class Run(NamedTuple):
    """What one load came to.

    Attributes:
        due_ms, sent_ms: for each window that came, from when its last message was due, or was written, to its event.
        missing: windows that were sent less events of 32 messages that followed each other.
        torn: events of other messages.
        doubled: events that came again with the id of one before.
    """

    load: Load
    outcome: Outcome
    due_ms: np.ndarray
    sent_ms: np.ndarray
    missing: int
    torn: int
    doubled: int

    @property
    def p50(self) -> float:
        return float(np.quantile(self.sent_ms, 0.5)) if len(self.sent_ms) else float("inf")

    @property
    def p99(self) -> float:
        return float(np.quantile(self.sent_ms, 0.99)) if len(self.sent_ms) else float("inf")

    @property
    def rate(self) -> float:
        """Messages a second that were acknowledged."""
        return self.outcome.acknowledged / self.outcome.seconds


async def start_load(system: System, load: Load) -> Helper:
    """A load that has connected and waits for its start."""
    return await Helper.start("bench.load", msgspec.json.encode(load).decode())


def load_for(system: System, rate: float, windows: int, devices: int = 50, most_behind: float = 0.0) -> Load:
    return Load(system.port, rate, windows, devices, system.password, most_behind=most_behind)


async def run(system: System, sink: Sink, load: Load, patience: float = 5.0) -> Run:
    """Publish a load and gather the events, waiting `patience` seconds for the last."""
    helper = await start_load(system, load)
    try:
        outcome = msgspec.json.decode(await helper.ask(), type=Outcome)
    finally:
        await helper.stop()
    seen = await sink.take(load.windows * load.devices, 0.1 if outcome.gave_up else patience)
    return judge(load, outcome, seen)


def windows_for(rate: float, seconds: float, devices: int = 50) -> int:
    """Whole windows a device that come nearest to so many seconds."""
    return max(1, round(rate * seconds / (WINDOW * devices)))


def judge(load: Load, outcome: Outcome, seen: list[Seen]) -> Run:
    """Put events and messages together by device and the times of first and last message of the window."""
    due, sent, whole, torn, doubled = [], [], 0, 0, 0
    ids = set()
    for event in seen:
        if event.id in ids:
            doubled += 1
            continue
        ids.add(event.id)
        stamps = outcome.stamps[event.key]
        first, last = stamp(event.start), stamp(event.end)
        # several messages may bear one millisecond
        least = bisect_left(stamps, last) - bisect_right(stamps, first) + 1
        most = bisect_right(stamps, last) - 1 - bisect_left(stamps, first)
        if event.count != WINDOW or not least <= WINDOW - 1 <= most:
            torn += 1
            continue
        whole += 1
        window = bisect_right(stamps, last) // WINDOW - 1
        if window >= 0 and stamps[window * WINDOW + WINDOW - 1] == last:
            due.append(1000 * (event.at - outcome.planned[event.key][window]))
            sent.append(1000 * (event.at - outcome.sent[event.key][window]))
    expected = sum(len(closing) for closing in outcome.sent.values())
    return Run(load, outcome, np.array(due), np.array(sent), expected - whole, torn, doubled)


def stamp(text: str) -> int:
    """Milliseconds of an RFC 3339 time with milliseconds in UTC."""
    return int(np.datetime64(text.removesuffix("Z"), "ms").astype(np.int64))
