"""Three machines of a LAN, each with a nats-server and a node, and faults: `python -m tests.cluster.machines --faults N`.

Machines are network namespaces: own addresses, links that can be cut. After each fault all must come together again by itself; at
the end no partition and no office was with two nodes at once. Prints how long it took.
"""

import argparse
import random
import signal
import statistics
import subprocess
import sys
import tempfile
import time
from collections import defaultdict
from contextlib import ExitStack
from pathlib import Path
from typing import Self

from skerry.broker import MIB, Routes
from skerry.broker.config import AGENT, ServerPlan
from skerry.core.clock import SystemClock
from skerry.trust import KeyPair, Role, issue_node, new_request
from tests.cluster.rig import Nodes, nodes, overlaps, wait
from tests.fixtures.certificates import Site
from tests.fixtures.nats_cluster import PASSWORD, Server
from tests.fixtures.netns import Lan, lan

NAMES = ("a", "b", "c")
TOGETHER_S = 90.0
FAULTS = ("kill node", "stop node", "kill server", "stop server", "cut", "power cut")


_WHO_LEADS = f"""
import asyncio
from skerry.broker import WireClient, api
async def main():
    client = await WireClient.connect("127.0.0.1", 4222, {AGENT!r}, {PASSWORD!r}, "look")
    print((await api(client, "STREAM.INFO.KV_skerry_cluster"))["cluster"]["leader"])
    client.close()
asyncio.run(main())
"""


class Machines:
    """The machines; use as a context manager, which ends with all of them together."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._stack = ExitStack()
        self.lan: Lan
        self.nodes: Nodes
        self.servers: dict[str, Server] = {}

    def __enter__(self) -> Self:
        with self._stack:
            self.lan = self._stack.enter_context(lan(*NAMES))
            self._make_servers()
            for server in self.servers.values():
                self._stack.callback(server.close)
                server.start()
            prefix = {name: self.lan.inside(name) for name in NAMES}
            options = ("replicas=3", f"user={AGENT}")
            self.nodes = self._stack.enter_context(nodes(self._folder, "127.0.0.1:4222", *options, prefix=prefix))
            self.nodes.start(*NAMES)
            self.together()
            self._stack = self._stack.pop_all()
        return self

    def __exit__(self, *_: object) -> None:
        self._stack.close()

    def together(self) -> float:
        """Wait until all see each other online, one leads, and all work is placed; how long that took."""
        try:
            return wait(lambda: self.nodes.settled(*NAMES), TOGETHER_S)
        except AssertionError as error:
            raise AssertionError("\n".join(f"{name}: {self.nodes.state(name)}" for name in NAMES)) from error

    def _make_servers(self) -> None:
        site = Site(self._folder / "tls", SystemClock().now())
        issuer = KeyPair.new(Role.ACCOUNT).public
        members = tuple(f"{self.lan.address(name)}:6222" for name in NAMES)
        for name in NAMES:
            folder = self._folder / f"server-{name}"
            folder.mkdir()
            asked = new_request(name)
            certificate = issue_node(site.authority.load(), asked.certificate, name, (self.lan.address(name),), site.now)
            (folder / "cert.pem").write_bytes(certificate)
            (folder / "key.pem").write_bytes(asked.key)
            routes = Routes(
                "quay", self.lan.address(name), 6222, members, str(folder / "cert.pem"), str(folder / "key.pem"), str(site.ca),
                "a secret of all members",
            )  # fmt: skip
            plan = ServerPlan(
                name, 4222, 8222, "127.0.0.1", 1883, str(folder / "store"), 256 * MIB, "always", 100, str(folder / "nats.log"),
                str(folder / "nats.pid"), issuer, PASSWORD, PASSWORD, PASSWORD, routes=routes,
            )  # fmt: skip
            self.servers[name] = Server(folder, plan, self.lan.inside(name))

    # faults

    def leader(self) -> str:
        """Who leads, as one of them says."""
        return str(self.nodes.state(NAMES[0]).get("leader") or NAMES[0])

    def fault(self, kind: str, name: str, seconds: float) -> float:
        """Do it, for so long where it has an end; then seconds until all is together again."""
        others = [each for each in NAMES if each != name]
        if kind == "kill node":
            self.nodes.send(name, signal.SIGKILL)
            self.nodes.processes[name].wait(10)
            wait(lambda: self.nodes.settled(*others), TOGETHER_S)
            self.nodes.start(name)
        elif kind == "kill server":
            self.servers[name].kill()
            time.sleep(seconds)
            self.servers[name].start()
        elif kind == "cut":
            self.lan.cut(name)
            time.sleep(seconds)
            self.lan.heal(name)
        elif kind == "power cut":
            self._power_cut(seconds)
        else:
            send = self.nodes.send if kind == "stop node" else lambda name, number: self.servers[name].send(number)
            send(name, signal.SIGSTOP)
            time.sleep(seconds)
            send(name, signal.SIGCONT)
        return self.together()

    def lose(self, name: str) -> None:
        """A machine dies: its server and its node; when the others run all, it comes back, and all are together again."""
        others = [each for each in NAMES if each != name]
        self.servers[name].kill()
        self.nodes.send(name, signal.SIGKILL)
        self.nodes.processes[name].wait(10)
        wait(lambda: self.nodes.settled(*others), TOGETHER_S)
        self.servers[name].start()
        self.nodes.start(name)
        self.together()

    def server_of_bucket(self) -> str:
        """The machine whose server leads the cluster's records."""
        command = [*self.lan.inside(NAMES[0]), sys.executable, "-c", _WHO_LEADS]
        found: list[str] = []

        def asked() -> bool:
            done = subprocess.run(command, capture_output=True, text=True, check=False, timeout=60)
            found[:] = [done.stdout.strip()]
            return found[0] in NAMES

        wait(asked, TOGETHER_S)
        return found[0]

    def all_work(self) -> None:
        """Wait until each has a partition: who came back gets work when it has been calm for a while."""
        wait(lambda: set(self.nodes.state(NAMES[0])["holders"].values()) == set(NAMES), TOGETHER_S)

    def _power_cut(self, seconds: float) -> None:
        """All of all machines at once."""
        for name in NAMES:
            self.servers[name].send(signal.SIGKILL)
            self.nodes.send(name, signal.SIGKILL)
        for name in NAMES:
            self.servers[name].kill()
            self.nodes.processes[name].wait(10)
        time.sleep(seconds)
        for name in NAMES:
            self.servers[name].start()
        self.nodes.start(*NAMES)

    def faults_of_order(self) -> list[str]:
        """What must never have been: two owners at once, a leader after a later one."""
        lines = self.nodes.lines()
        epochs = [line[2] for line in lines if line[0] == "leader"]
        return overlaps(lines) + ([] if epochs == sorted(epochs) else ["a leader after a later one"])


def takeover(machines: Machines, name: str, *, whole: bool = False) -> float | None:
    """Kill a node, with its server where the `whole` machine dies; seconds from then until others ran all that it had.

    None where it had nothing. Afterwards all are together again.
    """
    theirs = {part for part, node in machines.nodes.state(name)["holders"].items() if node == name}
    died = time.monotonic()
    if whole:
        machines.lose(name)
    else:
        machines.fault("kill node", name, 0)
    return taken_over(machines.nodes.lines(), theirs, name, died)


def taken_over(lines: list[tuple[str, str, int, float]], theirs: set[str], name: str, died: float) -> float | None:
    """Seconds from a node's death until each of its partitions was run by another; None where it had none."""
    first = {part: min(at for what, node, _, at in lines if what == part and node != name and at > died) - died for part in theirs}
    return max(first.values()) if first else None


def report(folder: Path, faults: int, seed: int) -> str:
    """So many random faults; the counts and times. Raises `AssertionError` for the first thing that is wrong."""
    rng, took = random.Random(seed), defaultdict[str, list[float]](list)
    with Machines(folder) as machines:
        for number in range(faults):
            kind = rng.choice(FAULTS)
            name = machines.leader() if rng.random() < 0.4 else rng.choice(NAMES)
            print(f"{number + 1}: {kind} {name}", file=sys.stderr, flush=True)
            if kind == "kill node":
                which = "leader" if name == machines.leader() else "other"
                took[f"take-over of a killed {which} node"] += filter(None, [takeover(machines, name)])
            else:
                took[f"together again after: {kind}"].append(machines.fault(kind, name, rng.choice((0.5, 2.0, 6.0, 12.0))))
            wrong = machines.faults_of_order()
            assert wrong == [], wrong
        leaders = max(line[2] for line in machines.nodes.lines())
    rows = [
        _row(name, f"{len(times)}, median {statistics.median(times):.1f} s, longest {max(times):.1f} s")
        for name, times in took.items()
        if times  # a node that had no work is not taken over
    ]
    counts = {"faults in all": faults, "leaders": leaders, "two owners at once": 0}
    return "\n".join([*sorted(rows), *(_row(name, str(count)) for name, count in counts.items())])


def _row(name: str, what: str) -> str:
    return f"{name:>42} {what}"


def main() -> int:
    parser = argparse.ArgumentParser(prog="python -m tests.cluster.machines", description=__doc__)
    parser.add_argument("--faults", type=int, default=20)
    parser.add_argument("--seed", type=int, default=1)
    given = parser.parse_args()
    with tempfile.TemporaryDirectory(prefix="skerry-machines-") as folder:
        print(report(Path(folder), given.faults, given.seed))
    return 0


if __name__ == "__main__":
    sys.exit(main())
