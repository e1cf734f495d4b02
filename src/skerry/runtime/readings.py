"""Live readings of this computer: CPU, memory, disk and network, as differences between two calls."""

from collections.abc import Callable

import msgspec
import psutil

_MIB = 1024.0 * 1024.0


class Counters(msgspec.Struct, frozen=True):
    """What the kernel has counted up to one time: CPU seconds of all cores, bytes of disks and of the network."""

    at: float
    cpu_busy_s: float
    cpu_total_s: float
    disk_bytes: int
    network_bytes: int


class ComputerReadings:
    """Readings of this computer.

    Args:
        monotonic: where seconds come from, such as `clock.monotonic`.
    """

    def __init__(self, monotonic: Callable[[], float]) -> None:
        self._monotonic = monotonic
        self._before = read_counters(monotonic())
        self._last = {"cpu": 0.0, "disk": 0.0, "network": 0.0}

    def read(self) -> dict[str, float]:
        """What has happened since the last call (the first: since construction).

        Returns:
            `cpu` (% of all cores), `memory` (% used), `disk` (MiB/s read and written), `network` (MiB/s in and out,
            without loopback). What this system does not count (disks in some containers) is 0. Takes about 0.5 ms.
        """
        now = read_counters(self._monotonic())
        self._last = rates(self._before, now, self._last)
        self._before = now
        return {"cpu": self._last["cpu"], "memory": float(psutil.virtual_memory().percent), **self._last}


def rates(before: Counters, now: Counters, last: dict[str, float]) -> dict[str, float]:
    """Shares and rates between two counts; where a clock stood still, the last ones. Counters that went back give 0."""
    cpu_s, wall_s = now.cpu_total_s - before.cpu_total_s, now.at - before.at
    busy = 100.0 * (now.cpu_busy_s - before.cpu_busy_s) / cpu_s if cpu_s > 0 else last["cpu"]

    def per_second(count: int, name: str) -> float:
        return max(0, count) / _MIB / wall_s if wall_s > 0 else last[name]

    return {
        "cpu": min(100.0, max(0.0, busy)),
        "disk": per_second(now.disk_bytes - before.disk_bytes, "disk"),
        "network": per_second(now.network_bytes - before.network_bytes, "network"),
    }


def read_counters(at: float) -> Counters:
    """The kernel's counters now; `at` is the monotonic time to write on them."""
    cpu = psutil.cpu_times()
    fields = cpu._asdict()
    # guest time is part of user time where it is counted
    total = sum(fields.values()) - fields.get("guest", 0.0) - fields.get("guest_nice", 0.0)
    idle = fields["idle"] + fields.get("iowait", 0.0)
    return Counters(at, total - idle, total, _disk_bytes(), network_bytes())


def busy_seconds() -> float:
    """CPU seconds that all cores together have worked since the machine started."""
    return read_counters(0.0).cpu_busy_s


def _disk_bytes() -> int:
    try:
        disk = psutil.disk_io_counters()
    except (OSError, RuntimeError, NotImplementedError):
        return 0
    return int(disk.read_bytes + disk.write_bytes) if disk else 0


def network_bytes() -> int:
    try:
        cards = psutil.net_io_counters(pernic=True)
    except (OSError, RuntimeError, NotImplementedError):
        return 0
    # loopback carries the node's own traffic, which is no work of the network
    return sum(int(card.bytes_sent + card.bytes_recv) for name, card in cards.items() if not name.startswith("lo"))
