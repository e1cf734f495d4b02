"""Groups of processes that the kernel holds to bounds of memory and CPU: cgroups of version 2, of version 1, or none at all."""

import contextlib
import os
from collections.abc import Sequence
from pathlib import Path
from typing import Literal

import msgspec

from skerry.runtime.usage import CGROUPS, family, own_cgroup

Kind = Literal["cgroup-v2", "cgroup-v1", "watch"]
AGENT, WORK = "agent", "work"
MARGIN = 64 * 1024 * 1024
"""What the kernel's bound is above the watch's: who is over is to be stopped by the one that says why."""
MOST_PROCESSES = 512
_PERIOD_US = 100_000
_WEIGHT = "300"  # of the agent and the broker, against 100 of all that works
_TOLD = Path("/proc/self/cgroup")


class Confines(msgspec.Struct, frozen=True):
    """What a group may take: resident bytes, and cores; 0: no bound."""

    memory: int = 0
    cpu: float = 0.0


class Confinement:
    """How the processes of a node are held to their bounds: found out once, by `confine`.

    Without cgroups the groups are empty: memory is watched by who started the process, and niceness says who goes first.

    Attributes:
        kind: what holds memory. cpu: what holds CPU, a kind too or `niceness`.
        why: why it is not something better, in a sentence; empty where it is.
        path: the cgroup (version 2) that all processes of the node are in, where it has one of its own.
    """

    def __init__(self, kind: Kind = "watch", memory: Path | None = None, cpu: Path | None = None, why: str = "") -> None:
        self.kind = kind
        self.cpu = kind if cpu is not None else "niceness"
        self.why = why
        self.path = memory if kind == "cgroup-v2" else None
        self._memory, self._cpu = memory, cpu
        self._made: list[Path] = []

    @property
    def sentence(self) -> str:
        """`held by cgroup-v2`, or what does it instead."""
        return f"held by {self.kind}" if self.cpu == self.kind else f"held by {self.kind} and {self.cpu}"

    def group(self, name: str, bounds: Confines) -> Sequence[str]:
        """Make or change the group of one process that works; the files that it has to write `0` to at its start, to be in it.

        A bound that cannot be set is one bound less: the process runs all the same, and is watched."""
        joins = []
        for parent in dict.fromkeys(each for each in (self._memory, self._cpu) if each is not None):
            with contextlib.suppress(OSError):
                folder = self._make(parent / WORK / name)
                if parent == self._memory:
                    _bound_memory(folder, self.kind, bounds.memory + MARGIN if bounds.memory else 0)
                if parent == self._cpu:
                    _bound_cpu(folder, self.kind, bounds.cpu)
                joins.append(str(folder / "cgroup.procs"))
        return joins

    def out_of_memory(self, name: str) -> int:
        """How often the kernel ended a process of a group since it was full."""
        if self._memory is None:
            return 0
        folder = self._memory / WORK / name
        file = folder / ("memory.events" if self.kind == "cgroup-v2" else "memory.oom_control")
        with contextlib.suppress(OSError, ValueError):
            found = (line.split() for line in file.read_text(encoding="ascii").splitlines())
            return sum(int(words[1]) for words in found if words[0] == "oom_kill")
        return 0

    def begin(self, reserve: int, bounds: Confines) -> None:
        """Set what all that works may take together, and what of memory is the agent's and the broker's whatever comes."""
        if self.kind == "cgroup-v2" and self._memory is not None:
            with contextlib.suppress(OSError):
                _write(self._memory / AGENT / "memory.low", str(reserve))
            with contextlib.suppress(OSError):
                _write(self._memory / AGENT / "cpu.weight", _WEIGHT)
        for parent in dict.fromkeys(each for each in (self._memory, self._cpu) if each is not None):
            with contextlib.suppress(OSError):
                folder = self._make(parent / WORK)
                if self.kind == "cgroup-v2":
                    _enable(folder)
                if parent == self._memory:
                    _bound_memory(folder, self.kind, bounds.memory)
                if parent == self._cpu:
                    _bound_cpu(folder, self.kind, bounds.cpu)

    def close(self) -> None:
        """Remove the groups that are empty."""
        for folder in reversed(self._made):
            with contextlib.suppress(OSError):
                folder.rmdir()

    def _make(self, folder: Path) -> Path:
        folder.mkdir(exist_ok=True)
        if folder not in self._made:
            self._made.append(folder)
        return folder


def confine(root: Path = CGROUPS, told: Path = _TOLD) -> Confinement:
    """Find out what this machine can do, and move this process and its children into a group `agent` of their own (version 2).

    A cgroup is used only if no process is in it that is not this one's: another's bounds are not ours to set.
    """
    own = own_cgroup(root, told)
    if own is not None:
        try:
            return _delegated(own)
        except OSError as error:
            return Confinement(why=f"the cgroup {own} is not delegated to this node: {(error.strerror or str(error)).lower()}")
    memory, cpu = _own_v1(root, told, "memory"), _own_v1(root, told, "cpu")
    if memory is not None:
        return Confinement("cgroup-v1", memory, cpu)
    return Confinement(why="this node has no cgroup of its own with a memory controller (a unit with Delegate=yes gives it one)")


def _delegated(own: Path) -> Confinement:
    """Version 2: processes only in leaves, so this one moves into one before controllers are enabled. Raises OSError."""
    given = (own / "cgroup.controllers").read_text(encoding="ascii").split()
    if "memory" not in given:
        raise OSError(0, "it has no memory controller")
    agent = own / AGENT
    agent.mkdir(exist_ok=True)
    moved = (own / "cgroup.procs").read_text(encoding="ascii").split()
    try:
        for pid in moved:
            with contextlib.suppress(ProcessLookupError):
                _write(agent / "cgroup.procs", pid)
        _enable(own)
    except OSError:
        for pid in moved:
            with contextlib.suppress(OSError):
                _write(own / "cgroup.procs", pid)
        with contextlib.suppress(OSError):
            agent.rmdir()
        raise
    return Confinement("cgroup-v2", own, own if "cpu" in given else None)


def _enable(folder: Path) -> None:
    """Hand the controllers of a group on to the groups in it. Raises OSError."""
    given = (folder / "cgroup.controllers").read_text(encoding="ascii").split()
    wanted = [f"+{each}" for each in ("memory", "cpu", "pids") if each in given]
    _write(folder / "cgroup.subtree_control", " ".join(wanted))


def _own_v1(root: Path, told: Path, controller: str) -> Path | None:
    """This process's group of a controller of version 1, if it may be written and nobody else is in it."""
    try:
        lines = [line.split(":", 2) for line in told.read_text(encoding="utf-8").splitlines()]
        names, path = next((names, path) for _, names, path in lines if controller in names.split(","))
        folder = root / names / path.strip().lstrip("/")
        members = {int(pid) for file in folder.rglob("cgroup.procs") for pid in file.read_text(encoding="ascii").split()}
    except (OSError, ValueError, StopIteration):
        return None
    ours = members and members <= {process.pid for process in family()}
    return folder if ours and os.access(folder, os.W_OK) else None


def _bound_memory(folder: Path, kind: Kind, memory: int) -> None:
    if kind == "cgroup-v1":
        _write(folder / "memory.limit_in_bytes", str(memory or -1))
        return
    _write(folder / "memory.max", str(memory or "max"))
    for name, value in (("memory.swap.max", "0"), ("pids.max", str(MOST_PROCESSES))):
        with contextlib.suppress(OSError):  # not every kernel has them
            _write(folder / name, value)


def _bound_cpu(folder: Path, kind: Kind, cpu: float) -> None:
    quota = max(1000, round(cpu * _PERIOD_US)) if 0 < cpu < (os.cpu_count() or 1) else 0
    if kind == "cgroup-v1":
        _write(folder / "cpu.cfs_period_us", str(_PERIOD_US))
        _write(folder / "cpu.cfs_quota_us", str(quota or -1))
    else:
        _write(folder / "cpu.max", f"{quota or 'max'} {_PERIOD_US}")


def _write(file: Path, text: str) -> None:
    file.write_text(text, encoding="ascii")
