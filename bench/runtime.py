"""The rows of the table "runtime": what an idle node takes, the agent's event loop under load, a crowd of devices, and the pool."""

import asyncio
import os
import signal
import sys
import time
from collections.abc import Awaitable, Callable

import msgspec
import numpy as np
import psutil

from bench.crowd import Counts, Crowd
from bench.fragments import Found
from bench.load import Outcome
from bench.rows import Options, Row, Say, median_row, running
from bench.run import Helper, load_for, start_load, windows_for
from bench.systems import ROOT, Skerry, cpu_of
from skerry.runtime import MemoryPool, allow_open_files

MIB = 1 << 20
SETTLE_S = 10.0
FULL_RATE = 20_000.0
CROWD, EVERY_S = 10_000, 10.0
BATCHES = ((64, 24), (256, 128), (64, 3, 64, 64))
"""Rows of 24 and of 128 numbers, and small pictures; float32."""


class Probed(Skerry):
    """A node with a probe in the agent's event loop."""

    async def start(self) -> None:
        self.lags = self.folder / "lags.json"
        config = str(self.folder / "skerry.toml")
        await self.spawn("agent", sys.executable, "-m", "bench.agent", config, str(self.lags))
        await self._until_ready()

    async def take(self) -> list[tuple[float, float]]:
        """Seconds that the loop was late, since the last call: all, and without those in which no core was free."""
        self.lags.unlink(missing_ok=True)
        os.kill(self.children["agent"].pid, signal.SIGUSR1)
        async with asyncio.timeout(10):
            while not self.lags.exists():  # noqa: ASYNC110 - another process makes it
                await asyncio.sleep(0.02)
        return msgspec.json.decode(self.lags.read_bytes(), type=list[tuple[float, float]])


def crowded(system: Skerry) -> Skerry:
    """Makes it let many in, and make an event of each message."""
    system.configure("size = 32", "size = 1")
    system.configure("anonymous = true", f"anonymous = true\nmax_connections = {CROWD + 1000}")
    return system


def memory_of(pids: list[int]) -> tuple[float, float]:
    """MiB of all processes: resident, and with what they share divided among them."""
    infos = [psutil.Process(pid).memory_full_info() for pid in pids]
    return sum(info.rss for info in infos) / MIB, sum(info.pss for info in infos) / MIB


def p99(values: list[float]) -> float:
    return float(np.quantile(values, 0.99))


async def idle(options: Options, say: Say) -> list[Row]:
    resident, shared, cpu = [], [], []
    for _ in range(options.rounds):
        async with running(Skerry, with_sink=False) as (system, _):
            await asyncio.sleep(SETTLE_S)
            before, began = sum(map(cpu_of, system.pids())), time.monotonic()
            await asyncio.sleep(options.seconds)
            cpu.append(100 * (sum(map(cpu_of, system.pids())) - before) / (time.monotonic() - began))
            rss, pss = memory_of(system.pids())
            resident.append(rss)
            shared.append(pss)
            say(f"  idle: {rss:.0f} MiB resident, {pss:.0f} MiB with shared pages divided, {cpu[-1]:.2f} % of a core")
    return [
        median_row("idle", "resident memory of an idle node, all processes, one model", "MiB", "≤ 200", resident),
        median_row("idle", "the same, pages that they share counted once", "MiB", "", shared),
        median_row("idle", "CPU of an idle node, of a core", "%", "≤ 1.5", cpu),
    ]


async def loop_lag(options: Options, say: Say) -> list[Row]:
    found: list[float] = []
    own: list[float] = []
    for _ in range(options.rounds):
        async with running(Probed, with_sink=False) as (system, _):
            assert isinstance(system, Probed)
            helper = await start_load(system, load_for(system, 0.0, windows_for(FULL_RATE, options.seconds)))
            try:
                await system.take()
                outcome = msgspec.json.decode(await helper.ask(), type=Outcome)
                lags = await system.take()
            finally:
                await helper.stop()
        found.append(1000 * p99([lag for lag, _ in lags]))
        own.append(1000 * p99([lag for _, lag in lags]))
        rate = outcome.messages / outcome.seconds
        say(f"  {rate:,.0f} messages/s: p99 {found[-1]:.1f} ms, without waits for a core {own[-1]:.1f} ms, of {len(lags):,} looks")
    return [
        median_row("loop_lag", "p99 of the agent's loop lag, devices sending as fast as they can", "ms", "≤ 20", found),
        median_row("loop_lag", "the same, without the time in which it could have run and no core was free", "ms", "", own),
    ]


async def crowd(options: Options, say: Say) -> list[Row]:
    allow_open_files(3 * CROWD)  # its processes inherit that
    memory, late, arrival, lost = [], [], [], []
    for _ in range(options.rounds):
        async with running(lambda folder: crowded(Skerry(folder)), with_sink=False) as (system, _):
            assert isinstance(system, Skerry)
            given = Crowd(system.port, CROWD, EVERY_S)
            helper = await Helper.start("bench.crowd", msgspec.json.encode(given).decode())
            try:
                await asyncio.sleep(max(3 * EVERY_S, options.seconds))
                counts = msgspec.json.decode(await helper.ask(), type=Counts)
                row = await system.pipeline()
                rss, _ = memory_of(system.pids())
            finally:
                await helper.stop()
        lost.append(CROWD - counts.up)
        memory.append(rss)
        late.append(row["age_ms"]["p99"])
        arrival.append(row["latency_ms"]["p99"])
        say(
            f"  {counts.up:,} devices in {counts.connect_s:.1f} s, {counts.sent:,} sent, {counts.acknowledged:,} acknowledged: "
            f"{rss:.0f} MiB, device to event p99 {late[-1]:.1f} ms, broker to event p99 {arrival[-1]:.1f} ms"
        )
    return [
        median_row("crowd", f"resident memory, {CROWD:,} devices, a message each 10 s", "MiB", "≤ 600", memory),
        median_row("crowd", "device to event, p99", "ms", "≤ 50", late),
        median_row("crowd", "broker to event, p99", "ms", "", arrival),
        median_row("crowd", "connections that were lost", "", "0", lost),
    ]


async def fragments(options: Options, say: Say) -> list[Row]:
    found: dict[str, list[float]] = {"pool": [], "plain": []}
    for _ in range(options.rounds):
        for kind, values in found.items():
            command = [sys.executable, "-m", "bench.fragments", kind, str(options.seconds)]
            process = await asyncio.create_subprocess_exec(*command, stdout=asyncio.subprocess.PIPE, cwd=ROOT)
            told = msgspec.json.decode((await process.communicate())[0], type=Found)
            values.append(told.worst)
            say(f"  {kind}: {told.worst:.2f} at worst, {told.last:.2f} at the end of {told.seconds:.0f} s, {told.rounds:,} rounds")
    figure = f"resident ÷ live bytes at worst, {options.seconds / 60:.3g} minutes of mixed sizes, pool (peer: without)"
    return [median_row("fragments", figure, "", "", found["pool"], found["plain"])]


def stacking(shape: tuple[int, ...], pool: MemoryPool | None, seconds: float) -> float:
    """Microseconds to stack a batch's rows in an array, of a pool or a fresh one."""
    dtype = np.dtype(np.float32)
    row = np.ones(shape[1:], dtype)
    count, end, began = 0, time.perf_counter() + seconds, time.perf_counter()
    while time.perf_counter() < end:
        for _ in range(20):
            block = pool.allocate() if pool is not None else None
            array = block.array(shape, dtype) if block is not None else np.empty(shape, dtype)
            array[:] = row
            if pool is not None and block is not None:
                pool.deallocate(block)
        count += 20
    return 1e6 * (time.perf_counter() - began) / count


async def stacks(options: Options, say: Say) -> list[Row]:
    rows = []
    for shape in BATCHES:
        size = 1 << (int(np.prod(shape)) * 4 - 1).bit_length()
        found: dict[str, list[float]] = {"pool": [], "plain": []}
        for _ in range(options.rounds):
            for kind, values in found.items():
                pool = MemoryPool(size, 4) if kind == "pool" else None
                values.append(stacking(shape, pool, min(2.0, options.seconds / 4)))
        text = "×".join(map(str, shape))
        say(f"  {text}: {min(found['pool']):.2f} µs pooled, {min(found['plain']):.2f} µs fresh")
        rows.append(median_row("stacks", f"stacking a batch {text}, of the pool (peer: a fresh array)", "µs", "", *found.values()))
    return rows


ROWS: dict[str, Callable[[Options, Say], Awaitable[list[Row]]]] = {
    "idle": idle,
    "loop_lag": loop_lag,
    "crowd": crowd,
    "fragments": fragments,
    "stacks": stacks,
}
