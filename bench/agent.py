"""`skerry run` with a probe in its event loop.

`python -m bench.agent CONFIG LAGS`: at SIGUSR1 the lags since the last time are written to the file LAGS:
each in seconds, and what is left of it without the time in which its thread could have run and no core was free.
"""

import asyncio
import signal
import sys
import time
from pathlib import Path

import msgspec

from skerry.config import load
from skerry.core import log
from skerry.node import Node
from skerry.node.process import serve

EVERY_S = 0.005
_STATS = Path("/proc/thread-self/schedstat")


def core_wait() -> float:
    """Seconds that this thread could have run and had no core, since it began; 0 where the kernel does not count them."""
    try:
        return int(_STATS.read_text(encoding="ascii").split()[1]) / 1e9
    except (OSError, IndexError):
        return 0.0


class Probe:
    """Asks to be woken every five milliseconds, and notes how late that happens."""

    def __init__(self, file: Path) -> None:
        self._file = file
        self._lags: list[tuple[float, float]] = []

    def begin(self, node: Node) -> None:
        """On the node's loop, once it is ready."""
        self._loop = asyncio.get_running_loop()
        self._loop.add_signal_handler(signal.SIGUSR1, self._write)
        self._wait()

    def _wait(self) -> None:
        due = time.monotonic() + EVERY_S
        self._loop.call_later(EVERY_S, self._note, due, core_wait())

    def _note(self, due: float, waited: float) -> None:
        lag = max(0.0, time.monotonic() - due)
        self._lags.append((lag, max(0.0, lag - (core_wait() - waited))))
        self._wait()

    def _write(self) -> None:
        new = self._file.with_suffix(".new")
        new.write_bytes(msgspec.json.encode(self._lags))
        new.replace(self._file)
        self._lags = []


if __name__ == "__main__":
    log.configure("info")
    sys.exit(serve(load(Path(sys.argv[1])), Probe(Path(sys.argv[2])).begin))
