"""Nodes as processes, and what they did, from the lines they wrote."""

import json
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from tests.cluster.member_process import PARTITIONS

PATIENCE_S = 40.0
FRESH_S = 2.0


class Nodes:
    """Processes of `member_process`, by name."""

    def __init__(self, folder: Path, servers: str, *options: str, prefix: dict[str, list[str]] | None = None) -> None:
        self._folder = folder
        self._servers = servers
        self._options = options
        self._prefix = prefix or {}
        self.processes: dict[str, subprocess.Popen[bytes]] = {}

    def start(self, *names: str) -> None:
        for name in names:
            # what its last life said is no answer of this one
            (self._folder / f"{name}.{name}.json").unlink(missing_ok=True)
            command = [sys.executable, "-m", "tests.cluster.member_process", name, self._servers, str(self._folder / name)]
            with (self._folder / f"{name}.err").open("ab") as err:
                self.processes[name] = subprocess.Popen([*self._prefix.get(name, []), *command, *self._options], stderr=err)

    def send(self, name: str, number: signal.Signals) -> None:
        self.processes[name].send_signal(number)

    def close(self) -> None:
        for process in self.processes.values():
            process.send_signal(signal.SIGCONT)
            process.kill()
            process.wait(10)

    def state(self, name: str) -> dict[str, Any]:
        file = self._folder / f"{name}.{name}.json"
        found: dict[str, Any] = json.loads(file.read_text("utf-8")) if file.exists() else {}
        return found

    def statuses(self, name: str) -> dict[str, str]:
        """What it says of each; one that comes and goes counts as Online: it is there."""
        members = self.state(name).get("members", [])
        return {each["id"]: "Online" if each["reason"].startswith("it comes and goes") else each["status"] for each in members}

    def settled(self, *names: str) -> bool:
        """Whether these see each other online, agree on the leader, and all work is placed on them and runs."""
        states = [self.state(name) for name in names]
        if any(time.monotonic() - state.get("at", 0.0) > FRESH_S for state in states):
            return False
        online = all(all(self.statuses(name).get(other) == "Online" for other in names) for name in names)
        leaders = {state.get("leader") for state in states}
        placed = all(set(state.get("holders", {}).values()) <= set(names) for state in states)
        full = all(len(state.get("holders", {})) == len(PARTITIONS) for state in states)
        return online and placed and full and len(leaders) == 1 and leaders <= set(names)

    def lines(self) -> list[tuple[str, str, int, float]]:
        """What was done: partition or `leader`, node, epoch, time; in the order of time."""
        found = []
        for name in self.processes:
            for line in (self._folder / name).read_text("ascii").splitlines() if (self._folder / name).exists() else []:
                what, node, epoch, at = line.split(" ")
                found.append((what, node, int(epoch), float(at)))
        return sorted(found, key=lambda each: each[3])


@contextmanager
def nodes(folder: Path, servers: str, *options: str, prefix: dict[str, list[str]] | None = None) -> Iterator[Nodes]:
    """Nodes that are ended with the block."""
    found = Nodes(folder, servers, *options, prefix=prefix)
    try:
        yield found
    finally:
        found.close()


def wait(condition: Callable[[], object], seconds: float = PATIENCE_S) -> float:
    """Until it holds; seconds that took. Fails after so many."""
    began = time.monotonic()
    while not condition():
        assert time.monotonic() - began < seconds, "it never came to be"
        time.sleep(0.05)
    return time.monotonic() - began


def overlaps(lines: list[tuple[str, str, int, float]]) -> list[str]:
    """Where two nodes had the same at one time: their lines alternate.

    One line may stray: that of a process that was stopped between the look at its lease and the write. What it writes to the store
    is refused by revision.
    """
    turns: dict[str, list[tuple[str, float]]] = {}
    for what, node, _, at in lines:
        turns.setdefault(what, []).append((node, at))
    return [fault for what, turn in sorted(turns.items()) for fault in _overlaps(what, turn)]


def _overlaps(what: str, turn: list[tuple[str, float]]) -> list[str]:
    runs: list[tuple[str, float, float]] = []
    for node, at in turn:
        if runs and runs[-1][0] == node:
            runs[-1] = (node, runs[-1][1], at)
        else:
            runs.append((node, at, at))
    inside = [
        f"{what}: {node} at {first:.2f} while it was with {before[0]}"
        for before, (node, first, last), after in zip(runs, runs[1:], runs[2:], strict=False)
        if before[0] == after[0] and after[1] - before[2] < 0.5
    ]
    return inside if len(inside) > 1 else []
