"""The rows of the table "main job": each measures skerry, and the peer where there is one, in turn."""

import asyncio
import statistics
import tempfile
import time
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from pathlib import Path

import msgspec

from bench.load import Outcome
from bench.run import Run, Sink, judge, load_for, run, start_load, windows_for
from bench.systems import Diy, Skerry, System, cpu_of

P99_MS = 250.0
STEP = 1.2
KILL_WINDOWS, KILL_RATE = 8, 2000.0
CPU_RATE = 8000.0
BACKLOG_WINDOWS = 256
Say = Callable[[str], None]


class Options(msgspec.Struct):
    """How long and how often."""

    rounds: int = 3
    seconds: float = 8.0


class Row(msgspec.Struct):
    """One figure.

    Attributes:
        skerry, peer: the median over the rounds; all of them are in `rounds`.
        ratio: skerry over peer, of the medians.
    """

    row: str
    figure: str
    unit: str
    goal: str
    skerry: float | None
    peer: float | None = None
    ratio: float | None = None
    rounds: dict[str, list[float]] = {}


@asynccontextmanager
async def running(make: Callable[[Path], System], with_sink: bool = True) -> AsyncIterator[tuple[System, Sink | None]]:
    """A fresh system in a directory of its own, warmed up, and a sink on its events."""
    with tempfile.TemporaryDirectory(prefix="skerry-bench-") as folder:
        system = make(Path(folder))
        sink = None
        try:
            await system.start()
            if with_sink:
                sink = await Sink.of(system)
                await run(system, sink, load_for(system, 1000.0, 1), 5.0)
            yield system, sink
        finally:
            if sink is not None:
                await sink.stop()
            await system.stop()


def median_row(name: str, figure: str, unit: str, goal: str, skerry: list[float], peer: list[float] | None = None) -> Row:
    """A row of what several rounds gave."""
    mine = statistics.median(skerry)
    rounds = {"skerry": skerry}
    if not peer:
        return Row(name, figure, unit, goal, mine, rounds=rounds)
    theirs = statistics.median(peer)
    ratio = mine / theirs if theirs else None
    return Row(name, figure, unit, goal, mine, theirs, ratio, {**rounds, "peer": peer})


async def holds(make: Callable[[Path], System], rate: float, seconds: float, say: Say) -> bool:
    """Whether a system keeps up: every message acknowledged, every window scored, p99 from when it was due below 250 ms."""
    async with running(make) as (system, sink):
        assert sink is not None
        load = load_for(system, rate, windows_for(rate, seconds), most_behind=1.0)
        found = await run(system, sink, load, 2.0)
        p99 = sorted(found.due_ms)[int(0.99 * len(found.due_ms))] if len(found.due_ms) else float("inf")
        good = not found.outcome.gave_up and found.missing == 0 and p99 < P99_MS
        why = "held" if good else "fell behind" if found.outcome.gave_up else "too late"
        cost = 1e6 * found.outcome.cpu_s / max(1, found.outcome.messages)
        say(
            f"  {system.name}: {rate:,.0f}/s {why}: p50 {found.p50:.1f} ms, p99 {p99:.0f} ms, "
            f"{found.missing} windows missing, load {cost:.1f} µs/message"
        )
        return good


async def highest(make: Callable[[Path], System], start: float, seconds: float, say: Say) -> float:
    """The highest rate of a ladder with steps of a fifth that a system keeps up with, from `start` upwards or downwards."""
    rate = start
    if await holds(make, rate, seconds, say):
        while await holds(make, rate * STEP, seconds, say):
            rate *= STEP
        return rate
    while rate > 100:
        rate /= STEP
        if await holds(make, rate, seconds, say):
            return rate
    return 0.0


async def sustained(options: Options, say: Say) -> list[Row]:
    found: dict[str, list[float]] = {"skerry": [], "peer": []}
    start = {"skerry": 20_000.0, "peer": 5_000.0}
    for _ in range(options.rounds):
        for name, make in (("skerry", Skerry), ("peer", Diy)):
            rate = await highest(make, start[name], options.seconds, say)
            found[name].append(rate)
            start[name] = rate or start[name] / 2
    goal = "≥ 3.5 × the script, ≥ 28,000"
    return [median_row("sustained", "QoS 1 messages/s, p99 < 250 ms", "/s", goal, found["skerry"], found["peer"])]


async def latency(options: Options, say: Say) -> list[Row]:
    found: dict[str, list[Run]] = {"skerry": [], "peer": []}
    for _ in range(options.rounds):
        for name, make in (("skerry", Skerry), ("peer", Diy)):
            async with running(make) as (system, sink):
                assert sink is not None
                each = await run(system, sink, load_for(system, 1000.0, windows_for(1000.0, options.seconds)))
                found[name].append(each)
                say(f"  {system.name}: p50 {each.p50:.2f} ms, p99 {each.p99:.2f} ms, {each.missing} windows missing")
    p50, p99 = ({name: [getattr(each, key) for each in runs] for name, runs in found.items()} for key in ("p50", "p99"))
    return [
        median_row("latency", "publish → event at 1,000/s, p50", "ms", "≤ 2", p50["skerry"], p50["peer"]),
        median_row("latency", "publish → event at 1,000/s, p99", "ms", "≤ 8", p99["skerry"], p99["peer"]),
    ]


async def killed(make: Callable[[Path], System], part: str, say: Say) -> float:
    """Windows lost or torn of 400 when one part is killed in the middle of a load."""
    async with running(make) as (system, sink):
        assert sink is not None
        load = load_for(system, KILL_RATE, KILL_WINDOWS)
        helper = await start_load(system, load)
        try:
            answer = asyncio.create_task(helper.ask())
            await asyncio.sleep(0.45 * KILL_WINDOWS * 32 * load.devices / KILL_RATE)
            await system.kill(part)
            outcome = msgspec.json.decode(await answer, type=Outcome)
        finally:
            await helper.stop()
        found = judge(load, outcome, await sink.take(KILL_WINDOWS * load.devices, 15.0))
        say(f"  {system.name}, kill -9 of {part}: {found.missing} windows lost, {found.torn} torn, {found.doubled} doubled")
        return float(found.missing)


async def kill(options: Options, say: Say) -> list[Row]:
    found: dict[str, list[float]] = {part: [] for part in (*Skerry.parts, *Diy.parts)}
    for _ in range(options.rounds):
        for part in Skerry.parts:
            found[part].append(await killed(lambda folder: Skerry(folder, dedup="time"), part, say))
        for part in Diy.parts:
            found[part].append(await killed(Diy, part, say))
    of_script = found["script"]
    return [
        median_row("kill", f"windows lost of 400, kill -9 of the {part} (peer: its script)", "", "0", found[part], of_script)
        for part in Skerry.parts
    ]


async def worker_cpu(options: Options, say: Say) -> list[Row]:
    found: dict[str, list[float]] = {}
    parts = {Skerry: ("worker", "nats-server", "agent"), Diy: ("script", "mosquitto")}
    for _ in range(options.rounds):
        for make, names in parts.items():
            async with running(make) as (system, sink):
                assert sink is not None
                rate = CPU_RATE if make is Skerry else CPU_RATE / 4
                pids = {name: system.pid(name) for name in names}
                before = {name: cpu_of(pid) for name, pid in pids.items()}
                each = await run(system, sink, load_for(system, rate, windows_for(rate, options.seconds)))
                for name, pid in pids.items():
                    cost = 1e6 * (cpu_of(pid) - before[name]) / each.outcome.messages
                    found.setdefault(name, []).append(cost)
                    say(f"  {system.name}: {name} {cost:.1f} µs/message at {rate:,.0f}/s")
    return [
        median_row("worker_cpu", "CPU of the worker a message (peer: the script)", "µs", "≤ 12", found["worker"], found["script"]),
        median_row("worker_cpu", "CPU of the broker a message", "µs", "", found["nats-server"], found["mosquitto"]),
        median_row("worker_cpu", "CPU of the agent a message", "µs", "", found["agent"]),
    ]


async def drain(options: Options, say: Say) -> list[Row]:
    found, costs = [], []
    for _ in range(options.rounds):
        async with running(Skerry, with_sink=False) as (system, _):
            assert isinstance(system, Skerry)
            await system.call("POST", "/pipelines/bench/pause")
            helper = await start_load(system, load_for(system, 0.0, BACKLOG_WINDOWS))
            try:
                outcome = msgspec.json.decode(await helper.ask(), type=Outcome)
            finally:
                await helper.stop()
            worker = system.pid("worker")
            before = cpu_of(worker)
            await system.call("POST", "/pipelines/bench/resume")
            found.append(await drained(system, outcome.messages))
            costs.append(1e6 * (cpu_of(worker) - before) / outcome.messages)
            total, inwards = outcome.messages, outcome.messages / outcome.seconds
            say(f"  {total:,} in at {inwards:,.0f}/s, drained at {found[-1]:,.0f}/s, {costs[-1]:.1f} µs of CPU each")
    return [
        median_row("drain", "messages/s of the worker, draining a backlog", "/s", "≥ 80,000", found),
        median_row("drain", "CPU of the worker a message, draining", "µs", "≤ 12", costs),
    ]


async def drained(system: Skerry, total: int) -> float:
    """Messages a second between the first and the last report that showed progress; the reports are half a second apart."""
    marks: list[tuple[float, int]] = []
    give_up = time.monotonic() + 120
    while time.monotonic() < give_up:
        received = int((await system.pipeline())["ledger"]["received"])
        if received and (not marks or received != marks[-1][1]):
            marks.append((time.monotonic(), received))
        if received >= total:
            break
        await asyncio.sleep(0.01)
    # the last report came somewhere after the end: the one before it is still of full work
    ends = marks[:-1] if len(marks) > 2 else marks
    if len(ends) < 2:
        raise SystemExit("the backlog was drained between two reports, or not at all: it is too small to measure")
    return (ends[-1][1] - ends[0][1]) / (ends[-1][0] - ends[0][0])


ROWS: dict[str, Callable[[Options, Say], Awaitable[list[Row]]]] = {
    "sustained": sustained,
    "latency": latency,
    "kill": kill,
    "worker_cpu": worker_cpu,
    "drain": drain,
}
