"""What the node may use, who holds it and what it uses: the books of one `ResourceManager`, kept in step with what runs."""

import asyncio
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

import msgspec

from skerry.config import NodeConfig, ResourcesSection
from skerry.core.clock import Clock
from skerry.core.errors import ConfigError
from skerry.core.service import beat
from skerry.core.units import parse_rate, parse_size, show_size
from skerry.inference import Catalogue, Version, memory_limit
from skerry.node.cluster import common_bytes
from skerry.node.link import quotas
from skerry.node.uplink import uplink_bytes
from skerry.pipeline import PipelineSpec
from skerry.runtime import (
    KINDS,
    Confinement,
    Confines,
    Lease,
    LoopWatch,
    ResourceManager,
    ResourceUsage,
    UsageMeter,
    confine,
    kernel_limits,
    show_amount,
)

if TYPE_CHECKING:
    from skerry.node.life import Node

Row = dict[str, Any]
MIB = 1024 * 1024
BASE_MEMORY = 256 * MIB
"""What a worker or the model server may take besides pipelines and models."""
EVERY_S = 2.0
PIPELINE = "pipeline "
STALL_S = 1.0  # what the agent's event loop may do in one go
# what each process takes without models, as measured, rounded up
AGENT = 96 * MIB
SERVER = 64 * MIB
WORKER = 96 * MIB
MODEL_SERVER = 80 * MIB
RESERVE = AGENT + SERVER
LEAST_FOR_WORK = 2 * WORKER


class Charged(msgspec.Struct):
    """A version that is loaded: copies in workers and in the model server, the bytes of all of them, and of the largest one.

    Attributes:
        load_seconds: of the copy that took longest.
    """

    name: str
    version: str
    copies: int = 0
    memory: int = 0
    most: int = 0
    load_seconds: float = 0.0

    @property
    def reference(self) -> str:
        return f"{self.name}@{self.version}"


class NodeResources:
    """The resources of one node; a service. Processes, pipelines that name their `resources`, and loaded models are holders."""

    def __init__(self, node: "Node", clock: Clock) -> None:
        self._node = node
        self._meter = UsageMeter(clock.monotonic, disk=lambda: node.disk.used, cgroup=node.confinement.path)
        self._kernel = kernel_limits()
        self.manager = ResourceManager(limits_of(node.config.resources, self._kernel), meter=self._meter)
        self.used = self.manager.used()
        self.watch = LoopWatch(STALL_S, clock.monotonic)
        self.breaches: Counter[str] = Counter()
        self._leases: dict[str, Lease] = {}
        self._tried: dict[str, int] = {}

    @property
    def cpu_seconds(self) -> float:
        """CPU seconds of all processes since the node's start."""
        return self._meter.cpu_seconds

    async def run(self) -> None:
        """Measure, keep the books and watch the event loop until cancelled."""
        self.watch.start()
        try:
            while True:
                self.used = await asyncio.to_thread(self.manager.used)
                self.follow()
                await self._node.schedule.follow()
                await beat(EVERY_S)
        finally:
            self.watch.stop()

    def follow(self) -> None:
        """Charge what runs now, and give back what no longer does."""
        wanted = self._wanted()
        for name, lease in list(self._leases.items()):
            if wanted.get(name) != lease.usage:
                lease.release()
                del self._leases[name]
        for name, usage in wanted.items():
            if name not in self._leases:
                self._leases[name] = self.manager.charge(usage, name)

    def _wanted(self) -> dict[str, ResourceUsage]:
        node = self._node
        log = quotas(parse_size(node.config.broker.retention.size), uplink_bytes(node.config) + common_bytes(node.config))
        found = {"agent": ResourceUsage(memory=AGENT), "nats-server": ResourceUsage(memory=SERVER, disk=log)}
        found |= {f"worker-{worker.index}": ResourceUsage(memory=WORKER) for worker in node.pool.workers}
        if node.serving.pid is not None:
            found["model server"] = ResourceUsage(memory=MODEL_SERVER)
        if node.history.pid is not None:
            found["historian"] = ResourceUsage(memory=WORKER)
        if node.uplink.pid is not None:
            found["uplink"] = ResourceUsage(memory=WORKER)
        if node.connectors.pid is not None:
            found["connectors"] = ResourceUsage(memory=WORKER)
        if node.dashboard.pid is not None:
            found["dashboard"] = ResourceUsage(memory=WORKER)
        for spec, table in zip(node.config.pipelines, node.config.pipeline_tables(), strict=True):
            if table.get("resources") and node.schedule.runs(spec.name):
                found[PIPELINE + spec.name] = reserved(spec, table["resources"])
        found |= {f"model {each.reference}": ResourceUsage(memory=each.memory) for each in self.charged()}
        return found

    def others(self, served: bool) -> dict[str, ResourceUsage]:
        """What holds something and is no pipeline, with what is about to start: the model server where there are models."""
        node = self._node
        found = {name: usage for name, usage in self._wanted().items() if not name.startswith(PIPELINE)}
        if served:
            found.setdefault("model server", ResourceUsage(memory=MODEL_SERVER))
        if node.history.assignment is not None:
            found.setdefault("historian", ResourceUsage(memory=WORKER))
        if node.dashboard.on:
            found.setdefault("dashboard", ResourceUsage(memory=WORKER))
        return found

    def charged(self, name: str = "") -> list[Charged]:
        """The versions that are loaded, all or those of one model, with the memory that they were measured to take."""
        found: dict[tuple[str, str], Charged] = {}

        def add(key: tuple[str, str], memory: int, load_seconds: float) -> None:
            each = found.setdefault(key, Charged(*key))
            taken = memory or self._trial(each.reference)
            each.copies += 1
            each.memory += taken
            each.most = max(each.most, taken)
            each.load_seconds = max(each.load_seconds, load_seconds)

        for worker in self._node.pool.workers:
            copies: dict[tuple[str, str], tuple[int, float]] = {}  # pipelines of one worker share what they load
            for report in worker.report.pipelines.values():
                rows = [(did.model, did.version, did.memory, did.load_seconds) for did in report.models if not did.failure]
                live = [row for row in rows if row[:2] == (report.model, report.version)]
                if report.shadow is not None:
                    live.append((report.shadow.model, report.shadow.version, report.shadow.memory, 0.0))
                for model, version, memory, seconds in live:
                    before = copies.get((model, version), (0, 0.0))
                    copies[model, version] = (max(before[0], memory), max(before[1], seconds))
            for key, (memory, seconds) in copies.items():
                add(key, memory, seconds)
        for held in self._node.serving.loaded:
            add((held.name, held.version), held.memory, held.load_seconds)
        self._tried = {reference: memory for reference, memory in self._tried.items() if tuple(reference.split("@")) in found}
        return [each for each in found.values() if name in ("", each.name)]

    def held_by(self, process: str) -> int:
        """Bytes that a worker (`worker-0`) or the model server holds: its own, its pipelines', and those of what it has loaded."""
        if process == "model server":
            return MODEL_SERVER + sum(each.memory for each in self._node.serving.loaded)
        tables = zip(self._node.config.pipelines, self._node.config.pipeline_tables(), strict=True)
        written = sum(int(reserved(spec, table["resources"]).memory) for spec, table in tables if table.get("resources"))
        return WORKER + written + sum(each.most for each in self.charged())

    def _trial(self, reference: str) -> int:
        """What a trial saw it take: loaded into memory that a process had already, a model makes it grow by nothing."""
        if reference not in self._tried:
            try:
                self._tried[reference] = self._node.models.catalogue.find(reference).memory
            except ConfigError:  # it has been removed since
                return 0
        return self._tried[reference]

    @contextmanager
    def room(self, version: Version) -> Iterator[None]:
        """Hold what all copies of a version will take while it is brought in, beside what is loaded now.

        Raises `InsufficientResources`: by how much the node is short, and who holds what."""
        self.follow()
        node = self._node
        used = any((spec.model or "").partition("@")[0] == version.name for spec in node.config.pipelines)
        copies = (len(node.pool.workers) if used else 0) + (node.serving.pid is not None)
        with self.manager.allocate(ResourceUsage(memory=version.memory * max(1, copies)), f"model {version.reference}"):
            yield

    def breached(self, kind: str, who: str, words: str) -> None:
        """Count and note that somebody took more than it may."""
        self.breaches[kind] += 1
        self._node.audit.note("resource-breach", by="node", reason=words, kind=kind, who=who)

    def status(self) -> Row:
        """Limit, allocated and used of each kind, by whom, and a sentence."""
        self.follow()
        rows: dict[str, Row] = {kind: {**self._row(kind)} for kind in KINDS}
        holders = {
            name: {kind: amount for kind in KINDS if (amount := getattr(usage, kind))}
            for name, usage in self.manager.holders().items()
        }
        confinement = self._node.confinement
        sentence = "; ".join([*(_sentence(kind, rows[kind]) for kind in ("memory", "cpu", "network")), confinement.sentence])
        held = {"memory": confinement.kind, "cpu": confinement.cpu, "why": confinement.why}
        loop = {"lag_s": round(self.watch.lag_s, 4), "stalls": self.watch.count}
        return {
            "sentence": sentence,
            **rows,
            "breaches": dict(self.breaches),
            "enforced_by": held,
            "holders": holders,
            "measured_by": self._meter.source,
            "loop": loop,
        }

    def _row(self, kind: str) -> Row:
        limit = getattr(self.manager.limits, kind)
        return {"limit": limit or None, "allocated": getattr(self.manager.allocated, kind), "used": getattr(self.used, kind)}

    def figures(self) -> dict[str, dict[str, float]]:
        """`limit`, `allocated` and `used` by kind, for the metrics; a kind without a limit has none."""
        rows = {kind: self._row(kind) for kind in KINDS}
        return {
            name: {kind: row[name] for kind, row in rows.items() if row[name] is not None}
            for name in ("limit", "allocated", "used")
        }

    def warnings(self) -> list[str]:
        """Limits that are passed, one sentence each."""
        given = limits_of(self._node.config.resources)
        found = [
            f"resources.{kind} is {show_amount(kind, wanted)}, but the kernel gives this node {show_amount(kind, least)}"
            for kind in ("memory", "cpu")
            if (least := getattr(self._kernel, kind)) and least < (wanted := getattr(given, kind))
        ]
        for kind in KINDS:
            row = self._row(kind)
            limit = row["limit"]
            if limit and kind != "disk" and row["allocated"] > limit:
                held, most = show_amount(kind, row["allocated"]), show_amount(kind, limit)
                found.append(f"{held} of {kind} are allocated, resources.{kind} is {most}: no further model fits in")
            if limit and kind == "memory" and row["used"] > limit:  # the disk's own warnings: `NodeDisk`
                found.append(f"the node uses {show_size(row['used'])} of memory, resources.memory is {show_size(limit)}")
        may = {(config.name, config.version): parse_size(config.memory) for config in self._node.models.catalogue.configs()}
        for each in self.charged():
            limit = may.get((each.name, each.version), 0)
            if limit and each.most > limit:
                found.append(
                    f"model {each.reference} takes {show_size(each.most)} of memory, it may take {show_size(limit)} "
                    "(`memory` in its [[models]] table)"
                )
        return found


def limits_of(section: ResourcesSection, kernel: ResourceUsage = ResourceUsage()) -> ResourceUsage:  # noqa: B008 - it is frozen
    """`[resources]` as limits, no higher than those that the kernel sets."""
    memory, cpu = parse_size(section.memory), section.cpu
    return ResourceUsage(
        memory=min(memory, kernel.memory or memory),
        cpu=min(cpu, kernel.cpu or cpu),
        network=parse_rate(section.network) if section.network else 0,
        disk=parse_size(section.disk),
    )


def worker_memory(config: NodeConfig, catalogue: Catalogue) -> int:
    """Resident bytes that a worker may take: its own, what its pipelines and their models may, and the largest model once more for
    a swap; no more than the node has, without what the agent and the broker need."""
    names = {(spec.model or "").partition("@")[0] for spec in config.pipelines} - {""}
    models = [memory_limit(catalogue, name) for name in names]
    pipelines = sum(spec.resources.memory_bytes for spec in config.pipelines)
    return min(BASE_MEMORY + pipelines + sum(models) + max(models, default=0), _for_work(limits_of(config.resources)))


def worker_cpu(config: NodeConfig) -> float:
    """Cores that a worker may take: what its pipelines may where all say so, at most what the node may."""
    tables = config.pipeline_tables()
    if not tables or any("cpu" not in table.get("resources", {}) for table in tables):
        return config.resources.cpu
    return min(config.resources.cpu, sum(spec.resources.cpu for spec in config.pipelines))


def confined(section: ResourcesSection) -> Confinement:
    """What holds the processes of a node to their bounds on this machine, with those of all together set."""
    limits, found = limits_of(section, kernel_limits()), confine()
    found.begin(RESERVE, Confines(_for_work(limits), limits.cpu))
    return found


def _for_work(limits: ResourceUsage) -> int:
    """Bytes for all that is neither the agent nor the broker; what these need comes first."""
    return max(int(limits.memory) - RESERVE, LEAST_FOR_WORK)


def reserved(spec: PipelineSpec, table: Row) -> ResourceUsage:
    """What a pipeline's table asks for: what is written there, not the defaults."""
    given = spec.resources
    return ResourceUsage(
        memory=given.memory_bytes if "memory" in table else 0,
        cpu=given.cpu if "cpu" in table else 0,
        network=parse_rate(given.network) if given.network else 0,
    )


def _sentence(kind: str, row: Row) -> str:
    """`memory 96.0 MiB used, 200.0 MiB allocated of 1.0 GiB`."""
    used, held = show_amount(kind, row["used"]), show_amount(kind, row["allocated"])
    allocated = f", {held} allocated" if row["allocated"] else ""
    return f"{kind} {used} used{allocated}" + (f" of {show_amount(kind, row['limit'])}" if row["limit"] else "")
