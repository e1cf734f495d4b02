"""Live usage of this process and all that it started: from a cgroup of its own where it has one, else process by process."""

import contextlib
from collections.abc import Callable
from pathlib import Path

import msgspec
import psutil

from skerry.runtime.readings import network_bytes
from skerry.runtime.resources import ResourceUsage

CGROUPS = Path("/sys/fs/cgroup")
EVERY_S = 1.0


class Tally(msgspec.Struct, frozen=True):
    """What has been counted up to one time: resident bytes now, CPU seconds a process (or of the cgroup), bytes of the network."""

    at: float
    memory: int
    cpu_s: dict[int, float]
    network: int


class UsageMeter:
    """What this process and all that it started use.

    Memory is resident memory, in a cgroup without the file cache that can go at any time; pages that processes share count in each.
    The kernel counts no network by process: it is that of all cards of this network namespace, without loopback.

    Args:
        monotonic: where seconds come from, such as `clock.monotonic`.
        disk: says the bytes on disk; without it they are 0.
        cgroup: the directory of a cgroup (version 2) that holds these processes and no others; by default it is looked for.

    Attributes:
        cpu_seconds: that were used between the first reading and the last.
    """

    def __init__(self, monotonic: Callable[[], float], disk: Callable[[], int] | None = None, cgroup: Path | None = None) -> None:
        self._monotonic = monotonic
        self._disk = disk
        self._cgroup = cgroup or own_cgroup()
        self.cpu_seconds = 0.0
        self._before = self._tally()
        self._last = ResourceUsage(memory=self._before.memory)

    @property
    def source(self) -> str:
        """`cgroup` or `processes`: where memory and CPU come from."""
        return "cgroup" if self._cgroup is not None else "processes"

    def read(self) -> ResourceUsage:
        """What is in use now; CPU and network as means since the reading before. Answers the last one within a second of it."""
        if self._monotonic() - self._before.at >= EVERY_S:
            now = self._tally()
            self._last = usage_between(self._before, now, self._disk() if self._disk is not None else 0)
            self.cpu_seconds += self._last.cpu * (now.at - self._before.at)
            self._before = now
        return self._last

    def _tally(self) -> Tally:
        at = self._monotonic()
        if self._cgroup is not None:
            try:
                return Tally(at, cgroup_memory(self._cgroup), {0: cgroup_cpu_seconds(self._cgroup)}, network_bytes())
            except (OSError, ValueError):  # the controllers have been taken away
                self._cgroup = None
        memory, cpu_s = 0, {}
        for process in family():
            try:
                with process.oneshot():
                    times = process.cpu_times()
                    memory += int(process.memory_info().rss)
                    cpu_s[process.pid] = float(times.user + times.system)
            except psutil.Error:  # it has ended
                continue
        return Tally(at, memory, cpu_s, network_bytes())


def usage_between(before: Tally, now: Tally, disk: int = 0) -> ResourceUsage:
    """Usage at the later of two tallies. A process that is new counts from its start, one that has ended no longer."""
    wall = now.at - before.at
    if wall <= 0:
        return ResourceUsage(memory=now.memory, disk=disk)
    cpu = sum(max(0.0, seconds - before.cpu_s.get(pid, 0.0)) for pid, seconds in now.cpu_s.items())
    return ResourceUsage(
        memory=now.memory, cpu=round(cpu / wall, 4), network=max(0, now.network - before.network) / wall, disk=disk
    )


def family() -> list[psutil.Process]:
    """This process and all that it started, and what those started."""
    own = psutil.Process()
    try:
        return [own, *own.children(recursive=True)]
    except psutil.Error:
        return [own]


def own_cgroup(root: Path = CGROUPS, told: Path = Path("/proc/self/cgroup")) -> Path | None:
    """The directory of this process's cgroup (version 2), if memory and CPU are counted there and nobody else is in it."""
    try:
        found = _cgroup(root, told)
        cgroup_memory(found), cgroup_cpu_seconds(found)
        members = {int(pid) for file in found.rglob("cgroup.procs") for pid in file.read_text(encoding="ascii").split()}
    except (OSError, ValueError, StopIteration):
        return None
    return found if members and members <= {process.pid for process in family()} else None


def kernel_limits(root: Path = CGROUPS, told: Path = Path("/proc/self/cgroup")) -> ResourceUsage:
    """Memory and CPU that the kernel gives this process: the least of its cgroup (version 2) and those above; 0: all there is."""
    memory, cpu = [], []
    with contextlib.suppress(OSError, StopIteration):
        folder = _cgroup(root, told)
        for each in (folder, *[above for above in folder.parents if above.is_relative_to(root)]):
            with contextlib.suppress(OSError, ValueError):
                memory.append(int((each / "memory.max").read_text(encoding="ascii")))
            with contextlib.suppress(OSError, ValueError):
                quota, period = (each / "cpu.max").read_text(encoding="ascii").split()
                cpu.append(int(quota) / int(period))
    return ResourceUsage(memory=min(memory, default=0), cpu=min(cpu, default=0))


def _cgroup(root: Path, told: Path) -> Path:
    """The directory of this process's cgroup (version 2). Raises OSError, StopIteration where it has none."""
    path = next(line[3:] for line in told.read_text(encoding="utf-8").splitlines() if line.startswith("0::"))
    return root / path.strip().lstrip("/")


def cgroup_memory(cgroup: Path) -> int:
    """Bytes in use, without the file cache that the kernel takes back first. Raises OSError, ValueError."""
    cache = _field(cgroup / "memory.stat", "inactive_file")
    return max(0, int((cgroup / "memory.current").read_text(encoding="ascii")) - cache)


def cgroup_cpu_seconds(cgroup: Path) -> float:
    """CPU seconds since the cgroup was made. Raises OSError, ValueError."""
    return _field(cgroup / "cpu.stat", "usage_usec") / 1e6


def _field(file: Path, name: str) -> int:
    for line in file.read_text(encoding="ascii").splitlines():
        key, _, value = line.partition(" ")
        if key == name:
            return int(value)
    raise ValueError(f"{file} has no {name}")
