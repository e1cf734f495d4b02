"""A cluster of real nodes on this machine: a `skerry run` each, joined by the command line, broken part by part, reckoned up.

On loopback each has an address of its own (127.0.0.1, 127.0.0.2 …); on a `Lan` each is a machine of it, and devices are outside.
"""

import signal
import subprocess
import sys
import time
from collections.abc import Callable, Mapping, Sequence
from contextlib import ExitStack, suppress
from pathlib import Path
from typing import Any, Self

from skerry.core.errors import SkerryError
from skerry.runtime import free_ports
from tests.cluster.born import born_together
from tests.fixtures.netns import Lan
from tests.fixtures.node import RunningNode, until
from tests.system.accounts import EVERY, ONCE, PIPELINE, Account, check_windows, missing
from tests.system.fleet import Device, Fleet

TOGETHER_S = 120.0
CLOCK = "clock"
AHEAD_S = 300.0
# a device that was without a node for a while sends what it had begun after what is new: that must not be late
PIPELINES = "".join(PIPELINE.format(name=name, dedup=dedup, lateness="4m") for name, dedup in ((ONCE, "time"), (EVERY, "off")))
CLUSTER = """
[cluster]
enabled = true
listen = "{host}:{port}"
discovery = "{discovery}"
"""
JOIN_PORT, ROUTES_PORT = 7443, 6222


class Boxes:
    """Nodes `n1`, `n2` …; use as a context manager: it begins with all of them as one, unless `together` is False.

    Args:
        folder: an empty one; each node has its own in it.
        pipelines: the text of the `[[pipelines]]` tables, the same on all.
        together: whether to start them all as one.
        born: as one from the beginning, which takes less time than to grow from one to all.
        more: further tables of the configuration, the same on all.
        witness: whether the last is a witness.
        broker: further lines of `[broker]`, the same on all.
        lan: machines with the nodes' names; who uses the nodes is outside (`Lan.entered`). They find each other by mDNS.
        clocks: whether `set_clock` is going to be used.
        data: data directories of nodes that have it elsewhere in their folder.
    """

    def __init__(
        self,
        folder: Path,
        count: int = 3,
        pipelines: str = PIPELINES,
        *,
        together: bool = True,
        born: bool = True,
        workers: int = 1,
        more: str = "",
        witness: bool = False,
        broker: str = "",
        lan: Lan | None = None,
        clocks: bool = False,
        data: Mapping[str, str] | None = None,
    ) -> None:
        self.lan = lan
        self.names = tuple(f"n{at + 1}" for at in range(count))
        self.nodes: dict[str, RunningNode] = {}
        self._hosts: dict[str, str] = {}
        for at, name in enumerate(self.names):
            (folder / name).mkdir()
            host = f"127.0.0.{at + 1}" if lan is None else lan.address(name)
            ways = {"port": 0, "discovery": "seeds"} if lan is None else {"port": JOIN_PORT, "discovery": "mdns"}
            self._hosts[name] = host
            self.nodes[name] = RunningNode(
                folder / name, pipelines, workers=workers, mqtt=f"{host}:0", name=name, broker=broker,
                data=(data or {}).get(name, "data"),
                more=CLUSTER.format(host=host, **ways) + more, prefix=() if lan is None else lan.inside(name),
                env={"SKERRY_CLOCK_FILE": str(folder / name / CLOCK)} if clocks else None,
                command="witness" if witness and at == count - 1 else "run",
            )  # fmt: skip
        self.devices = self.names[: count - witness]
        self._begin = (self.born if born else self.grow) if together else None
        self._stack = ExitStack()

    def __enter__(self) -> Self:
        with self._stack:
            for name in self.names:
                self._stack.callback(self.nodes[name].close)
            if self._begin is not None:
                self._begin(*self.names)
            self._stack = self._stack.pop_all()
        return self

    def __exit__(self, kind: object, *_: object) -> None:
        if kind is not None:
            print(self.say())
        self._stack.close()

    def __getitem__(self, name: str) -> RunningNode:
        return self.nodes[name]

    def say(self) -> str:
        """What each knows and wrote last, for a test that failed."""
        return "\n".join(f"--- {name}: {node.try_status()}\n{_tail(node)}" for name, node in self.nodes.items())

    # to be one

    def grow(self, first: str, *others: str) -> None:
        """Start the first, join the others to it one by one, and wait until all are one."""
        self[first].start()
        for name in others:
            self.join(name, first)
            self[name].start()
        self.wait_together(first, *others)

    def born(self, first: str, *others: str) -> None:
        """Found and join before any runs, and then start all."""
        names = (first, *others)
        ports = free_ports("127.0.0.1", [0] * len(names)) if self.lan is None else [ROUTES_PORT] * len(names)
        routes = [f"{self._hosts[name]}:{port}" for name, port in zip(names, ports, strict=True)]
        files = {name: self[name].file for name in names}
        if self.lan is None:
            born_together(files, routes)
        else:
            words = [*(f"{name}={file}" for name, file in files.items()), *routes]
            subprocess.run([*self.lan.inside(first), sys.executable, "-m", "tests.cluster.born", *words], check=True)
        for name in names:
            self[name].begin()
        self.wait_together(first, *others)

    def join(self, name: str, member: str) -> dict[str, Any]:
        """`cluster join` of a stopped node with a token of a member."""
        token = self[member].cli("cluster", "token", "create")["token"]
        return self[name].cli("cluster", "join", "--token", token)

    def members(self, name: str) -> dict[str, str]:
        """Status by node, as one of them says."""
        with self[name].client() as client:
            return {each["id"]: each["status"] for each in client.get("/api/v1/cluster/members")["members"]}

    def leader(self, name: str) -> str:
        """Who leads, as one of them says."""
        with self[name].client() as client:
            return str(client.get("/api/v1/cluster/leader")["leader"] or "")

    def work_of(self, name: str) -> int:
        """How many units a node is given, as it says itself."""
        return list(self[name].status()["cluster"]["partitions"].values()).count(name)

    def wait_together(self, *names: str, seconds: float = TOGETHER_S) -> float:
        """Until these are ready and each sees all of them online; seconds that took."""
        names, began = names or self.names, time.monotonic()
        for name in names:
            self[name].wait_ready(seconds)

        def one() -> bool:
            found = [self.members(name) for name in names]
            return all(status.get(name) == "Online" for status in found for name in names)

        patiently(one, seconds, f"{', '.join(names)} are online for each other")
        return time.monotonic() - began

    def wait_status(self, name: str, of: str, status: str, seconds: float = TOGETHER_S) -> float:
        """Until `name` says that `of` has this status; seconds that took."""
        began = time.monotonic()
        patiently(lambda: self.members(name).get(of) == status, seconds, f"{of} is {status} for {name}")
        return time.monotonic() - began

    # devices

    def addresses(self, *names: str) -> list[tuple[str, int]]:
        """Where devices connect, to one node after the other."""
        return [self[name].mqtt for name in names or self.devices]

    def fleet(self, devices: int, rate: float, prefix: str = "d") -> Fleet:
        """Devices that go from node to node when theirs does not answer; they begin at the first one."""
        return Fleet(self.addresses(), devices, rate, prefix)

    # faults

    def kill(self, name: str, role: str = "all") -> float:
        """kill -9 of a role of a node, or of all of it, as when its power is cut; the moment of that, by the monotonic clock."""
        return self[name].kill(role)

    def pause(self, name: str) -> None:
        """All processes of a node stand still."""
        for process in [*self[name].processes("agent"), *self[name].children()]:
            process.send_signal(signal.SIGSTOP)

    def resume(self, name: str) -> None:
        for process in [*self[name].processes("agent"), *self[name].children()]:
            process.send_signal(signal.SIGCONT)

    def set_clock(self, name: str, offset: str) -> None:
        """The clock of a node's own processes is wrong by so much (a duration), or right again (0s)."""
        (self[name].folder / CLOCK).write_text(offset)

    def power_cut(self, seconds: float = 0.0) -> float:
        """All of all nodes at once, and after some seconds all start again; the moment when the last was killed."""
        struck = max([self.kill(name) for name in self.names])
        time.sleep(seconds)
        for name in self.names:
            self[name].begin()
        return struck

    # the reckoning

    def events(self, pipeline: str) -> list[dict[str, Any]]:
        """All events, from the first node that answers."""
        trouble = ""
        for node in self.nodes.values():
            try:
                return node.events(pipeline)
            except SkerryError as error:
                trouble = str(error)
        raise AssertionError(f"no node gives its events: {trouble}")

    def settle(self, fleet: Fleet, before: Sequence[Device] = (), seconds: float = TOGETHER_S) -> Account:
        """End the load, wait until all is acknowledged and all windows are there, and reckon up.

        0 acknowledged messages lost, every window complete and there once, event ids unique. Fails the test otherwise.
        """
        fleet.stop()
        until(lambda: fleet.unacknowledged == 0, seconds, "every message is acknowledged")
        fleet.close_windows(AHEAD_S)
        until(lambda: fleet.unacknowledged == 0, seconds, "every last message is acknowledged")
        devices = [*before, *fleet.devices]
        found: dict[str, list[dict[str, Any]]] = {}

        def complete() -> bool:
            with suppress(AssertionError):
                found.update({name: self.events(name) for name in (ONCE, EVERY)})
                return not any(missing(events, devices) for events in found.values())
            return False

        try:
            patiently(complete, seconds, "every window is closed", every_s=0.5)
        except AssertionError as error:
            gone = {name: sorted(missing(events, devices))[:5] for name, events in found.items()}
            raise AssertionError(f"{error}; not there: {gone}") from error
        again = check_windows(found[ONCE], found[EVERY], devices)
        return Account(sum(len(device.acknowledged) for device in devices), len(found[ONCE]), again)


def patiently(condition: Callable[[], object], seconds: float, what: str, every_s: float = 0.25) -> None:
    """Ask a condition, which may fail meanwhile, until it holds. Fails the test after so many seconds, with its last failure."""
    give_up, trouble = time.monotonic() + seconds, ""
    while True:
        try:
            if condition():
                return
        except (AssertionError, SkerryError, OSError) as error:
            trouble = str(error)
        if time.monotonic() > give_up:
            raise AssertionError(f"not within {seconds:g} s: {what}: {trouble}")
        time.sleep(every_s)


def _tail(node: RunningNode) -> str:
    with suppress(OSError):
        return node.output[-3000:]
    return ""
