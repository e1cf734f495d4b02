"""How much a store may hold: its own bound, the disk's, and a ballast that is given up when the disk is full to the last byte."""

import os
from pathlib import Path

from skerry.core.errors import StoreFull, UnavailableError
from skerry.store.config import MIB
from skerry.store.engine import Engine

LOOK_BYTES = 4 * MIB


class Room:
    """Bytes on the disk as of the last look, and what was let in since.

    Args:
        limit: bytes that the store's directory stays under.
        reserve: bytes of it that are kept for what the engine needs beside the entries: its log, files being rewritten.
    """

    def __init__(self, engine: Engine, directory: Path | None, limit: int, reserve: int, ballast: int) -> None:
        self.limit = limit
        self.deleted = False
        self.used = 0
        self._engine = engine
        self._directory = directory
        self._reserve = reserve
        self._ballast = ballast
        self._since = 0
        self._free = 0
        self.keep_ballast()
        self.look()

    def look(self) -> None:
        """Ask the disk."""
        self.used = self._engine.size() + self._ballast_size()
        self._since = 0
        self.look_at_disk()

    def look_at_disk(self) -> None:
        """See how much others have left free: once for all that is written together."""
        self._free = self._free_now()

    def admitted(self, size: int) -> None:
        """So many bytes are being written."""
        self._since += size
        self._free -= size

    def short(self, size: int) -> int:
        """By how many bytes the room falls short of `size` more; 0 or less: it is enough."""
        if self.used + self._since + size > self.limit - self._reserve or self._since > LOOK_BYTES:
            self.look()
        own = self.used + self._since + size - (self.limit - self._reserve)
        return max(own, size + self._reserve // 4 - self._free)

    def full(self, size: int, short: int) -> StoreFull:
        """What to tell who wanted to write so many bytes."""
        if size + self._reserve // 4 > self._free:
            return StoreFull(f"the disk has no room for {size} bytes more ({short} are missing)", mend="make room on it")
        held = f"{self.used} of {self.limit} bytes ({self._reserve} are kept for its own work)"
        return StoreFull(
            f"the store holds {held} and has no room for {size} more ({short} are missing)",
            mend="delete entries, or raise storage.max_size",
        )

    def _free_now(self) -> int:
        if self._directory is None:
            return self.limit
        disk = os.statvfs(self._directory)
        return disk.f_bavail * disk.f_frsize

    def _ballast_path(self) -> Path | None:
        return self._directory / "ballast" if self._directory and self._ballast else None

    def _ballast_size(self) -> int:
        path = self._ballast_path()
        return path.stat().st_blocks * 512 if path is not None and path.exists() else 0

    def drop_ballast(self) -> bool:
        """Give its room to the engine; False when it was gone already."""
        path = self._ballast_path()
        if path is None or not path.exists():
            return False
        path.unlink()
        return True

    def keep_ballast(self) -> None:
        """Make it again where the disk has room for twice as much."""
        path = self._ballast_path()
        if path is None or path.exists() or self._free_now() < 2 * self._ballast + self._reserve:
            return
        temporary = path.with_suffix(".new")
        try:
            descriptor = os.open(temporary, os.O_CREAT | os.O_WRONLY, 0o600)
            try:
                os.posix_fallocate(descriptor, 0, self._ballast)
            finally:
                os.close(descriptor)
            temporary.replace(path)
        except OSError as error:
            temporary.unlink(missing_ok=True)
            raise UnavailableError(f"the store's ballast cannot be made: {error.strerror}", where=str(path)) from error
