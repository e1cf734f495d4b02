"""What a node does while a backup is made of it: it keeps the log whole, and copies what only it may open.

The copies are hard links and cost next to nothing; who makes the backup reads them, and the streams of the broker, and says when it
is done. One that never says so (it was killed) holds the log for a quarter of an hour at most, or until the next backup.
"""

import asyncio
import shutil
from pathlib import Path
from typing import TYPE_CHECKING, Any

from skerry.core import log
from skerry.core.clock import Clock
from skerry.core.errors import CorruptError, RejectedError, UnavailableError
from skerry.runtime import DirectoryLock

if TYPE_CHECKING:
    from skerry.node.life import Node

COPIES = "backup"
"""Directory in the data directory that copies are in while a backup is made."""
RESTORING = "restoring"
"""File in the data directory while a backup is being restored into it."""
HOLD_S = 900.0
START_S = 10.0
_log = log.get("backup")


class NodeBackup:
    """`begin`, then the streams and the copies are read by somebody else, then `end`."""

    def __init__(self, node: "Node", clock: Clock) -> None:
        self._node = node
        self._clock = clock
        self._place = node.config.data_dir / COPIES
        self._began: float | None = None
        self._changing = asyncio.Lock()
        _remove(self._place)

    @property
    def under_way(self) -> bool:
        """Whether copies are held now: what is deleted gives no room back."""
        return self._began is not None and self._clock.monotonic() - self._began < HOLD_S

    async def begin(self) -> dict[str, Any]:
        """Stop trimming, and copy store and history: `place`, `copied` and the `seconds` that the log is held for.

        Raises `RejectedError` while another backup is under way, `UnavailableError` where something cannot be copied now."""
        node = self._node
        async with self._changing:
            now = self._clock.monotonic()
            if self._began is not None and self.under_way and (now - self._began < START_S or self._is_read()):
                raise RejectedError("a backup is being made already", mend=f"wait for it, {HOLD_S / 60:.0f} minutes at most")
            if node.link.client is None:
                raise UnavailableError("the broker is not there now", mend="try again in a moment, or stop the node first")
            self._began = now
            node.link.hold(HOLD_S)
            try:
                await asyncio.to_thread(_renew, self._place)
                copied = await self._copy()
            except BaseException:
                await self._end()
                raise
        _log.info("a backup is being made")
        return {"place": str(self._place), "copied": copied, "seconds": HOLD_S}

    def _is_read(self) -> bool:
        """Whether who makes the backup lives: it holds a lock on the copies."""
        lock = DirectoryLock(self._place)
        try:
            lock.take()
        except (OSError, UnavailableError):
            return True
        lock.release()
        return False

    async def _copy(self) -> list[str]:
        node, copied = self._node, []
        # before the streams: what the history's cursors stand at must still be in them
        if node.history.assignment is not None:
            await node.history.order(copy=str(self._place / "history"))
            copied.append("history")
        if node.config.store_path.exists():
            await (await node.storage.store()).backup(self._place / "store")
            copied.append("store")
        return copied

    async def end(self) -> None:
        """The copies may go, and the log may be trimmed."""
        async with self._changing:
            await self._end()

    async def _end(self) -> None:
        self._began = None
        self._node.link.hold(0)
        await asyncio.to_thread(_remove, self._place)


def refuse_half_restored(data_dir: Path) -> None:
    """Raise `CorruptError` where a restore into the directory was not finished."""
    if (data_dir / RESTORING).exists():
        raise CorruptError(
            "a backup is being restored here, or that was not finished", where=str(data_dir),
            mend="wait for it, or run `skerry backup restore` again",
        )  # fmt: skip


def _renew(place: Path) -> None:
    _remove(place)
    place.mkdir(mode=0o700)


def _remove(place: Path) -> None:
    shutil.rmtree(place, ignore_errors=True)
