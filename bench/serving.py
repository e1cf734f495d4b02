"""The rows "serving": a whole node answers the Open Inference Protocol v2 over HTTP, beside model servers of others in turn, and
while versions are switched."""

import asyncio
import json
import time
import urllib.request
from collections.abc import AsyncIterator, Awaitable, Callable, Coroutine, Sequence
from contextlib import asynccontextmanager
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import msgspec

from bench import servers
from bench.callers import Called
from bench.model import write_mlp
from bench.rows import Options, Row, Say, median_row
from bench.run import Helper
from bench.servers import Server
from bench.systems import FEATURES, VALUES, Skerry, System, cpu_of

CALLERS = (16, 64)
GOALS = {("mosec", 16): "ratio ≥ 2", ("mosec", 64): "ratio ≥ 1"}
WARM_S = 0.5
SWAPS, SWAP_CALLERS = 100, 64
SWAPPED = "swapped"  # no pipeline uses it, so that only the model server switches
WIDTH = len(FEATURES) * len(VALUES)


class Serving(Skerry):
    """A node whose `swapped` has two versions."""

    def __init__(self, folder: Path) -> None:
        super().__init__(folder)
        with (folder / "skerry.toml").open("a") as file:
            for version in ("1", "2"):
                write_mlp(folder / f"{SWAPPED}{version}.onnx", WIDTH, seed=int(version))
                file.write(f'[[models]]\nname = "{SWAPPED}"\nversion = "{version}"\nfile = "{SWAPPED}{version}.onnx"\n')

    async def activate(self, version: str) -> None:
        """Try a version and switch to it, and return when the node says that it has."""

        def ask() -> None:
            request = urllib.request.Request(
                f"http://127.0.0.1:{self.api}/api/v1/models/{SWAPPED}/activate",
                json.dumps({"version": version}).encode(),
                {"content-type": "application/json"},
            )
            with urllib.request.urlopen(request, timeout=30) as reply:
                reply.read()

        await asyncio.to_thread(ask)

    async def swap(self) -> None:
        """Back to the version before, which was tried when it was activated: the swap alone, without a trial."""
        await self.call("POST", f"/models/{SWAPPED}/rollback")


class Callers(Helper):
    """See `bench.callers`."""

    @classmethod
    async def of(cls, port: int, name: str) -> "Callers":
        callers = await cls.start("bench.callers", "127.0.0.1", str(port), name, str(WIDTH))
        assert isinstance(callers, Callers)
        found = await callers.call(1, 0.2)  # starts skerry's model server
        if found.failed:
            raise SystemExit(f"nothing answers as it should on port {port}")
        return callers

    async def call(self, callers: int, seconds: float) -> Called:
        return msgspec.json.decode(await self.ask(f"{callers} {seconds}"), type=Called)

    async def during(self, callers: int, work: Coroutine[Any, Any, None]) -> Called:
        """Call until the work is done."""
        assert self._process.stdin is not None
        calling = asyncio.create_task(self.call(callers, 600.0))
        await asyncio.sleep(WARM_S)
        await work
        self._process.stdin.write(b"\n")
        return await calling


@asynccontextmanager
async def serving(name: str) -> AsyncIterator[tuple[Serving, Callers]]:
    """A fresh node with its model server started, and callers of one model."""
    with TemporaryDirectory(prefix="skerry-bench-") as folder:
        system = Serving(Path(folder))
        callers = None
        try:
            await system.start()
            callers = await Callers.of(system.api, name)
            yield system, callers
        finally:
            if callers is not None:
                await callers.stop()
            await system.stop()


@asynccontextmanager
async def other(make: Callable[[Path, int], Server]) -> AsyncIterator[tuple[Server, Callers]]:
    """The model server of others, and callers of it."""
    with TemporaryDirectory(prefix="skerry-bench-") as folder:
        server = make(Path(folder), WIDTH)
        callers = None
        try:
            await server.start()
            callers = await Callers.of(server.port, "mlp")
            yield server, callers
        finally:
            if callers is not None:
                await callers.stop()
            await server.stop()


class Found:
    """What the rounds gave, by system and number of callers."""

    def __init__(self) -> None:
        self.rates: dict[tuple[str, int], list[float]] = {}
        self.late: dict[tuple[str, int], list[float]] = {}
        self.failed: list[float] = []

    async def take(self, system: System, callers: Callers, options: Options, say: Say) -> None:
        for count in CALLERS:
            await callers.call(count, min(WARM_S, options.seconds))
            before = {pid: cpu_of(pid) for pid in system.pids()}
            found = await callers.call(count, options.seconds)
            spent = sum(cpu_of(pid) - seconds for pid, seconds in before.items())
            key = (system.name, count)
            self.rates.setdefault(key, []).append(found.rate)
            self.late.setdefault(key, []).append(found.quantile(0.99))
            if isinstance(system, Skerry):
                self.failed.append(float(found.failed))
            server, client = (1e6 * each / max(1, found.answered) for each in (spent, found.cpu_s))
            say(
                f"  {system.name}, {count} callers: {found.rate:,.0f}/s, p99 {self.late[key][-1]:.1f} ms, {found.failed} failed; "
                f"CPU of a request: server {server:.0f} µs, callers {client:.0f} µs"
            )


async def v2(options: Options, say: Say) -> list[Row]:
    return await beside(servers.ALL if servers.installed() else (), options, say)


async def beside(others: Sequence[Callable[[Path, int], Server]], options: Options, say: Say) -> list[Row]:
    """Skerry and each of the others, in turn in every round."""
    if not others:
        say(f"  {servers.LACKING}")
    found = Found()
    for _ in range(options.rounds):
        async with serving("mlp") as (system, callers):
            await found.take(system, callers, options, say)
        for make in others:
            async with other(make) as (server, callers):
                await found.take(server, callers, options, say)
    known = servers.versions()
    names = [name for name, count in found.rates if count == CALLERS[0] and name != Skerry.name]
    rows = []
    for count in CALLERS:
        mine, late = found.rates[Skerry.name, count], found.late[Skerry.name, count]
        for name in names or [""]:
            peer = f" (peer: {name} {known.get(name.lower(), '')})" if name else ""
            figure = f"JSON inferences/s over HTTP, {count} callers, tiny MLP{peer}"
            rows.append(median_row("v2", figure, "/s", GOALS.get((name, count), ""), mine, found.rates.get((name, count))))
        peer = f" (peer: {names[0]})" if names else ""
        slow = found.late[names[0], count] if names else None
        rows.append(median_row("v2", f"p99 of those, {count} callers{peer}", "ms", "", late, slow))
    return [*rows, median_row("v2", "requests of those that failed", "", "0", found.failed)]


async def swaps(options: Options, say: Say) -> list[Row]:
    failed, longest = [], []
    late: dict[str, list[float]] = {"swaps": [], "quiet": []}
    for _ in range(options.rounds):
        async with serving(SWAPPED) as (system, callers):
            for version in ("1", "2"):
                await system.activate(version)
            quiet, found, each_ms = await swapped(system, callers, options.seconds, SWAPS)
            failed.append(float(found.failed))
            late["swaps"].append(found.quantile(0.99))
            late["quiet"].append(quiet.quantile(0.99))
            longest.append(found.quantile(1.0))
            say(
                f"  {SWAPS} swaps, {each_ms:.0f} ms each: {found.answered:,} answers, {found.failed} failed, "
                f"p99 {late['swaps'][-1]:.1f} ms (quiet {late['quiet'][-1]:.1f}), "
                f"longest {longest[-1]:.0f} ms (quiet {quiet.quantile(1.0):.0f})"
            )
    return [
        median_row("swaps", f"requests that failed during {SWAPS} hot swaps, {SWAP_CALLERS} callers", "", "0", failed),
        median_row("swaps", f"p99 during {SWAPS} hot swaps (peer: without)", "ms", "ratio ≤ 1.5", late["swaps"], late["quiet"]),
        median_row("swaps", f"longest answer during {SWAPS} hot swaps", "ms", "≤ 20", longest),
    ]


async def swapped(system: Serving, callers: Callers, seconds: float, count: int) -> tuple[Called, Called, float]:
    """What the callers see without swaps, what while there are some, and the milliseconds of a swap."""
    took = 0.0

    async def swap() -> None:
        nonlocal took
        began = time.monotonic()
        for _ in range(count):
            await system.swap()
        took = 1000 * (time.monotonic() - began) / count

    await callers.call(SWAP_CALLERS, min(WARM_S, seconds))
    before = await callers.call(SWAP_CALLERS, seconds / 2)  # half of it before and half after: the machine changes meanwhile
    found = await callers.during(SWAP_CALLERS, swap())
    quiet = before.and_of(await callers.call(SWAP_CALLERS, seconds / 2))
    if sorted(found.versions) != ["1", "2"]:
        raise SystemExit(f"versions 1 and 2 should have answered, not {found.versions}")
    return quiet, found, took


ROWS: dict[str, Callable[[Options, Say], Awaitable[list[Row]]]] = {"v2": v2, "swaps": swaps}
