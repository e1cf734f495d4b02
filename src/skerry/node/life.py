"""The life of a node: starts its parts in order, keeps them running, and ends them so that nothing has to be done twice."""

import asyncio
import os
import signal
from collections.abc import Coroutine
from importlib.metadata import version
from pathlib import Path
from typing import Any

import msgspec

from skerry.api import Api
from skerry.broker import Callout, NatsServer, WireClient, kick, parse_address
from skerry.config import NodeConfig, socket_path
from skerry.core import log
from skerry.core.clock import Clock, SystemClock
from skerry.core.errors import SkerryError, UnavailableError
from skerry.core.service import Backoff, cancel_and_wait
from skerry.core.units import parse_duration, parse_size
from skerry.device import BrokerLogin, Device
from skerry.mqtt import Publisher
from skerry.node.link import ALARM, Link, quotas
from skerry.node.uptime import BEAT_S, UptimeLedger
from skerry.node.view import View
from skerry.pipeline import Relay, deliveries
from skerry.runtime import DirectoryLock, memory_of, run_loop
from skerry.trust import TokenSigner, load_or_create
from skerry.worker import Assignment, WorkerPlan, WorkerPool

BASE_MEMORY = 256 * 1024 * 1024
_log = log.get("node")


class Node:
    """One node. `run` works until cancelled; `ready` is set when devices may connect and all workers read."""

    def __init__(self, config: NodeConfig, clock: Clock | None = None) -> None:
        self.config = config
        self.version = version("skerry")
        self.ready = asyncio.Event()
        self.trouble = ""
        self._clock = clock or SystemClock()
        data = config.data_dir
        data.mkdir(parents=True, exist_ok=True, mode=0o700)
        self._lock = DirectoryLock(data)
        self._lock.take()
        self._paused_file = data / "paused.json"
        self._paused = _read_paused(self._paused_file) | {spec.name for spec in config.pipelines if spec.paused}
        self.uptime = UptimeLedger(data / "uptime.json", self._clock)
        retention = config.broker.retention
        self._log_bytes = parse_size(retention.size)
        self.disk_limit = parse_size(config.resources.disk)
        self._signer = TokenSigner(load_or_create(data / "keys" / "issuer.seed"))
        self.server = NatsServer(config.broker, data, self._signer.public, quotas(self._log_bytes), self._clock)
        self.login = BrokerLogin(self._find_device, self._clock, anonymous=config.broker.anonymous)
        self._mqtt: Publisher | None = None
        self._connecting = asyncio.Lock()
        self.relays: list[Relay] = []
        age = parse_duration(retention.age)
        sizes = (self._log_bytes, config.broker.max_payload_bytes)
        self.link = Link(self._clock, *sizes, age, self.login, self.relays, self.durable, self._partitions)
        self._replace_relays()
        self.pool = self._pool()
        self.view = View(self, self._clock)
        self.api = Api(self.view, config.api, socket_path(config), self.version)
        self._sizes: dict[str, int] = {}

    async def _find_device(self, device: str) -> Device | None:
        if self.link.registry is None:
            raise UnavailableError("the device registry is not there yet")
        return await self.link.registry.find(device)

    def _replace_relays(self) -> None:
        cursors = {relay.name: relay.cursor for relay in self.relays}
        found = deliveries(list(self.config.pipelines), self._publish, self.config.base)
        self.relays[:] = [Relay(delivery, self.link.bell) for delivery in found]
        for relay in self.relays:
            relay.cursor = cursors.get(relay.name, 0)
        self.link.relays_replaced.set()

    def _partitions(self) -> tuple[list[str], int]:
        return [spec.name for spec in self.config.pipelines], self.config.runtime.workers

    def _pool(self) -> WorkerPool:
        config = self.config
        assignment = Assignment(
            node=config.node.name,
            host="127.0.0.1",
            port=0,
            user="",
            password="",
            partition=0,
            partitions=config.runtime.workers,
            pipelines=config.pipeline_tables(),
            models=[msgspec.to_builtins(model) for model in config.models],
            base=str(config.base),
            trace="",
            threads=config.runtime.worker_threads,
        )
        plan = WorkerPlan(
            assignment=assignment,
            workers=config.runtime.workers,
            run_dir=config.data_dir / "run",
            stall_s=parse_duration(config.runtime.stall) / 1e6,
            memory=BASE_MEMORY + sum(spec.resources.memory_bytes for spec in config.pipelines),
        )
        pool = WorkerPool(plan, self._clock, lambda: self.link.last_sequence)
        for name in self._paused:
            pool.mark(name, True)
        return pool

    async def run(self) -> None:
        """Work until cancelled, then drain and stop. Raises `UnavailableError` when the control socket cannot be had."""
        services: list[Coroutine[Any, Any, None]] = [self.server.run(), self._links(), self._workers(), self._beats()]
        names = ("the broker", "the node's link", "the workers", "the uptime ledger")
        api = asyncio.create_task(self.api.run())
        tasks = [asyncio.create_task(service, name=name) for name, service in zip(names, services, strict=True)]
        tasks += [asyncio.create_task(self.view.describe_models()), asyncio.create_task(self._await_ready())]
        try:
            await asyncio.wait([api, *tasks[:4]], return_when=asyncio.FIRST_COMPLETED)
            for task in (api, *tasks[:4]):
                if task.done():
                    task.result()
        finally:
            await self._stop(api, tasks)

    async def _stop(self, api: "asyncio.Task[None]", tasks: list["asyncio.Task[None]"]) -> None:
        """Devices out, workers drained, then the rest: so that the next start reads nothing again."""
        self.login.open = False
        self.ready.clear()
        server, *others = tasks
        await self.pool.drain()
        if self._mqtt is not None:
            self._mqtt.close()
        self.login.close()
        await cancel_and_wait(*others)
        await cancel_and_wait(api)
        await cancel_and_wait(server)
        self.uptime.beat()
        self._lock.release()

    async def _links(self) -> None:
        """Keep a connection to the broker: when one ends, the next."""
        backoff = Backoff(0.05, 5.0)
        while True:
            await self.server.ready.wait()
            began = self._clock.monotonic()
            try:
                await self._one_link()
            except SkerryError as error:
                self.trouble = str(error)
                _log.warning(f"the log is not ready: {error}")
            if self._clock.monotonic() - began > 10:
                backoff.reset()
            await asyncio.sleep(backoff.next())

    async def _one_link(self) -> None:
        server = self.server
        client = await WireClient.connect(server.host, server.port, server.user, server.password, "node")
        callout = Callout(client, self._signer, self.login.decide, self._clock, refused=self.login.refused)
        try:
            self.trouble = ""
            await self.link.run(client, callout)
        finally:
            client.close()

    async def _workers(self) -> None:
        """Start the workers when the log is there for the first time; they find it again by themselves later."""
        await self.link.opened.wait()
        server = self.server
        while True:
            self.pool.give(server.host, server.port, server.user, server.password)
            pool = self.pool
            await pool.run()
            if self.pool is pool:
                return

    async def _beats(self) -> None:
        while True:
            self._sizes = await asyncio.to_thread(_directory_sizes, self.config.data_dir)
            self.uptime.beat()
            await asyncio.sleep(BEAT_S)

    async def _await_ready(self) -> None:
        await self.link.opened.wait()
        await self.pool.ready.wait()
        self.ready.set()
        _log.info(f"ready: MQTT on {self.mqtt_address}, HTTP on {self.http_address or 'the Unix socket only'}")

    async def _publish(self, topic: str, payload: bytes, qos: int, retain: bool) -> None:
        """Publish over an MQTT connection of the node's own: what must arrive at sessions goes in by the front door."""
        async with self._connecting:
            if self._mqtt is None or self._mqtt.closed:
                name, server = f"skerry-{self.config.node.name}", self.server
                host, port = parse_address(self.mqtt_address, "broker.mqtt")
                self._mqtt = await Publisher.connect(host, port, name, server.relay_user, server.relay_password)
            publisher = self._mqtt
        await publisher.publish(topic, payload, qos, retain)

    def durable(self) -> int | None:
        """The lowest stored cursor of all pipelines in all workers; None while one has not said: it may need what the rest has."""
        names = [spec.name for spec in self.config.pipelines]
        said = [worker.report.pipelines for worker in self.pool.workers]
        if any(name not in reports for name in names for reports in said):
            return None
        return min((reports[name].durable for name in names for reports in said), default=self.link.last_sequence)

    async def pause(self, pipeline: str, paused: bool) -> None:
        """Pause or resume a pipeline, over restarts too."""
        (self._paused.add if paused else self._paused.discard)(pipeline)
        await asyncio.to_thread(_write_paused, self._paused_file, self._paused)
        await self.pool.command("pause" if paused else "resume", pipeline)

    async def replace_pipelines(self, config: NodeConfig) -> None:
        """Go on with other pipelines and models: the workers are drained and start again from their checkpoints."""
        before, self.config = self.config, config
        try:
            if self.link.client is not None:
                await self.link.begin(self.link.client)
        except SkerryError:
            self.config = before
            raise
        known = {spec.name for spec in before.pipelines}
        self._paused |= {spec.name for spec in config.pipelines if spec.paused and spec.name not in known}
        old, self.pool = self.pool, self._pool()
        self._replace_relays()
        await old.drain()

    @property
    def mqtt_address(self) -> str:
        return self.server.mqtt_address

    @property
    def http_address(self) -> str:
        return self.api.address

    def processes(self) -> list[dict[str, Any]]:
        """name, pid, memory of all processes of the node."""
        found: list[tuple[str, int | None]] = [("agent", os.getpid()), ("nats-server", self.server.pid)]
        found += [(f"worker-{worker.index}", worker.pid) for worker in self.pool.workers]
        return [{"name": name, "pid": pid, "memory": memory_of(pid) if pid else 0} for name, pid in found]

    def sizes(self) -> dict[str, int]:
        """Bytes on disk by part, as of some seconds ago."""
        return self._sizes

    def limits(self) -> dict[str, float]:
        """The configured limits by kind."""
        resources = self.config.resources
        return {"memory": parse_size(resources.memory), "cpu": resources.cpu, "disk": self.disk_limit}

    def warnings(self) -> list[str]:
        """What a person should look at, one sentence each."""
        found = [f"sink {relay.name}: {relay.failure}" for relay in self.relays if relay.failure]
        if self.link.fill > ALARM:
            found.append(f"the log is {self.link.fill:.0%} full: a pipeline is paused, failed or too slow")
        if self.link.gone.messages:
            found.append(f"{self.link.gone.messages} messages were given up unread (broker.retention)")
        found += [trouble for trouble in (self.trouble, self.server.warning) if trouble]
        found += [
            f"worker {w.index} was restarted {w.restarts.total} times: {w.last_words}" for w in self.pool.workers if w.last_words
        ]
        if not self.api.port:
            found.append(f"HTTP: {self.api.status}")
        return found

    async def server_kick(self, device: str) -> None:
        """End the connections of a device that may no longer connect."""
        server = self.server
        await kick(server.host, server.port, server.system_password, device)


def _read_paused(path: Path) -> set[str]:
    try:
        return set(msgspec.json.decode(path.read_bytes(), type=list[str]))
    except (OSError, msgspec.MsgspecError):
        return set()


def _write_paused(path: Path, names: set[str]) -> None:
    """Raises `UnavailableError` when it cannot be kept."""
    temporary = path.with_suffix(".new")
    try:
        temporary.write_bytes(msgspec.json.encode(sorted(names)))
        temporary.replace(path)
    except OSError as error:
        raise UnavailableError(f"cannot be written: {error.strerror}", where=str(path), mend="make room on the disk") from error


def _directory_sizes(data_dir: Path) -> dict[str, int]:
    """Bytes that the disk holds for each entry of the data directory."""
    sizes: dict[str, int] = {}
    for root, _, files in os.walk(data_dir):
        part = Path(root).relative_to(data_dir).parts[:1]
        for name in files:
            try:
                used = Path(root, name).lstat().st_blocks * 512
            except OSError:
                continue
            key = part[0] if part else "node"
            sizes[key] = sizes.get(key, 0) + used
    return sizes


def serve(config: NodeConfig) -> int:
    """Run a node until SIGTERM or SIGINT; the exit code."""
    return run_loop(_serve(config))


async def _serve(config: NodeConfig) -> int:
    node = Node(config)
    running = asyncio.create_task(node.run())
    loop = asyncio.get_running_loop()
    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, running.cancel)
    loop.add_signal_handler(signal.SIGHUP, lambda: loop.create_task(_reload(node)))
    try:
        await running
    except asyncio.CancelledError:
        _log.info("drained and stopped")
    return 0


async def _reload(node: Node) -> None:
    try:
        answer = await node.view.reload()
        _log.info(f"configuration read again: {answer}")
    except SkerryError as error:
        _log.error(f"the configuration was not taken: {error}")
