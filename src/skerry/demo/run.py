"""The demo: a real node, devices that log in over MQTT, and a screen's worth of state twice a second.

The screen sees what a user's own software would: events come in as an MQTT client that logged in with a password of its own.
"""

import asyncio
import json
import shutil
import tempfile
from collections import deque
from collections.abc import AsyncGenerator, AsyncIterator, Coroutine
from contextlib import suppress
from pathlib import Path
from typing import Any, NamedTuple

import msgspec

from skerry.config import NodeConfig, load
from skerry.core.clock import SECOND, Clock, SystemClock, from_rfc3339
from skerry.core.service import cancel_and_wait
from skerry.demo.computer import COMPUTER
from skerry.demo.config import DEVIATION, PUMP_WINDOWS, demo_config
from skerry.demo.devices import PUMPS, Acknowledged, Fleet, PumpFleet, RecordedFleet, publish_computer, publish_fleet
from skerry.demo.load import Load
from skerry.demo.recordings import Run, read_runs
from skerry.demo.score import ScoredWindow, Scorer, Scores
from skerry.mqtt import MqttClient, MqttConfig
from skerry.node import Node, sum_books
from skerry.runtime import free_ports

SCREEN = "demo-screen"
LOAD_S = 8.0
FRAME_S = 0.5


class DemoOptions(msgspec.Struct, frozen=True):
    """What `skerry demo` was asked for. `seconds` 0: until it is ended."""

    seconds: float = 0.0
    data: str = ""
    speed: float = 10.0
    seed: int = 7
    keep: str = ""


class DemoState(msgspec.Struct):
    """One moment of the demo, for a screen to draw."""

    seconds: float
    sentence: str
    alarms: list[dict[str, Any]]
    devices: list[dict[str, Any]]
    computer: dict[str, float]
    loaded: bool
    scores: Scores
    books: dict[str, Any]
    acknowledged: int
    messages_per_s: float
    latency_ms: dict[str, float | None]
    bytes_in: int
    bytes_up: int
    addresses: dict[str, str]
    paste: str
    finished: bool = False


class _Scene(NamedTuple):
    """What one run works with."""

    node: Node
    running: "asyncio.Task[None]"
    publishers: list["asyncio.Task[None]"]
    fleet: Fleet
    scorer: Scorer
    password: str


class Demo:
    """One run of the demo; `states` runs it. Raises `ConfigError` for recordings that are none."""

    def __init__(self, options: DemoOptions, clock: Clock | None = None) -> None:
        self.options = options
        self.load = Load()
        self._clock = clock or SystemClock()
        self._began = self._clock.monotonic()
        self._runs = read_runs(options.data) if options.data else []
        self._dir = Path(options.keep) if options.keep else Path(tempfile.mkdtemp(prefix="skerry-demo-"))
        self._computer: dict[str, float] = {}
        self._alarms: dict[tuple[str, str], dict[str, Any]] = {}
        self._last: dict[str, dict[str, Any]] = {}
        self._news: deque[str] = deque(maxlen=50)
        self._first_event: float | None = None
        self._events = 0
        self._before = 0
        self._acknowledged = Acknowledged()
        self._bytes_up = 0
        self._rates: deque[tuple[float, int]] = deque(maxlen=10)
        self._stopping = asyncio.Event()

    def stop(self) -> None:
        """End it: `states` gives one more, in which what was acknowledged until now is counted."""
        self._stopping.set()

    def _config(self) -> NodeConfig:
        path = self._dir / "skerry.toml"
        self._dir.mkdir(parents=True, exist_ok=True)
        page = f"127.0.0.1:{free_ports('127.0.0.1', [0])[0]}"  # known before it listens, since the address is printed at once
        text = demo_config(str(self._dir / "data"), "127.0.0.1:0", "127.0.0.1:0", recorded=bool(self.options.data), dashboard=page)
        path.write_text(text, encoding="utf-8")
        return load(path)

    async def states(self) -> AsyncGenerator[DemoState, None]:
        """Run the demo and yield its state twice a second; the last one has `finished`. None comes if it is stopped before."""
        node = Node(self._config(), self._clock)
        running = asyncio.create_task(node.run())
        try:
            await self._first_of(running, node.ready.wait(), self._stopping.wait())
            if self._stopping.is_set():
                return
            self._before = self._books(await node.view.status())["received"]
            clients, screen, password = await self._log_in(node, [run.device for run in self._runs] or list(PUMPS))
            fleet = self._fleet(self._runs)
            scorer = Scorer(fleet.truth, threshold=DEVIATION if self.options.data else 0.6)
            publishers = [publish_fleet(fleet, clients, self._clock, self._acknowledged)]
            if not self.options.data:
                publishers.append(publish_computer(clients[COMPUTER], self._clock, self._computer, self._acknowledged))
            scene = _Scene(node, running, [asyncio.create_task(one) for one in publishers], fleet, scorer, password)
            watching = asyncio.create_task(self._watch(screen, scorer))
            try:
                async for state in self._frames(scene):
                    yield state
            finally:
                self.load.stop()
                await cancel_and_wait(watching, *scene.publishers)
                await asyncio.gather(*[client.close() for client in [*clients.values(), screen]])
        finally:
            await cancel_and_wait(running)
            if not self.options.keep:
                shutil.rmtree(self._dir, ignore_errors=True)

    async def _first_of(self, running: "asyncio.Task[None]", *waiting: Coroutine[Any, Any, Any]) -> None:
        """Wait for one of these, unless the node ends before."""
        waiters = [asyncio.create_task(each) for each in waiting]
        try:
            await asyncio.wait([running, *waiters], return_when=asyncio.FIRST_COMPLETED)
            if not any(waiter.done() for waiter in waiters):
                running.result()
        finally:
            await cancel_and_wait(*waiters)

    def _fleet(self, runs: list[Run]) -> Fleet:
        """The devices' readings, from half a second from now on: what is true is known by that time."""
        start = self._clock.now() + SECOND // 2
        if runs:
            return RecordedFleet(runs, start, self.options.speed)
        return PumpFleet(self.options.seed, start)

    async def _log_in(self, node: Node, devices: list[str]) -> tuple[dict[str, MqttClient], MqttClient, str]:
        """Every device with a password of its own, and the screen with one that may read events."""
        clients: dict[str, MqttClient] = {}
        password = ""
        for device in [*devices, COMPUTER]:
            password = await self._admit(node, device, [])
            clients[device] = self._client(node, device, password)
        screen = self._client(node, SCREEN, await self._admit(node, SCREEN, ["sub:events/#"]))
        for client in [*clients.values(), screen]:
            await client.__aenter__()
        return clients, screen, password

    async def _admit(self, node: Node, device: str, topics: list[str]) -> str:
        """The password of a device that is added, or added anew where an earlier run was kept."""
        if await node.view.device(device) is not None:
            await node.view.device_remove(device)
        return str((await node.view.device_add(device, topics))["password"])

    def _client(self, node: Node, device: str, password: str) -> MqttClient:
        url = f"mqtt://{node.mqtt_address}"
        return MqttClient(MqttConfig(broker_url=url, client_id=device, username=device, password=password, keep_alive=30))

    async def _watch(self, screen: MqttClient, scorer: Scorer) -> None:
        async with screen.subscribe("events/#", qos=1) as messages:
            async for message in messages:
                self._take(json.loads(message.payload), len(message.payload), scorer)
                await message.ack()

    def _take(self, event: dict[str, Any], size: int, scorer: Scorer) -> None:
        if self._first_event is None:
            self._first_event = self._clock.monotonic() - self._began
        self._events += 1
        if event["pipeline"] == PUMP_WINDOWS:
            self._last[event["key"]] = event
            end = from_rfc3339(event["end"])
            window = ScoredWindow(
                event["key"],
                end - SECOND // 1000 if self.options.data else from_rfc3339(event["start"]),
                end,
                str(event["label"]),
                float(event["score"]),
                seen_us=self._clock.now(),
            )
            scorer.add(window)
            return
        self._bytes_up += size
        name = (event["pipeline"], event["key"])
        if event["state"] == "firing":
            self._alarms[name] = event
            what = event["label"] or f"score {event['score']:.2f}"
            self._news.append(f"{event['key']}: {what} ({event['severity']}), {event['latency_ms']:.1f} ms after the message")
        else:
            self._alarms.pop(name, None)
            self._news.append(f"{event['key']}: all well again")

    async def _frames(self, scene: _Scene) -> AsyncIterator[DemoState]:
        started = self._clock.monotonic()
        to_load = self.options.seconds / 2 if not self.options.data else 0.0
        while True:
            with suppress(TimeoutError):
                await asyncio.wait_for(self._stopping.wait(), FRAME_S)
            passed = self._clock.monotonic() - started
            if scene.running.done():
                scene.running.result()
            if 0 < to_load < passed:
                to_load = 0.0
                self.load.start(min(LOAD_S, self.options.seconds / 4))
            over = 0 < self.options.seconds <= passed or scene.publishers[0].done() or self._stopping.is_set()
            if over:
                await self._settle(scene)
            yield await self._state(scene, passed, over)
            if over:
                return

    async def _settle(self, scene: _Scene) -> None:
        """Stop the devices and wait until what the broker has acknowledged to them is in the books, 5 s at the most."""
        await cancel_and_wait(*scene.publishers)
        for _ in range(50):
            if self._books(await scene.node.view.status())["received"] - self._before >= self._acknowledged.count:
                return
            await asyncio.sleep(0.1)

    def _books(self, status: dict[str, Any]) -> dict[str, Any]:
        """The ledger of the pipelines that raise alarms; `pump-windows` reads the same messages again."""
        return sum_books([row["ledger"] for row in status["pipelines"] if row["name"] != PUMP_WINDOWS])

    async def _state(self, scene: _Scene, passed: float, finished: bool) -> DemoState:
        node, fleet = scene.node, scene.fleet
        status = await node.view.status()
        books = self._books(status)
        self._rates.append((passed, books["received"]))
        (first_at, first), (last_at, last) = self._rates[0], self._rates[-1]
        rate = (last - first) / (last_at - first_at) if last_at > first_at else 0.0
        now = self._clock.now()
        devices = [self._device(device, fleet, now) for device in fleet.devices[:12]]
        latency: dict[str, float | None] = max(
            (p["latency_ms"] for p in status["pipelines"] if p["latency_ms"]["p99"] is not None),
            key=lambda found: found["p99"] or 0.0,
            default={"p50": None, "p99": None},
        )
        host, _, port = node.mqtt_address.rpartition(":")
        paste = (
            f"mosquitto_pub -h {host} -p {port} -u {COMPUTER} -P {scene.password} -t devices/{COMPUTER}/readings "
            f'-q 1 -m \'{{"ts": \'$(date +%s)\', "cpu": 99, "memory": 50, "disk": 0, "network": 0}}\''
        )
        return DemoState(
            seconds=passed,
            sentence=self._news[-1] if self._news else "all pumps run well; the first fault comes within seconds",
            alarms=list(self._alarms.values()),
            devices=devices,
            computer=dict(self._computer),
            loaded=self.load.running,
            scores=scene.scorer.scores(),
            books=books,
            acknowledged=self._acknowledged.count,
            messages_per_s=rate,
            latency_ms=latency,
            bytes_in=sum(row["received_bytes"] for row in status["pipelines"] if row["name"] != PUMP_WINDOWS),
            bytes_up=self._bytes_up,
            addresses={"mqtt": node.mqtt_address, "http": node.http_address, "dashboard": node.dashboard.expected_url},
            paste=paste,
            finished=finished,
        )

    def _device(self, device: str, fleet: Fleet, now: int) -> dict[str, Any]:
        last = self._last.get(device)
        true = next((episode.fault for episode in fleet.truth.episodes(device, now, now + 1)), "normal")
        return {
            "device": device,
            "predicted": last["label"] if last else None,
            "score": last["score"] if last else None,
            "true": true,
        }

    def summary(self, state: DemoState, versions: dict[str, str]) -> dict[str, Any]:
        """The JSON object that `skerry demo --json` ends with."""
        books = state.books
        messages = books["received"] - self._before
        return {
            "seconds": round(state.seconds, 2),
            "messages": messages,
            "events": self._events,
            "windows": books["windows"],
            "acknowledged": state.acknowledged,
            "lost": max(0, state.acknowledged - messages) + abs(books["difference"]),
            "duplicates": books["duplicates"],
            "dead_letters": sum(books["dead_letters"].values()),
            "messages_per_s": round(messages / max(state.seconds, 0.001), 1),
            "latency_ms": state.latency_ms,
            "first_event_s": self._first_event,
            "precision": state.scores.precision,
            "recall": state.scores.recall,
            "f1": state.scores.f1,
            "delay_s": state.scores.delay_s,
            "episodes": state.scores.episodes,
            "detected": state.scores.detected,
            "false_alarms": state.scores.false_alarms,
            "bytes_in": state.bytes_in,
            "bytes_up": state.bytes_up,
            "versions": versions,
        }
