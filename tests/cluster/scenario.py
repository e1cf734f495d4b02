"""Runs a scenario: a text of commands, each followed by what it must print. The form is that of etcd-io/raft's testdata.

    node a memory=4 capabilities=gpu     a node, started
    partitions p/0 p/1:gpu:2             what shall run: name, capability, memory
    run 5                                seconds go by
    cut a | heal a | pause a 4 | kill a | start a
    drain a | resume a | remove a | step-down a | forge-plan a
    members [at NODE] | leader | plan | refused
    ----
    the expected output

Delays are all 5 ms here, clocks right, and nothing is lost, so that the output is always the same.
"""

from pathlib import Path

import msgspec

from skerry.cluster.members import NodeStatus
from skerry.cluster.records import PLAN, Member, Partition, Plan, Put, encode
from skerry.core.errors import RejectedError
from skerry.runtime import ResourceUsage
from tests.cluster.simulation import Net, Simulation


class Scenario:
    """The state between commands."""

    def __init__(self) -> None:
        self.simulation = Simulation(1, [], [], skew=0.0)
        self.simulation.net = Net(0.005, 0.005)

    def run(self, line: str) -> str:
        """One command; what it prints."""
        name, *words = line.split()
        return getattr(self, "do_" + name.replace("-", "_"))(*words) or ""

    def do_node(self, name: str, *options: str) -> None:
        given = dict(option.split("=") for option in options)
        member = Member(
            name, given.get("instance", f"i-{name}"), 0, capabilities=tuple(filter(None, given.get("capabilities", "").split(","))),
            resources=ResourceUsage(memory=float(given.get("memory", 0))),
        )  # fmt: skip
        self.simulation.add(given.get("as", name), member)
        self.simulation.start(given.get("as", name))

    def do_partitions(self, *words: str) -> None:
        wanted = []
        for word in words:
            name, capability, memory = (*word.split(":"), "", "")[:3]
            wanted.append(Partition(name, (capability,) if capability else (), ResourceUsage(memory=float(memory or 0))))
        self.simulation.want(wanted)

    def do_run(self, seconds: str) -> None:
        self.simulation.run(float(seconds))

    def do_cut(self, name: str) -> None:
        self.simulation.cut.add(name)

    def do_heal(self, name: str) -> None:
        self.simulation.cut.discard(name)

    def do_pause(self, name: str, seconds: str) -> None:
        self.simulation.pause(name, float(seconds))

    def do_kill(self, name: str) -> None:
        self.simulation.kill(name)

    def do_start(self, name: str) -> None:
        self.simulation.start(name)

    def do_drain(self, name: str) -> str:
        return self._order(lambda agent, now: agent.mark(name, True, now))

    def do_resume(self, name: str) -> str:
        return self._order(lambda agent, now: agent.mark(name, False, now))

    def do_remove(self, name: str) -> str:
        return self._order(lambda agent, now: agent.remove(name, now))

    def do_step_down(self, name: str) -> str:
        process = self.simulation.processes[name]
        put = process.agent.step_down(process.local(self.simulation.now))
        return self._write(put) if put else f"{name} does not lead"

    def do_forge_plan(self, name: str) -> str:
        """What a leader writes that does not know that there is another: the plan it knew, with all work for itself."""
        process = self.simulation.processes[name]
        plan, entry = process.agent.plan, process.agent._entries[PLAN]
        parts = {key: msgspec.structs.replace(part, node=name) for key, part in plan.parts.items()}
        return self._write(Put(PLAN, encode(Plan(plan.version + 1, plan.epoch, parts)), entry.revision, self.simulation.now))

    def _order(self, make: object) -> str:
        leader = self.simulation.processes[self.simulation.leaders()[0]]
        assert callable(make)
        try:
            return self._write(make(leader.agent, leader.local(self.simulation.now)))
        except RejectedError as error:
            return f"rejected: {error.message}"

    def _write(self, put: Put) -> str:
        return "taken" if self.simulation.store.write(put) else "refused"

    def do_members(self, *words: str) -> str:
        name = words[1] if words else next(key for key, each in self.simulation.processes.items() if each.alive)
        process = self.simulation.processes[name]
        seen = process.agent.view(process.local(self.simulation.now))
        lines = [f"{node.id} {node.status}" + (f" ({node.reason})" if node.reason else "") for node in seen.values()]
        return "\n".join([*lines, *([f"trouble: {process.agent.trouble}"] if process.agent.trouble else [])])

    def do_leader(self) -> str:
        leaders = self.simulation.leaders()
        return f"{', '.join(leaders) or 'nobody'}, epoch {max(self.simulation.store.epochs, default=0)}"

    def do_plan(self) -> str:
        running = self.simulation.running()
        plan = self.simulation.store.plan()
        lines = []
        for partition in self.simulation.wanted:
            part = plan.parts.get(partition.name)
            where = "nowhere" if part is None else f"{part.node}" + (f" -> {part.to}" if part.to else "")
            lines.append(f"{partition.name} {where}" + ("" if partition.name in running else " (does not run)"))
        return "\n".join(lines)

    def do_status(self, name: str) -> str:
        process = self.simulation.processes[name]
        held = process.agent.valid(process.local(self.simulation.now))
        return f"{name} {'holds its lease' if held else 'has no lease'}, runs {len(process.running)}"


def play(path: Path) -> str:
    """The text again, with what was printed in the place of what was expected."""
    scenario, answers, out = Scenario(), [""], []
    expecting = False
    for line in path.read_text("utf-8").splitlines():
        if line == "----":
            expecting = True
            out.append(line)
            out += [each for answer in answers if answer for each in answer.splitlines()]
            answers = []
        elif not line or line.startswith("#"):
            expecting = False
            out.append(line)
        elif not expecting:
            out.append(line)
            answers.append(scenario.run(line))
    return "\n".join(out) + "\n"


__all__ = ["NodeStatus", "Scenario", "play"]
