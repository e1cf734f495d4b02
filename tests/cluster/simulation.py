"""A cluster in one process: real agents on clocks of their own, a store that answers late, stale or never, and faults.

Everything comes from one seed. What must always hold is checked at each step; `Broken` says what did not.
"""

import heapq
import random
from collections import Counter
from collections.abc import Callable, Mapping

import msgspec

from skerry.cluster.agent import Agent
from skerry.cluster.members import Timing
from skerry.cluster.records import LEADER, MEMBER, PLAN, Entry, Member, Partition, Plan, Put
from skerry.runtime import ResourceUsage

POLL_S = 0.4
TIMEOUT_S = 1.0
KEPT = 8


class Broken(AssertionError):
    """Something that must always hold does not."""


class Net(msgspec.Struct):
    """How the store is reached: delays in seconds, and how often what."""

    least: float = 0.001
    most: float = 0.02
    slow: float = 0.0
    lost: float = 0.0
    stale: float = 0.0


class Store:
    """Keys written by compare-and-set. Checks what is written."""

    def __init__(self, partitions: Mapping[str, Partition]) -> None:
        self.entries: dict[str, Entry] = {}
        self.revision = 0
        self.older: list[dict[str, Entry]] = []
        self.refused = 0
        self.epochs: list[int] = []
        self.partitions = partitions

    def remember(self) -> None:
        """Keep what is there for stale reads."""
        self.older = [*self.older[-KEPT:], dict(self.entries)]

    def write(self, put: Put) -> int | None:
        """Its new revision, or None where another was there."""
        entry = self.entries.get(put.key)
        if (entry.revision if entry else 0) != put.revision:
            self.refused += 1
            return None
        if put.key == PLAN:
            self._check_plan(put, entry)
        if put.key == LEADER:
            self.epochs.append(msgspec.json.decode(put.value)["epoch"])
        self.revision += 1
        self.entries[put.key] = Entry(put.value, self.revision)
        return self.revision

    def members(self) -> dict[str, Member]:
        return {
            key.removeprefix(MEMBER): msgspec.json.decode(entry.value, type=Member)
            for key, entry in self.entries.items() if key.startswith(MEMBER)
        }  # fmt: skip

    def plan(self) -> Plan:
        entry = self.entries.get(PLAN)
        return msgspec.json.decode(entry.value, type=Plan) if entry else Plan()

    def _check_plan(self, put: Put, entry: Entry | None) -> None:
        before = msgspec.json.decode(entry.value, type=Plan) if entry else Plan()
        plan = msgspec.json.decode(put.value, type=Plan)
        if plan.version != before.version + 1 or plan.epoch < before.epoch:
            raise Broken(f"plan {plan.version} of epoch {plan.epoch} after {before.version} of epoch {before.epoch}")
        members, memory = self.members(), Counter[str]()
        for name, part in plan.parts.items():
            partition = self.partitions.get(name)
            if partition is None:
                continue
            for node in {part.node, part.to} - {"", "-"}:
                memory[node] += int(partition.resources.memory)
                if not set(partition.capabilities) <= set(members[node].capabilities):
                    raise Broken(f"{name} on {node}, which lacks {partition.capabilities}")
        for node, used in memory.items():
            if members[node].resources.memory and used > members[node].resources.memory:
                raise Broken(f"{node} holds {used} of {members[node].resources.memory}")


class Process:
    """One life of one node, with a clock that is off and runs a little fast or slow."""

    def __init__(
        self, member: Member, timing: Timing, wanted: list[Partition], now: float, rng: random.Random, skew: float
    ) -> None:
        self.agent = Agent(member, timing, wanted)
        self.alive = True
        self.running: set[str] = set()
        self.stopping: set[str] = set()
        self.paused_until = 0.0
        self.busy = False
        self._rate = rng.uniform(1 - skew, 1 + skew)
        self._offset = rng.uniform(-1e5, 1e5) - now * self._rate

    def local(self, now: float) -> float:
        return now * self._rate + self._offset

    def real(self, local: float) -> float:
        return (local - self._offset) / self._rate


class Simulation:
    """Nodes by name, a store, and a queue of what happens when."""

    def __init__(self, seed: int, members: list[Member], wanted: list[Partition], *, skew: float = 0.005) -> None:
        self.rng = random.Random(seed)
        self.now = 0.0
        self.net = Net()
        self.wanted = wanted
        self.store = Store({partition.name: partition for partition in wanted})
        self.cut: set[str] = set()
        self.processes: dict[str, Process] = {}
        self.counts: Counter[str] = Counter()
        self.timing = Timing()
        self._skew = skew
        self._members = {member.id: member for member in members}
        self._queue: list[tuple[float, int, Callable[[], None]]] = []
        self._ticket = 0
        # who acts for a partition, or leads: until when, in real time
        self._owners: dict[str, dict[str, float]] = {}

    def at(self, delay: float, what: Callable[[], None]) -> None:
        self._ticket += 1
        heapq.heappush(self._queue, (self.now + delay, self._ticket, what))

    def run(self, seconds: float) -> None:
        end = self.now + seconds
        while self._queue and self._queue[0][0] <= end:
            self.now, _, what = heapq.heappop(self._queue)
            what()
        self.now = end

    def want(self, wanted: list[Partition]) -> None:
        """Other work from now on, on all nodes."""
        self.wanted = wanted
        self.store.partitions = {partition.name: partition for partition in wanted}
        for process in self.processes.values():
            process.agent.wanted = wanted

    # nodes

    def add(self, name: str, member: Member) -> None:
        """A node that can be started; `name` tells two of one id apart."""
        self._members[name] = member

    def start(self, name: str) -> None:
        process = Process(self._members[name], self.timing, self.wanted, self.now, self.rng, self._skew)
        self.processes[name] = process
        self._poll(name, process)

    def kill(self, name: str) -> None:
        self.processes[name].alive = False
        for owners in self._owners.values():
            owners.pop(name, None)

    def pause(self, name: str, seconds: float) -> None:
        self.processes[name].paused_until = self.now + seconds

    def _when_awake(self, process: Process, what: Callable[[], None]) -> None:
        """Do it now, or when the process goes on; never where it is dead."""
        if not process.alive:
            return
        if process.paused_until > self.now:
            self.at(process.paused_until - self.now + self.rng.uniform(0, 0.01), lambda: self._when_awake(process, what))
        else:
            what()

    def _poll(self, name: str, process: Process) -> None:
        if not process.alive:
            return
        self.at(POLL_S * self.rng.uniform(0.9, 1.1), lambda: self._poll(name, process))
        if process.paused_until > self.now:
            return
        self._work(name, process)
        self._send(name, lambda: self._read(name, process), lambda: None)

    # the way to the store and back

    def _delay(self) -> float:
        net = self.net
        slow = self.rng.random() < net.slow
        return self.rng.uniform(net.least, net.most) * (40 if slow else 1)

    def _send(self, name: str, there: Callable[[], None], lost: Callable[[], None]) -> None:
        if name in self.cut or self.rng.random() < self.net.lost:
            lost()
        else:
            self.at(self._delay(), there)

    def _read(self, name: str, process: Process) -> None:
        older = self.store.older
        stale = older and self.rng.random() < self.net.stale
        entries = self.rng.choice(older) if stale else dict(self.store.entries)
        self._send(name, lambda: self._when_awake(process, lambda: self._observe(name, process, entries)), lambda: None)

    def _observe(self, name: str, process: Process, entries: dict[str, Entry]) -> None:
        process.agent.observe(entries, process.local(self.now))
        self._work(name, process)

    def _work(self, name: str, process: Process) -> None:
        self._run_partitions(name, process)
        if process.busy:
            return
        put = process.agent.next(process.local(self.now))
        if not process.agent.leads(process.local(self.now)):
            self._owners.get("the leader", {}).pop(name, None)
        if put is not None:
            process.busy = True
            self._write(name, process, put)

    def _write(self, name: str, process: Process, put: Put) -> None:
        settled: list[bool] = []

        def settle(refused: bool, revision: int | None) -> None:
            if settled:
                return
            settled.append(True)
            process.busy = False
            now = process.local(self.now)
            if revision is None:
                process.agent.failed(put, refused, now)
            else:
                process.agent.written(put, revision, now)
            self._work(name, process)

        def commit() -> None:
            revision = self.store.write(put)
            self._send(name, lambda: self._when_awake(process, lambda: settle(revision is None, revision)), lambda: None)

        self.at(TIMEOUT_S, lambda: self._when_awake(process, lambda: settle(False, None)))
        self._send(name, commit, lambda: None)

    # what the node does with what it may run

    def _run_partitions(self, name: str, process: Process) -> None:
        agent, now = process.agent, process.local(self.now)
        may = agent.may_run(now)
        for each in sorted(process.running - may):
            process.running.discard(each)
            self._owners.get(each, {}).pop(name, None)
            process.stopping.add(each)
            self.at(self.rng.uniform(0.0, 0.5), lambda each=each: self._when_awake(process, lambda: self._stopped(process, each)))
        for each in sorted(may - process.stopping - process.running):
            agent.holds.add(each)
            process.running.add(each)
        until = process.real(agent.valid_until)
        for each in process.running:
            self._claim(each, name, until)
        if agent.leads(now):
            self._claim("the leader", name, until)
        else:
            self._owners.get("the leader", {}).pop(name, None)

    def _stopped(self, process: Process, each: str) -> None:
        process.stopping.discard(each)
        process.agent.holds.discard(each)

    def _claim(self, what: str, name: str, until: float) -> None:
        owners = self._owners.setdefault(what, {})
        owners[name] = until
        if len(owners) > 1:
            for other in [each for each, end in owners.items() if end <= self.now]:
                del owners[other]
            if len(owners) > 1:
                raise Broken(f"{self.now:.3f} s: {what} is with {sorted(owners)} at once")

    def running(self) -> dict[str, str]:
        """Which node acts for which partition now."""
        found = {}
        for name, process in sorted(self.processes.items()):
            if process.alive and process.paused_until <= self.now and process.agent.valid(process.local(self.now)):
                found.update(dict.fromkeys(process.running, name))
        return found

    def leaders(self) -> list[str]:
        return [name for name, each in self.processes.items() if each.alive and each.agent.leads(each.local(self.now))]


def encode_plan(plan: Plan) -> bytes:
    """As a leader writes it."""
    return msgspec.json.encode(plan)


def members(count: int, memory: float = 0) -> list[Member]:
    """Nodes n0, n1 …; every fourth has a gpu."""
    return [
        Member(
            f"n{at}", f"i{at}", 0, address=f"10.0.0.{at}:7443", version="1.0.0", resources=ResourceUsage(memory=memory),
            capabilities=("gpu",) if at % 4 == 0 else (),
        )
        for at in range(count)
    ]  # fmt: skip


def partitions(count: int, memory: float = 0) -> list[Partition]:
    """Partitions p0/0, p0/1 …; every tenth wants a gpu."""
    return [
        Partition(f"p{at // 4}/{at % 4}", ("gpu",) if at % 10 == 0 else (), ResourceUsage(memory=memory)) for at in range(count)
    ]


def nemesis(seed: int, nodes: int, parts: int, seconds: float, *, skew: float = 0.005) -> Simulation:
    """A cluster under random faults for so long, then healed; raises `Broken`. What happened is in `counts`."""
    simulation = Simulation(seed, members(nodes, memory=4.0 * parts / nodes + 8), partitions(parts, memory=1.0), skew=skew)
    rng, names = simulation.rng, [f"n{at}" for at in range(nodes)]
    simulation.net = Net(0.001, 0.05, slow=0.02, lost=0.02, stale=0.2)
    for name in names:
        simulation.at(rng.uniform(0, 1), lambda name=name: simulation.start(name))
    simulation.run(5)
    end = simulation.now + seconds
    while simulation.now < end:
        _fault(simulation, rng, names)
        simulation.store.remember()
        simulation.run(rng.expovariate(1.0))
    _heal(simulation, names)
    return simulation


def _fault(simulation: Simulation, rng: random.Random, names: list[str]) -> None:
    leaders = simulation.leaders()
    name = rng.choice(leaders) if leaders and rng.random() < 0.3 else rng.choice(names)
    process = simulation.processes[name]
    kind = rng.choice(("kill", "pause", "cut", "heal", "start", "quiet", "step down"))
    simulation.counts[kind] += 1
    if kind == "kill" and process.alive:
        simulation.kill(name)
        simulation.at(rng.uniform(0, 8), lambda: None if simulation.processes[name].alive else simulation.start(name))
    elif kind == "pause":
        simulation.pause(name, rng.choice((0.5, 2.0, 4.0, 9.0)))
    elif kind == "cut":
        simulation.cut |= set(rng.sample(names, rng.randint(1, max(1, len(names) // 2))))
    elif kind == "heal":
        simulation.cut.clear()
    elif kind == "start" and not process.alive:
        simulation.start(name)
    elif kind == "quiet":
        simulation.net = Net() if rng.random() < 0.5 else Net(0.001, 0.05, slow=0.02, lost=0.05, stale=0.3)
    elif kind == "step down" and process.alive and not process.busy and process.paused_until <= simulation.now:
        put = process.agent.step_down(process.local(simulation.now))
        if put is not None:
            process.busy = True
            simulation._owners["the leader"].pop(name, None)
            simulation._write(name, process, put)


def _heal(simulation: Simulation, names: list[str]) -> None:
    """No more faults: then everything must run, once, and one node lead."""
    simulation.cut.clear()
    simulation.net = Net()
    for name in names:
        if not simulation.processes[name].alive:
            simulation.start(name)
    # pauses end after 9 s; what is moved just then to spread it better does not run for a moment
    end = simulation.now + 40
    simulation.run(9)
    missing: set[str] = {""}
    while missing and simulation.now < end:
        simulation.run(0.25)
        missing = {partition.name for partition in simulation.wanted} - set(simulation.running())
    if missing:
        raise Broken(f"after healing {len(missing)} partitions do not run: {sorted(missing)[:5]}")
    if len(simulation.leaders()) != 1:
        raise Broken(f"after healing these lead: {simulation.leaders()}")
