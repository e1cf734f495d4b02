"""The uptime ledger: a small file that says when this node did its work and when not and why, so that it survives any death."""

import asyncio
import os
from collections.abc import Callable, Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any

import msgspec

from skerry.core.clock import SECOND, Clock, to_rfc3339
from skerry.core.service import beat

BEAT_S = 5.0
LOOK_S = 0.5
STILL_S = 30.0
"""A node that did not look at itself for so long stood still."""
MOST_GAPS = 1000
BOOT_ID = Path("/proc/sys/kernel/random/boot_id")
CHANGE_S, EXPECTED_S = 25.0, 30.0
"""How long a change that somebody wanted may take while the node counts as working, and when a gap that begins is still planned."""
STOPPED = "it was stopped"
KILLED = "the node was killed or ended by itself"
POWERED_OFF = "the machine went down without stopping the node"
STOOD_STILL = "the node stood still"


class Gap(msgspec.Struct):
    """A time without work: microseconds since the epoch, and why."""

    begin: int
    end: int
    planned: bool
    reason: str


class _Record(msgspec.Struct):
    """Microseconds: first ready ever (0: never), last sign of life, time up in all; how many starts.

    Attributes:
        gap: the one that is under way.
        since: gaps are complete from then on; the oldest go.
        stopped: why it was ended, where it could still say so; empty while it runs.
        planned: somebody wanted that.
        boot: the kernel's name of the boot that the last sign of life was in.
    """

    first: int = 0
    last: int = 0
    up: int = 0
    starts: int = 0
    gap: Gap | None = None
    gaps: list[Gap] = []
    since: int = 0
    stopped: str = ""
    planned: bool = False
    boot: str = ""


class UptimeLedger:
    """Time up over time since the node was first ready. It is up while it is ready: devices may connect, all workers read.

    Args:
        still_s: what is longer between two beats was no time up.
        boot: file that names the running boot.
    """

    def __init__(self, path: Path, clock: Clock, still_s: float = STILL_S, boot: Path = BOOT_ID) -> None:
        self._path = path
        self._clock = clock
        self._still_s = still_s
        self._record = record = _read(path)
        now, this_boot = clock.now(), _boot(boot)
        if record.first:
            if now < record.last:  # set back while the node was down: for how long it was cannot be known
                self._shift(now - record.last)
            self._close(record.last)
            off = record.boot and this_boot and record.boot != this_boot
            why = record.stopped or (POWERED_OFF if off else KILLED)
            record.gap = Gap(record.last, now, record.planned, why)
        record.last, record.stopped, record.planned, record.boot = now, "", False, this_boot
        record.starts += 1
        self._beat = clock.monotonic()
        self._expected = ("", 0.0)
        self.keep()

    async def run(self, ready: Callable[[], tuple[bool, str]]) -> None:
        """Look twice a second whether the node does its work, and keep the file, until cancelled."""
        written, before = -BEAT_S, False
        while True:
            now_ready, reason = ready()
            self.note(now_ready, reason)
            if now_ready != before or self._beat - written >= BEAT_S:
                before, written = now_ready, self._beat
                # the disk may take its time over a sync, and the event loop must not
                await asyncio.to_thread(_store, self._path, msgspec.json.encode(self._record))
            await beat(LOOK_S)

    def note(self, ready: bool, reason: str = "") -> None:
        """Note whether the node works now, and why not. A wall clock that was set counts as no time at all."""
        record, now, mono = self._record, self._clock.now(), self._clock.monotonic()
        lived = round((mono - self._beat) * 1e6)
        self._beat = mono
        if not record.first:
            record.last = now
            if ready:
                record.first = record.since = now
            return
        self._shift(now - record.last - lived)
        if record.gap is None and lived > self._still_s * SECOND:
            self._add(Gap(record.last, now, False, STOOD_STILL))
        elif record.gap is None:
            record.up += lived
        record.last = now
        if ready:
            self._close(now)
        elif record.gap is None:
            why, until = self._expected
            planned = bool(why) and mono < until
            record.gap = Gap(now, now, planned, why if planned else reason)
        else:
            record.gap.end = now

    def expect(self, reason: str) -> None:
        """What begins within the next seconds was wanted: the node stops working for a moment because somebody changed it."""
        self._expected = (reason, self._clock.monotonic() + EXPECTED_S)

    @property
    def changing(self) -> str:
        """What somebody changes at this moment; empty while nobody does, or when it takes longer than it should."""
        why, until = self._expected
        return why if why and self._clock.monotonic() < until - EXPECTED_S + CHANGE_S else ""

    def stop(self, failure: str = "") -> None:
        """Note the end of this life: in order, or by a failure of the node's own."""
        self.note(self._record.gap is None)
        self._record.stopped, self._record.planned = failure or STOPPED, not failure
        self.keep()

    @property
    def starts(self) -> int:
        return self._record.starts

    @property
    def ratio(self) -> float:
        """1.0 for a node that was never down, or never ready yet."""
        whole = self._record.last - self._record.first
        return min(1.0, self._record.up / whole) if self._record.first and whole > 0 else 1.0

    def report(self, over_us: int = 0) -> dict[str, Any]:
        """The last so many microseconds (0: all that is known of): seconds up, down as planned and not, and every gap."""
        record = self._record
        end = record.last
        begin = max(record.since, end - over_us) if over_us else record.since
        begin = begin if record.first else end
        known = [*record.gaps, *([record.gap] if record.gap else [])]
        within = [(gap, max(gap.begin, begin)) for gap in known if gap.end > begin]
        down = {planned: sum(gap.end - since for gap, since in within if gap.planned is planned) / 1e6 for planned in (True, False)}
        total = (end - begin) / 1e6
        up = max(0.0, total - down[True] - down[False])
        return {
            "since": to_rfc3339(begin),
            "until": to_rfc3339(end),
            "ratio": round(up / total, 6) if total > 0 else 1.0,
            "up_s": round(up, 3),
            "planned_s": round(down[True], 3),
            "unplanned_s": round(down[False], 3),
            "starts": record.starts,
            "gaps": [_row(gap, since, over=gap is not record.gap) for gap, since in within],
        }

    def _shift(self, by: int) -> None:
        """What the clock was set by is no time. Times of gaps move only with real steps, not with what two clocks differ by."""
        record = self._record
        record.first += by
        record.last += by
        if abs(by) > SECOND:
            record.since += by
            for gap in [*record.gaps, *([record.gap] if record.gap else [])]:
                gap.begin += by
                gap.end += by

    def _close(self, now: int) -> None:
        gap, self._record.gap = self._record.gap, None
        if gap is not None:
            gap.end = now
            self._add(gap)

    def _add(self, gap: Gap) -> None:
        gaps = self._record.gaps
        if gap.end > gap.begin:
            gaps.append(gap)
        while len(gaps) > MOST_GAPS:
            self._record.since = gaps.pop(0).end

    def keep(self) -> None:
        """Write it down."""
        _store(self._path, msgspec.json.encode(self._record))


def failure_of(tasks: "Sequence[asyncio.Task[None]]") -> str:
    """What one of them failed of; empty where none did."""
    failures = [task.exception() for task in tasks if task.done() and not task.cancelled()]
    return next((str(each) or type(each).__name__ for each in failures if each is not None), "")


def _row(gap: Gap, since: int, over: bool) -> dict[str, Any]:
    """What a report says of a gap, from a time on."""
    return {
        "begin": to_rfc3339(since),
        "end": to_rfc3339(gap.end),
        "seconds": round((gap.end - since) / 1e6, 3),
        "planned": gap.planned,
        "reason": gap.reason,
        "over": over,
    }


def _read(path: Path) -> _Record:
    try:
        record = msgspec.json.decode(path.read_bytes(), type=_Record)
    except (OSError, msgspec.MsgspecError):
        return _Record()
    if record.last < record.first:
        return _Record()
    record.since = record.since or record.last  # one of a version that kept no gaps
    return record


def _store(path: Path, data: bytes) -> None:
    """Whole or not at all, also over a power cut. A disk that is full now may have room later; the node lives either way."""
    temporary = path.with_suffix(".new")
    with suppress(OSError):
        with temporary.open("wb") as file:
            file.write(data)
            file.flush()
            os.fsync(file.fileno())
        temporary.replace(path)


def _boot(file: Path) -> str:
    try:
        return file.read_text(encoding="ascii").strip()
    except (OSError, UnicodeDecodeError):
        return ""
