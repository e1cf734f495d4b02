"""A node in processes of its own, as `skerry run` starts it, and a device that numbers what it sends."""

import asyncio
import contextlib
import json
import os
import signal
import sys
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

from skerry.config import load, socket_path
from skerry.core.clock import Clock
from skerry.core.errors import SkerryError, UnavailableError
from skerry.core.service import cancel_and_wait
from skerry.demo.scenarios.story import LONGEST_S, POLL_S
from skerry.http import Client
from skerry.mqtt import MqttClient, MqttConfig
from skerry.runtime import Child, ChildSpec, free_ports

MOST_UNDER_WAY = 500
_HEAD = """\
[node]
name = "{name}"
site = "demo"
[broker]
mqtt = "{mqtt}"
[api]
listen = "127.0.0.1:{http}"
[dashboard]
enabled = false
"""


class Box:
    """One node.

    Attributes:
        mqtt, http: addresses; they stay over a new start.
    """

    def __init__(self, folder: Path, name: str, pipelines: str, host: str = "127.0.0.1") -> None:
        self.name = name
        self.folder = folder / name
        self.folder.mkdir(mode=0o700, exist_ok=True)
        mqtt, http = free_ports(host, [0, 0])
        self.mqtt, self.http = f"{host}:{mqtt}", f"{host}:{http}"
        self._file = self.folder / "skerry.toml"
        self._file.write_text(_HEAD.format(name=name, mqtt=self.mqtt, http=http) + pipelines, encoding="utf-8")
        self._socket = socket_path(load(self._file, with_models=False))
        self._child: Child | None = None

    async def start(self) -> None:
        """`skerry run`; back when it is ready. Raises `UnavailableError` when it ends or does not come."""
        argv = [sys.executable, "-m", "skerry.cli", "--config", str(self._file), "run"]
        self._child = Child(ChildSpec("node", argv, self.folder / "run", death_signal=signal.SIGTERM, stop_s=20.0))
        await self._child.start()
        for _ in range(int(LONGEST_S / POLL_S)):
            if not self._child.running:
                raise UnavailableError(f"the node ended: {(await self._child.wait()).sentence}")
            with contextlib.suppress(SkerryError):
                await self.get("/readyz")
                return
            await asyncio.sleep(POLL_S)
        raise UnavailableError(f"the node was not ready within {LONGEST_S:g} s")

    async def command(self, *arguments: str) -> None:
        """Run `skerry` with its configuration. Raises `UnavailableError` with the last line where that fails."""
        argv = [sys.executable, "-m", "skerry.cli", "--config", str(self._file), *arguments]
        child = Child(ChildSpec("command", argv, self.folder / "run"))
        await child.start()
        try:
            async with asyncio.timeout(LONGEST_S):
                ended = await child.wait()
        finally:
            await child.stop()
        if ended.code:
            raise UnavailableError(f"`skerry {' '.join(arguments[:2])}` failed: {ended.sentence}")

    async def stop(self) -> None:
        """End it in order."""
        if self._child is not None and self._child.running:
            await self._child.stop()

    async def kill(self, *names: str) -> list[int]:
        """kill -9 of processes by their names on `status`; the agent's includes that of all its children. Their pids."""
        found = [row for row in (await self.status())["processes"] if row["pid"] and (row["name"] in names or "agent" in names)]
        pids = [row["pid"] for row in found]
        for pid in pids:
            with contextlib.suppress(ProcessLookupError):
                os.kill(pid, signal.SIGKILL)
        if "agent" in names and self._child is not None:
            await self._child.wait()
        return pids

    async def get(self, path: str, **query: object) -> Any:
        return await asyncio.to_thread(self._asked, "get", path, query or None)

    async def post(self, path: str, body: object = None) -> Any:
        return await asyncio.to_thread(self._asked, "post", path, body)

    def _asked(self, verb: str, path: str, given: Any) -> Any:
        with Client(self._socket, 30.0) as client:
            return getattr(client, verb)(path, given)

    async def status(self) -> dict[str, Any]:
        found: dict[str, Any] = await self.get("/api/v1/node")
        return found

    async def pipeline(self, name: str) -> dict[str, Any]:
        """One pipeline's row of the status."""
        return next(row for row in (await self.status())["pipelines"] if row["name"] == name)

    async def events(self, pipeline: str) -> list[dict[str, Any]]:
        """All events of a pipeline, in the log's order."""
        found: list[dict[str, Any]] = []
        after: str | None = None
        while True:
            page = await self.get("/api/v1/events", pipeline=pipeline, limit=1000, after=after)
            found += page["events"]
            after = page["next"]
            if after is None:
                return found

    async def admit(self, device: str) -> str:
        """Add a device; its password."""
        return str((await self.post("/api/v1/devices", {"id": device}))["password"])

    def client(self, device: str, password: str, *others: str) -> MqttClient:
        """A client of its broker that is that device, and goes to the others when that does not answer; enter it to connect."""
        return MqttClient(
            MqttConfig(
                broker_url=f"mqtt://{self.mqtt}",
                others=tuple(f"mqtt://{each}" for each in others),
                client_id=device,
                username=device,
                password=password,
                keep_alive=10,
                version="3.1.1",
                max_reconnect_delay=1.0,
            )
        )


@asynccontextmanager
async def box(folder: Path, name: str, pipelines: str) -> AsyncIterator[Box]:
    """A node that runs, and is ended."""
    made = Box(folder, name, pipelines)
    try:
        await made.start()
        yield made
    finally:
        await made.stop()


class Numbered:
    """A device that sends `{"ts", "n"}` so many times a second, n one more each time, until it is stopped.

    Attributes:
        acknowledged: the numbers whose PUBACK has come. sent: how many were given to the client.
    """

    def __init__(self, client: MqttClient, topic: str, rate: float, clock: Clock) -> None:
        self.acknowledged: set[int] = set()
        self.sent = 0
        self._client, self._topic, self._rate, self._clock = client, topic, rate, clock
        self._under_way: set[asyncio.Task[None]] = set()
        self._stopping = False

    async def run(self) -> None:
        """Send until `stop`. While the broker is away what is under way waits, 500 messages at the most."""
        due = self._clock.monotonic()
        while True:
            due = max(due + 1 / self._rate, self._clock.monotonic() - 1.0)
            await asyncio.sleep(max(0.0, due - self._clock.monotonic()))
            if self._stopping:
                return
            if len(self._under_way) < MOST_UNDER_WAY:
                task = asyncio.create_task(self._publish(self.sent))
                self._under_way.add(task)
                task.add_done_callback(self._under_way.discard)
                self.sent += 1

    async def _publish(self, number: int) -> None:
        body = json.dumps({"ts": self._clock.now() / 1e6, "n": number}).encode()
        with contextlib.suppress(SkerryError):
            await self._client.publish(self._topic, body, qos=1)
            self.acknowledged.add(number)

    async def stop(self) -> None:
        """Send no more, and wait for the acknowledgements of what is under way, 30 s at the most."""
        self._stopping = True
        if self._under_way:
            await asyncio.wait(self._under_way, timeout=30.0)
        await cancel_and_wait(*self._under_way)


@asynccontextmanager
async def sending(client: MqttClient, topic: str, rate: float, clock: Clock) -> AsyncIterator[Numbered]:
    """A device that sends within the block."""
    async with client:
        device = Numbered(client, topic, rate, clock)
        running = asyncio.create_task(device.run())
        try:
            yield device
        finally:
            await device.stop()
            await cancel_and_wait(running)


def times_seen(numbers: list[float], acknowledged: set[int]) -> tuple[int, int]:
    """How many acknowledged numbers are missing, and how many of all came more than once."""
    counts: dict[int, int] = {}
    for number in numbers:
        counts[int(number)] = counts.get(int(number), 0) + 1
    return sum(number not in counts for number in acknowledged), sum(count - 1 for count in counts.values())
