"""Load for this computer: one busy process for each core, for some seconds, ended early by `stop` or with its parent.

The file is also what those processes run, by its path and without the rest of the package, so that they start in a few
milliseconds: `python -I -S load.py PARENT SECONDS`.
"""

import os
import signal
import subprocess
import sys
from types import TracebackType

_NICENESS = 5


class Load:
    """Busy processes that raise the CPU of this computer to about 100 %.

    They run at a lower priority, so that what the node does goes on in time. Each ends by itself after its seconds (an
    alarm of the kernel), on `stop`, or when it sees that its parent is gone.

    Args:
        cores: how many processes; all cores that this process may use by default.
    """

    def __init__(self, cores: int | None = None) -> None:
        self.cores = cores or usable_cores()
        self._children: list[subprocess.Popen[bytes]] = []

    @property
    def running(self) -> bool:
        """Whether a busy process is there; ended ones are reaped."""
        self._children = [child for child in self._children if child.poll() is None]
        return bool(self._children)

    @property
    def pids(self) -> list[int]:
        """Process ids of the busy processes."""
        return [child.pid for child in self._children] if self.running else []

    def start(self, seconds: float) -> None:
        """Be busy for so many seconds from now on; a running load is replaced. Raises ValueError for 0 s and less."""
        if seconds <= 0:
            raise ValueError(f"{seconds} s of load")
        self.stop()
        command = [sys.executable, "-I", "-S", __file__, str(os.getpid()), str(seconds)]
        nowhere = subprocess.DEVNULL
        for _ in range(self.cores):
            self._children.append(subprocess.Popen(command, stdin=nowhere, stdout=nowhere, stderr=nowhere))

    def stop(self) -> None:
        """End the busy processes now."""
        for child in self._children:
            child.kill()
        for child in self._children:
            child.wait()
        self._children.clear()

    def __enter__(self) -> "Load":
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        self.stop()


def usable_cores() -> int:
    """Cores that this process may run on."""
    if hasattr(os, "sched_getaffinity"):
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1


def be_busy(parent: int, seconds: float) -> None:
    """Spin until the alarm ends this process or the parent is gone."""
    signal.setitimer(signal.ITIMER_REAL, seconds)
    os.nice(_NICENESS)
    # its death gives us another parent: portable, and unlike a death signal not bound to the thread that started us
    while os.getppid() == parent:
        for _ in range(100_000):
            pass


if __name__ == "__main__":
    be_busy(int(sys.argv[1]), float(sys.argv[2]))
