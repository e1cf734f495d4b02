"""One measurement: a load, a sink and what came out, against a running system."""

import asyncio
import sys
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
        return msgspec.json.decode(await self.ask(f"{count} {seconds}"), type=list[Seen])


class Run(NamedTuple):
    """What one load came to.

    Attributes:
        due_ms, sent_ms: for each window that came, from when its last message was due, or was written, to its event.
        missing: windows of which no whole event came.
        strange: events that are no window that was sent, so torn.
        doubled: events that came again with the id of one before.
    """

    load: Load
    outcome: Outcome
    due_ms: np.ndarray
    sent_ms: np.ndarray
    missing: int
    strange: int
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
    seen = await sink.take(load.windows * load.devices, 0.0 if outcome.gave_up else patience)
    return judge(load, outcome, seen)


def windows_for(rate: float, seconds: float, devices: int = 50) -> int:
    """Whole windows a device that come nearest to so many seconds."""
    return max(1, round(rate * seconds / (WINDOW * devices)))


def judge(load: Load, outcome: Outcome, seen: list[Seen]) -> Run:
    """Put events and windows together by device and the times of first and last message."""
    whole = {}
    for name, ends in outcome.ends.items():
        for at, (start, last) in enumerate(zip(outcome.starts[name], ends, strict=True)):
            whole[name, start, last] = (outcome.planned[name][at], outcome.sent[name][at])
    expected = len(whole)
    due, sent, strange, doubled = [], [], 0, 0
    ids = set()
    for event in seen:
        if event.id in ids:
            doubled += 1
            continue
        ids.add(event.id)
        found = whole.pop((event.key, stamp(event.start), stamp(event.end)), None)
        if found is None or event.count != WINDOW:
            strange += 1
            continue
        due.append(1000 * (event.at - found[0]))
        sent.append(1000 * (event.at - found[1]))
    return Run(load, outcome, np.array(due), np.array(sent), expected - len(due), strange, doubled)


def stamp(text: str) -> int:
    """Milliseconds of an RFC 3339 time with milliseconds in UTC."""
    return int(np.datetime64(text.removesuffix("Z"), "ms").astype(np.int64))
