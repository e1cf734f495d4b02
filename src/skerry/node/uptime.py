"""The uptime ledger: a small file that says when this node was alive, so that its ratio survives any death."""

from contextlib import suppress
from pathlib import Path

import msgspec

from skerry.core.clock import Clock

BEAT_S = 5.0


class _Record(msgspec.Struct):
    """Microseconds: first start ever, last sign of life, time up in all; how many starts."""

    first: int
    last: int
    up: int = 0
    starts: int = 0


class UptimeLedger:
    """Time up over time since the first start. What lies between two lives counts as down."""

    def __init__(self, path: Path, clock: Clock) -> None:
        self._path = path
        self._clock = clock
        now = clock.now()
        try:
            self._record = msgspec.json.decode(path.read_bytes(), type=_Record)
        except (OSError, msgspec.MsgspecError):
            self._record = _Record(now, now)
        if now < self._record.last:
            self._record.first += now - self._record.last
        self._record.last = now
        self._record.starts += 1
        self._beat = clock.monotonic()
        self.beat()

    def beat(self) -> None:
        """Note that the node is alive; call it every few seconds. A wall clock that was set counts as no time at all."""
        now, mono = self._clock.now(), self._clock.monotonic()
        lived = round((mono - self._beat) * 1e6)
        self._record.first += now - self._record.last - lived
        self._record.up += lived
        self._record.last, self._beat = now, mono
        temporary = self._path.with_suffix(".new")
        # a disk that is full now may have room at a later beat; the node lives either way
        with suppress(OSError):
            temporary.write_bytes(msgspec.json.encode(self._record))
            temporary.replace(self._path)

    @property
    def starts(self) -> int:
        return self._record.starts

    @property
    def ratio(self) -> float:
        """1.0 for a node that was never down."""
        whole = self._record.last - self._record.first
        return min(1.0, self._record.up / whole) if whole > 0 else 1.0
