"""The row "ready": how long a model takes from `skerry model add` on a running node until it is tried and staged, and from
`skerry model activate` until a worker scores with it."""

import asyncio
import json
import sys
import time
import urllib.request
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import psutil

from bench.model import write_mlp
from bench.rows import Options, Row, Say, median_row
from bench.systems import FEATURES, VALUES, Skerry

ADDS = 10  # of each round; one second of `--seconds` is one more
MODEL = "mlp"  # the one that the pipeline runs
GOAL_MS = "≤ 150"
WIDTH = len(FEATURES) * len(VALUES)


class Keeper(Skerry):
    """A node that is given one version after the other."""

    def __init__(self, folder: Path) -> None:
        super().__init__(folder)
        self._made = 0

    def model(self) -> Path:
        """A file that the node has not seen yet."""
        self._made += 1
        path = self.folder / f"new{self._made}.onnx"
        write_mlp(path, WIDTH, seed=100 + self._made)
        return path

    async def post(self, path: str, body: dict[str, Any]) -> Any:
        def ask() -> Any:
            request = urllib.request.Request(
                f"http://127.0.0.1:{self.api}/api/v1{path}", json.dumps(body).encode(), {"content-type": "application/json"}
            )
            with urllib.request.urlopen(request, timeout=60) as reply:
                return json.loads(reply.read())

        return await asyncio.to_thread(ask)

    async def add(self) -> tuple[str, float]:
        """A new version, and the milliseconds until it is staged."""
        path = self.model()
        started = time.perf_counter()
        row = await self.post("/models", {"name": MODEL, "file": str(path)})
        took = 1000 * (time.perf_counter() - started)
        if row["state"] != "staged" or not row["latency_ms"]:
            raise SystemExit(f"skerry: {row['name']}@{row['version']} was not tried and staged: {row}")
        return row["version"], took

    async def activate(self, version: str) -> float:
        """The milliseconds until the worker scores with a version."""
        started = time.perf_counter()
        await self.post(f"/models/{MODEL}/activate", {"version": version})
        while (await self.pipeline())["model"] != f"{MODEL}@{version}":
            if time.perf_counter() > started + 30:
                raise SystemExit(f"skerry: {MODEL}@{version} does not run after 30 s")
            await asyncio.sleep(0.005)
        return 1000 * (time.perf_counter() - started)

    async def command(self) -> float:
        """The milliseconds that the whole command takes, the start of the command line included."""
        path = self.model()
        started = time.perf_counter()
        config = str(self.folder / "skerry.toml")
        child = await asyncio.create_subprocess_exec(
            sys.executable, "-m", "skerry.cli", "--config", config, "--json", "model", "add", MODEL, str(path),
            stdout=asyncio.subprocess.DEVNULL,
        )  # fmt: skip
        if await child.wait():
            raise SystemExit("skerry: the command failed")
        return 1000 * (time.perf_counter() - started)

    async def forget(self) -> None:
        """End the process that tries models, as it does by itself after a minute without work, and see the node notice."""
        for child in psutil.Process(self.children["agent"].pid).children():
            if "skerry.inference.host" in " ".join(child.cmdline()):
                child.kill()
                await asyncio.to_thread(_until_gone, child.pid)


def _until_gone(pid: int) -> None:
    while psutil.pid_exists(pid):
        time.sleep(0.05)


async def ready(options: Options, say: Say) -> list[Row]:
    first: list[float] = []
    later: list[float] = []
    served: list[float] = []
    command: list[float] = []
    for _ in range(options.rounds):
        with TemporaryDirectory(prefix="skerry-bench-") as folder:
            system = Keeper(Path(folder))
            try:
                await system.start()
                await system.activate("1")
                await system.forget()
                first.append((await system.add())[1])
                for _ in range(ADDS + int(options.seconds)):
                    version, took = await system.add()
                    later.append(took)
                    served.append(await system.activate(version))
                command.append(await system.command())
            finally:
                await system.stop()
        say(f"  first add {first[-1]:.0f} ms, later {later[-1]:.0f} ms, activate {served[-1]:.0f} ms, command {command[-1]:.0f} ms")
    return [
        median_row("ready", "model add → tried and staged on a running node, tiny MLP", "ms", GOAL_MS, later),
        median_row("ready", "the first add after a minute without one: the engine is loaded first", "ms", GOAL_MS, first),
        median_row("ready", "the whole command `skerry model add`", "ms", "", command),
        median_row("ready", "model activate → a worker scores with it", "ms", "", served),
    ]


ROWS = {"ready": ready}
