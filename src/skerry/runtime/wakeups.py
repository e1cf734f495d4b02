"""How often processes wake up: each time a thread of theirs is given the processor after it had nothing to do."""

import os
from collections.abc import Iterable
from pathlib import Path

PROC = Path("/proc")
_MOST = 16384  # bytes of a status file; it has less than 2,000
_MARK = b"\nvoluntary_ctxt_switches:"


class WakeupMeter:
    """Wake-ups of processes, all their threads, since they were first seen; what ends takes none of its count with it.

    Args:
        root: where the kernel shows its processes; where it does not, nothing is counted.
    """

    def __init__(self, root: Path = PROC) -> None:
        self._root = root
        self._last: dict[str, int] = {}
        self._total = 0

    def read(self, pids: Iterable[int]) -> int:
        """The count so far."""
        seen: dict[str, int] = {}
        for pid in pids:
            try:
                threads = os.listdir(f"{self._root}/{pid}/task")  # noqa: PTH208 - some 30 files at each look: a Path takes twice as long
            except OSError:
                continue
            for thread in threads:
                count = _count(f"{self._root}/{pid}/task/{thread}/status")
                if count is not None:
                    name = f"{pid}/{thread}"
                    seen[name] = count
                    self._total += max(0, count - self._last.get(name, count))
        self._last = seen
        return self._total


def _count(path: str) -> int | None:
    """The voluntary switches of a thread: it waited for something, and was woken."""
    try:
        file = os.open(path, os.O_RDONLY)
    except OSError:
        return None
    try:
        text = os.read(file, _MOST)
    except OSError:
        return None
    finally:
        os.close(file)
    _, mark, rest = text.partition(_MARK)
    return int(rest.split(None, 1)[0]) if mark else None
