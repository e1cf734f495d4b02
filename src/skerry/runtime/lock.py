"""One process a data directory: a lock that the kernel lets go when its holder dies."""

import fcntl
import os
from pathlib import Path

from skerry.core.errors import UnavailableError


class DirectoryLock:
    """An exclusive lock on a directory, held until `release` or the end of the process."""

    def __init__(self, directory: Path) -> None:
        self._path = directory / "lock"
        self._descriptor = -1

    def take(self) -> None:
        """Take it. Raises `UnavailableError` naming the pid that holds it."""
        descriptor = os.open(self._path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError as error:
            holder = os.pread(descriptor, 32, 0).decode(errors="replace").strip() or "unknown"
            os.close(descriptor)
            raise UnavailableError(
                f"is in use by another skerry (pid {holder})",
                where=str(self._path.parent),
                mend="stop it, or give this node a data_dir of its own",
            ) from error
        os.ftruncate(descriptor, 0)
        os.pwrite(descriptor, str(os.getpid()).encode(), 0)
        self._descriptor = descriptor

    def release(self) -> None:
        """Let it go."""
        if self._descriptor >= 0:
            os.close(self._descriptor)
            self._descriptor = -1
