"""The life of a node: starts its parts in order, keeps them running, and ends them so that nothing has to be done twice."""

import asyncio
from collections.abc import Coroutine
from importlib.metadata import version
from typing import Any

from skerry.api import Api, TokenStore
from skerry.broker import Connections, NatsServer, WireClient
from skerry.config import NodeConfig, socket_path
from skerry.core import log
from skerry.core.clock import Clock, SystemClock
from skerry.core.errors import SkerryError
from skerry.core.service import cancel_and_wait
from skerry.core.units import parse_duration, parse_size
from skerry.device import OWN_CLIENTS, AuditLog, ClientIds, Refusals
from skerry.mqtt import Publisher
from skerry.node.backup import NodeBackup, refuse_half_restored
from skerry.node.bundles import NodeBundles, settled
from skerry.node.centre import Centre
from skerry.node.cluster import Growth, NodeCluster, NodeCommon, Paused, common_bytes, stored_by_workers, while_leading, wire
from skerry.node.connectors import NodeConnectors
from skerry.node.dashboard import NodeDashboard
from skerry.node.devices import NodeDevices
from skerry.node.disk import NodeDisk
from skerry.node.history import NodeHistory
from skerry.node.link import CURSORS, Link, quotas
from skerry.node.linking import Linking
from skerry.node.models import NodeModels
from skerry.node.notebook import node_html
from skerry.node.orders import Orders
from skerry.node.overuse import Overuse
from skerry.node.processes import Process, processes_of, rows
from skerry.node.promises import promises_of
from skerry.node.resources import BASE_MEMORY, NodeResources, confined, worker_cpu, worker_memory
from skerry.node.schedule import NodeSchedule
from skerry.node.storage import NodeStorage
from skerry.node.telemetry import NodeTelemetry
from skerry.node.tls import NodeTls
from skerry.node.uplink import NodeUplink, uplink_bytes
from skerry.node.uptime import UptimeLedger, failure_of
from skerry.node.view import View
from skerry.node.warnings import warnings_of
from skerry.pipeline import Relay, deliveries
from skerry.runtime import DirectoryLock
from skerry.serving import ModelServer, ServingPlan
from skerry.trust import TokenSigner, load_or_create
from skerry.worker import Assignment, WorkerPlan, WorkerPool

_log = log.get("node")


class Node:
    """One node. `run` works until cancelled; `ready` is set when devices may connect and all workers read."""

    def __init__(self, config: NodeConfig, clock: Clock | None = None) -> None:
        self.version = version("skerry")
        self.ready = asyncio.Event()
        self._clock = clock or SystemClock()
        data = config.data_dir
        data.mkdir(parents=True, exist_ok=True, mode=0o700)
        self._lock = DirectoryLock(data)
        refuse_half_restored(data)
        self._lock.take()
        self.config = config = settled(config, self._clock)
        self.paused = Paused(data / "paused.json", [spec.name for spec in config.pipelines if spec.paused], self._pause)
        self.cluster = NodeCluster(config, self._clock)
        issuer = load_or_create(data / "keys" / "issuer.seed")
        self.growth = Growth(config, self._clock, issuer.seed, self.cluster, self._stop_work)
        self.confinement = confined(config.resources)
        self.uptime = UptimeLedger(data / "uptime.json", self._clock)
        retention = config.broker.retention
        self._log_bytes = parse_size(retention.size)
        signer = TokenSigner(issuer)
        most_stored = quotas(self._log_bytes, uplink_bytes(config) + common_bytes(config))
        self.server = NatsServer(
            config.broker, data, signer.public, most_stored, self._clock, self.growth.place
        )  # fmt: skip
        self.cluster.keep_records_at(self.growth.records, self.server)
        self.tls = NodeTls(config, self.server, self._clock)
        self.audit = self.cluster.audit = AuditLog(data / "logs" / "audit.log", self._clock)
        self.connections = Connections(self._system_client)
        self.storage = NodeStorage(config, self._clock)
        self.history = NodeHistory(config, self._clock, self.confinement)
        self.devices = NodeDevices(config, self._clock, self.audit)
        self.uplink = NodeUplink(config, self._clock, self.confinement, self.audit.note)
        self.connectors = NodeConnectors(config, self._clock, self.confinement, lambda: self.link)
        self.dashboard = NodeDashboard(config, self._clock, self.confinement)
        self.centre, self.orders = Centre(self, self._clock), Orders(self, self._clock)
        self.uplink.on_commands = self.orders.take
        self.login = self.devices.login
        self.refusals = Refusals(self._clock, self.audit, self.connections.device_of, self.devices.address_of)
        self.server.refusals.append(self.refusals.note)
        self._mqtt: Publisher | None = None
        self._connecting = asyncio.Lock()
        self.relays: list[Relay] = []
        age = parse_duration(retention.age)
        sizes = (self._log_bytes, config.broker.max_payload_bytes)
        self.link = Link(
            self._clock, *sizes, age, self.login, self.relays, self.durable, self._partitions, self.devices.store,
            lambda: self.growth.replicas,
        )  # fmt: skip
        self.link.begins.append(self.uplink.begin)
        self.linking = Linking(self, self._clock, signer)
        self.client_ids = ClientIds(self.link.clients, self._clock, self._is_device, in_use=self.connections.has_client)
        self.login.client_ids = self.client_ids
        self.link.prepare_clients = self.client_ids.load
        self.link.haunted = self.server.start_again
        self.work, self.floor = wire(self, self._clock, CURSORS)
        self._replace_relays()
        self.models = NodeModels(self, self._clock)
        self.serving = ModelServer(
            ServingPlan(
                run_dir=data / "run", base=config.base, cache=config.model_cache, threads=config.runtime.worker_threads,
                stall_s=parse_duration(config.runtime.stall) / 1e6,
                memory=BASE_MEMORY,
                most_memory=parse_size(config.resources.memory), cpu=config.resources.cpu, confinement=self.confinement,
            ),
            self._clock, self._breached,
        )  # fmt: skip
        self.pool = self._pool()
        self.disk = NodeDisk(self, self._clock)
        self.resources, self.schedule = NodeResources(self, self._clock), NodeSchedule(self, self._clock)
        self._schedule()
        self.overuse = Overuse(self, self._clock)
        self.backup, self.bundles = NodeBackup(self, self._clock), NodeBundles(self, self._clock)
        self.view = View(self, self._clock)
        self.promises, self.telemetry = promises_of(self, self._clock), NodeTelemetry(self, self._clock)
        self.tokens = TokenStore(config.token_file, self._clock)
        self.common = NodeCommon(self, self._clock)
        self.api = Api(
            self.view, config.api, socket_path(config), self.version, tokens=self.tokens, audit=self.audit, clock=self._clock,
            tls=self.tls.api_context, names=self.tls.api_names,
        )  # fmt: skip

    def _repr_html_(self) -> str:
        return node_html(self)

    async def _is_device(self, name: str) -> bool:
        return await self.devices.registry.find(name) is not None

    def _replace_relays(self) -> None:
        cursors = {relay.name: relay.cursor for relay in self.relays}
        found = deliveries(list(self.config.pipelines), self.publish, self.config.base)
        self.relays[:] = [Relay(delivery, self.link.bell, self.uplink.bandwidth.limits(delivery.name)) for delivery in found]
        for relay in self.relays:
            relay.cursor = cursors.get(relay.name, 0)
        self.link.relays_replaced.set()

    def _partitions(self) -> tuple[list[str], int]:
        return [spec.name for spec in self.config.pipelines], self.config.partitions

    def _pool(self) -> WorkerPool:
        config = self.config
        assignment = Assignment(
            node=config.node.name,
            host="127.0.0.1",
            port=0,
            user="",
            password="",
            partition=0,
            partitions=config.partitions,
            units=[] if self.cluster.enabled else None,
            pipelines=config.pipeline_tables(),
            base=str(config.base),
            trace="",
            threads=config.runtime.worker_threads,
            cache=str(config.model_cache),
            **self.models.place(),
        )
        plan = WorkerPlan(
            assignment=assignment,
            workers=config.runtime.workers,
            run_dir=config.data_dir / "run",
            stall_s=parse_duration(config.runtime.stall) / 1e6,
            memory=worker_memory(config, self.models.catalogue),
            cpu=worker_cpu(config),
            confinement=self.confinement,
        )
        pool = WorkerPool(plan, self._clock, lambda: self.link.last_sequence, self._breached)
        for name in self.paused.names:
            pool.mark(name, True)
        return pool

    def _schedule(self) -> None:
        """Admit pipelines, before the workers begin with what they are given."""
        self.schedule.take_config()
        self.pool.stand(self.schedule.standings)

    def _breached(self, who: str, words: str) -> None:
        self.resources.breached("memory", who, words)

    async def run(self) -> None:
        """Work until cancelled, then drain and stop. Raises `UnavailableError` when the control socket cannot be had."""
        services: list[Coroutine[Any, Any, None]] = [self._serve(), self.linking.run(), self._workers(), self.disk.run()]
        services.append(self.cluster.until_removed())
        names = ("the broker", "the node's link", "the workers", "the watch on the disk", "its membership")
        api = asyncio.create_task(self.api.run())
        tasks = [asyncio.create_task(service, name=name) for name, service in zip(names, services, strict=True)]
        tasks += [asyncio.create_task(self.view.describe_models()), asyncio.create_task(self._await_ready())]
        parts = (self.models, self.resources, self.history, self.overuse, self.cluster, self.common, self.bundles, self.work)
        tasks += [asyncio.create_task(each.run()) for each in parts]
        once = (self.uplink, self.centre, self.orders, self.connectors)
        tasks += [asyncio.create_task(while_leading(self.cluster, each.run)) for each in once]
        tasks += [asyncio.create_task(self.refusals.run()), asyncio.create_task(self.tls.run())]
        tasks += [asyncio.create_task(self.growth.run(self.server)), asyncio.create_task(self.telemetry.run())]
        tasks += [asyncio.create_task(self.uptime.run(self.view.ready)), asyncio.create_task(self.promises.run())]
        await self.serving.give(self.models.place()["models"])
        tasks += [asyncio.create_task(self.serving.run()), asyncio.create_task(self.dashboard.serve(self.api))]
        try:
            await asyncio.wait([api, *tasks[:5]], return_when=asyncio.FIRST_COMPLETED)
            for task in (api, *tasks[:5]):
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
        self.work.stopped()
        if self._mqtt is not None:
            self._mqtt.close()
        self.login.close()
        await cancel_and_wait(*others)
        await cancel_and_wait(api)
        self.connections.close()
        await cancel_and_wait(server)
        await self.storage.close()
        self.uptime.stop(failure_of([api, *tasks[:5]]))
        self.audit.close()
        self.confinement.close()
        self._lock.release()

    async def _serve(self) -> None:
        """Run the broker, once this node is to have one."""
        await self.growth.serve(self.server)

    async def _stop_work(self) -> None:
        """End all that reads and writes the log, and let nobody in; what begins after it waits until the log is there again."""
        self.uptime.expect("the log goes to more nodes")
        if self.link.client is not None:
            self.link.client.close()
        await self.link.closed.wait()
        old, self.pool = self.pool, self._pool()
        self._schedule()
        await old.drain()
        if self._mqtt is not None:
            self._mqtt.close()

    async def _workers(self) -> None:
        """Start the workers when the log is there for the first time; they find it again by themselves later."""
        server = self.server
        while True:
            await self.link.opened.wait()
            await self.common.compared()
            self.pool.give(server.host, server.port, server.user, server.password)
            for reader in (self.history, self.uplink, self.connectors):
                await reader.give(server.host, server.port, server.user, server.password)
            pool = self.pool
            await pool.run()
            if self.pool is pool:
                return

    async def _await_ready(self) -> None:
        await self.link.opened.wait()
        await self.pool.ready.wait()
        self.ready.set()
        doors = {"mqtt": self.mqtt_address if self.config.broker.mqtt else "", **self.tls.addresses}
        devices = ", ".join(f"{name} on {address}" for name, address in doors.items() if address)
        _log.info(f"ready: {devices or 'no device port yet'}, HTTP on {self.http_address or 'the Unix socket only'}")

    async def publish(self, topic: str, payload: bytes, qos: int, retain: bool) -> None:
        """Publish over an MQTT connection of the node's own: what must arrive at sessions goes in by the front door."""
        async with self._connecting:
            if self._mqtt is None or self._mqtt.closed:
                name, server = f"{OWN_CLIENTS}{self.config.node.name}", self.server
                host, port = server.mqtt_listener()
                self._mqtt = await Publisher.connect(host, port, name, server.relay_user, server.relay_password)
            publisher = self._mqtt
        await publisher.publish(topic, payload, qos, retain)

    def durable(self) -> int | None:
        """Up to where nobody needs the log any more; None while that is not known, or another node of the cluster says it."""
        return self.floor.lowest() if self.cluster.enabled else stored_by_workers(self)

    async def pause(self, pipeline: str, paused: bool) -> None:
        """Pause or resume a pipeline, over restarts too."""
        await self.paused.set(pipeline, paused)

    async def _pause(self, pipeline: str, paused: bool) -> None:
        await self.pool.command("pause" if paused else "resume", pipeline)

    async def replace_pipelines(self, config: NodeConfig) -> None:
        """Go on with other pipelines and models: the workers are drained and start again from their checkpoints."""
        self.uptime.expect("the configuration was read again")
        before, self.config = self.config, config
        try:
            if self.link.client is not None:
                await self.link.begin(self.link.client)
        except SkerryError:
            self.config = before
            raise
        known = {spec.name for spec in before.pipelines}
        self.paused.names |= {spec.name for spec in config.pipelines if spec.paused and spec.name not in known}
        self.models.take_config()
        old, self.pool = self.pool, self._pool()
        self.uplink.take_config(config)
        self._replace_relays()
        self.history.take_config(config)
        self._schedule()
        self.connectors.take_config(config)
        self.cluster.take_config(config)
        await old.drain()
        await self.serving.give(self.models.place()["models"])

    @property
    def mqtt_address(self) -> str:
        return self.server.mqtt_address

    @property
    def http_address(self) -> str:
        return self.api.address

    def living(self) -> list[Process]:
        """All processes of the node, those that are to run too."""
        return processes_of(self)

    def processes(self) -> list[dict[str, Any]]:
        """name, pid, memory, CPU time and last words of all processes of the node."""
        return rows(self.living())

    def warnings(self) -> list[str]:
        """What a person should look at, one sentence each."""
        return warnings_of(self)

    async def server_kick(self, device: str) -> None:
        """End the connections of a device that may no longer connect."""
        await self.connections.kick(device)

    async def _system_client(self) -> WireClient:
        server = self.server
        return await WireClient.connect(server.host, server.port, server.system_user, server.system_password, "connections")
