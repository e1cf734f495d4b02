"""The node's share of the disk: how much each part takes, and what is done when the quota or the disk runs short.

`quota.py` decides; here sizes are measured, the historian is told what to give up, files go, the log is shut and opened, and a
reserve is kept: a file that is given up when the disk is full to the last byte, so that pipelines can still store how far they are.
"""

import asyncio
import contextlib
import os
import shutil
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

from skerry.config import NodeConfig
from skerry.core import log
from skerry.core.clock import Clock
from skerry.core.errors import SkerryError
from skerry.core.service import beat, cancel_and_wait
from skerry.core.units import parse_size, show_size
from skerry.node.backup import COPIES
from skerry.node.cluster import common_bytes
from skerry.node.link import quotas
from skerry.node.quota import STEPS, Bounds, State, bounds_of, decide, room_of, sentence, spend
from skerry.node.uplink import uplink_bytes

if TYPE_CHECKING:
    from skerry.node.life import Node

Row = dict[str, Any]
LOOK_S = 1.0
MEASURE_EVERY = 5
"""Looks at the free disk between two looks at every file."""
TOLD_S = 60.0
AGAIN_S = 600.0
"""After so long a step that gave nothing is tried again: by then more is old."""
RESERVE, OTHER = "reserve", "other"
LOGS = 64 * 1024 * 1024
_log = log.get("disk")


class Part(NamedTuple):
    """Something that a node keeps: where, how much of it at most (0: only the quota bounds it), and what happens then."""

    name: str
    path: Path
    limit: int
    full: str


def parts_of(config: NodeConfig) -> list[Part]:
    """All parts. What lies in the data directory and in none of them counts as `other`."""
    data = config.data_dir
    log_limit = quotas(parse_size(config.broker.retention.size), uplink_bytes(config) + common_bytes(config))
    return [
        Part("log", data / "broker", log_limit, "devices get no acknowledgement and keep their messages"),
        Part("store", config.store_path, parse_size(config.storage.max_size), "what is to be set is refused"),
        Part("history", config.history_path, parse_size(config.history.max_size), "its oldest raw samples go"),
        Part("models", data / "models", 0, "versions that nothing uses go"),
        Part("logs", data / "logs", LOGS, "the oldest lines go"),
        Part(RESERVE, data / RESERVE, 0, "given up for checkpoints when the disk is full"),
    ]


def measure(data_dir: Path, parts: Sequence[Part]) -> dict[str, int]:
    """Bytes that the disk holds for each part, and for the rest of the data directory.

    Copies that a backup has linked count once: as what they were copied from while that is there."""
    seen: set[tuple[int, int]] = set()
    sizes = dict.fromkeys([part.name for part in parts] + [OTHER], 0)
    roots = [data_dir, *(part.path for part in parts if not part.path.is_relative_to(data_dir))]
    for root in roots:
        for folder, folders, files in os.walk(root):
            folders.sort(key=lambda name: name == COPIES)
            mine = next((part.name for part in parts if Path(folder).is_relative_to(part.path)), "")
            for name in files:
                with contextlib.suppress(OSError):
                    found = Path(folder, name).lstat()
                    if found.st_nlink > 1:
                        if (found.st_dev, found.st_ino) in seen:
                            continue
                        seen.add((found.st_dev, found.st_ino))
                    part = mine or (RESERVE if folder == str(data_dir) and name == RESERVE else OTHER)
                    sizes[part] += found.st_blocks * 512
    return sizes


class Reserve:
    """A file that takes its room from the disk until somebody needs it."""

    def __init__(self, path: Path, size: int) -> None:
        self._path = path
        self._size = size

    @property
    def there(self) -> bool:
        """Whether it is there, as large as it should be."""
        try:
            return self._path.stat().st_size == self._size
        except OSError:
            return False

    def drop(self) -> bool:
        """Give its room back; False when it was gone already."""
        was = self.there
        with contextlib.suppress(OSError):
            self._path.unlink(missing_ok=True)
        return was

    def keep(self) -> None:
        """Make it where the disk has room for twice as much. Raises `OSError`."""
        if self.there or shutil.disk_usage(self._path.parent).free < 2 * self._size:
            return
        temporary = self._path.with_suffix(".new")
        try:
            descriptor = os.open(temporary, os.O_CREAT | os.O_WRONLY | os.O_TRUNC, 0o600)
            try:
                os.posix_fallocate(descriptor, 0, self._size)
            finally:
                os.close(descriptor)
            temporary.replace(self._path)
        except OSError:
            temporary.unlink(missing_ok=True)
            raise


class NodeDisk:
    """Measures, decides and acts; a service.

    Attributes:
        sizes: bytes by part, as of some seconds ago.
        given_up: bytes that went, by step, since the start.
    """

    def __init__(self, node: "Node", clock: Clock) -> None:
        data = node.config.data_dir
        self.sizes: dict[str, int] = {}
        self.given_up = dict.fromkeys(STEPS, 0)
        self.state = State()
        self._node = node
        self._clock = clock
        self._parts = parts_of(node.config)
        self._data = data
        usage = shutil.disk_usage(data)
        self._free = usage.free
        self.bounds: Bounds = bounds_of(parse_size(node.config.resources.disk), usage.total)
        self._reserve = Reserve(data / RESERVE, self.bounds.reserve)
        self._told_at = -TOLD_S
        self._spent_at = 0.0
        self._unkept = False
        self._giving: asyncio.Task[None] | None = None

    @property
    def used(self) -> int:
        """Bytes of all parts."""
        return sum(self.sizes.values())

    async def run(self) -> None:
        """Watch the disk until cancelled."""
        looks = 0
        try:
            while True:
                if looks % MEASURE_EVERY == 0:
                    self.sizes = await asyncio.to_thread(measure, self._data, self._parts)
                looks += 1
                self._look()
                await beat(LOOK_S)
        finally:
            if self._giving is not None:
                await cancel_and_wait(self._giving)

    def _look(self) -> None:
        giving = self._giving is not None and not self._giving.done()
        self._free = shutil.disk_usage(self._data).free
        if self._free < self.bounds.edge // 2 and self._reserve.drop():
            _log.warning(f"the disk is full: the reserve of {show_size(self.bounds.reserve)} was given up for checkpoints")
            self._free = shutil.disk_usage(self._data).free
        before = self.state
        if before.spent and self._clock.monotonic() - self._spent_at > AGAIN_S:
            before = before._replace(spent=frozenset())
        room = room_of(self.bounds, self.used, self._free, self._reserve.there)
        self.state, step, size = decide(before, room, self.bounds.slack)
        if self._node.backup.under_way:
            # its copies hold what is deleted: giving up more would give no room
            self.state, step = self.state._replace(shut=self.state.shut or room < 0), ""
        if self.state.shut != before.shut:
            _log.warning(f"the log is {'shut' if self.state.shut else 'open again'}: {self._words}")
        self._node.link.shut(self.state.shut)
        if step and not giving:
            # beside the looks: it may take a minute, and the reserve must not wait for it
            self._giving = asyncio.create_task(self._give_up(step, size))
        elif not (self.state.acting or giving):
            self._keep_reserve()

    def _keep_reserve(self) -> None:
        try:
            self._reserve.keep()
            self._unkept = False
        except OSError as error:
            if not self._unkept:
                _log.warning(f"the reserve on the disk cannot be made: {error.strerror}")
            self._unkept = True

    async def _give_up(self, step: str, size: int) -> None:
        before = self.sizes.get("history", 0)
        try:
            freed = await self._take(step, size)
        except (SkerryError, OSError) as error:
            _log.warning(f"{step} cannot be given up now: {error}")
            freed = 0
        if not freed:
            if self.state.acting:
                self.state, self._spent_at = spend(self.state, step), self._clock.monotonic()
            return
        self.given_up[step] += freed
        now = self._clock.monotonic()
        if now - self._told_at >= TOLD_S:
            self._told_at = now
            _log.warning(f"{show_size(freed)} of {step} were given up: {self._words}")
        self.sizes = await asyncio.to_thread(measure, self._data, self._parts)
        if "history" in step and before - self.sizes["history"] < freed // 4:
            # deleted, and the room is not there: more of it must not go for nothing
            self.state, self._spent_at = spend(self.state, step), now

    async def _take(self, step: str, size: int) -> int:
        """About so many bytes of a step; what went."""
        node = self._node
        if step in ("raw history", "minutes of history"):
            if node.history.assignment is None:
                return 0
            return await node.history.order(give_up=size, levels=["raw" if step == "raw history" else "minutes"])
        if step == "old models":
            before = self.sizes.get("models", 0)
            await node.models.give_up()
            return max(0, before - (await asyncio.to_thread(measure, self._data, self._parts))["models"])
        return await asyncio.to_thread(_drop, list(_rotated(self._data)), size)

    @property
    def _words(self) -> str:
        return sentence(self.bounds, self.used, self._free, self.state)

    def status(self) -> Row:
        """The sentence, the numbers, and a row a part."""
        rows = [
            {"name": part.name, "bytes": self.sizes.get(part.name, 0), "limit": part.limit or None, "when_full": part.full}
            for part in self._parts
        ]
        return {
            "sentence": self._words,
            "bytes": self.sizes,
            "limit": self.bounds.limit,
            "free": self._free,
            "reserve": self.bounds.reserve if self._reserve.there else 0,
            "parts": [*rows, {"name": OTHER, "bytes": self.sizes.get(OTHER, 0), "limit": None, "when_full": ""}],
            "short": self.state.acting,
            "shut": self.state.shut,
            "given_up": dict(self.given_up),
        }

    def warnings(self) -> list[str]:
        """What a person should look at."""
        found = []
        if self.state.shut:
            found.append(f"the disk is short and devices get no acknowledgement: {self._words}; make room, or raise resources.disk")
        gone = ", ".join(f"{show_size(size)} of {step}" for step, size in self.given_up.items() if size)
        if gone:
            found.append(f"the disk was short: {gone} were given up")
        return found


def _rotated(data: Path) -> Iterator[Path]:
    """Old log files, the oldest first; the audit log is not among them."""
    found = [*(data / "logs").glob("skerry.log.*"), *(data / "broker" / "log").glob("nats.log.*")]
    with contextlib.suppress(FileNotFoundError):
        yield from sorted(found, key=lambda path: path.stat().st_mtime)


def _drop(paths: Sequence[Path], size: int) -> int:
    freed = 0
    for path in paths:
        if freed >= size:
            break
        freed += path.stat().st_blocks * 512
        path.unlink()
    return freed
