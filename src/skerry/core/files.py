"""Files that are there whole or not at all, over a power cut too."""

import contextlib
import os
from pathlib import Path


def replace_synced(path: Path, content: bytes) -> None:
    """Put a file of mode 0600 in place of what was there; its name is durable after `sync_names`. Raises `OSError`."""
    temporary = path.with_name(f".{path.name}.new")
    try:
        temporary.unlink(missing_ok=True)  # of a crash, or a link that somebody put there
        with os.fdopen(os.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "wb") as file:
            file.write(content)
            file.flush()
            os.fsync(file.fileno())
        temporary.replace(path)
    except OSError:
        with contextlib.suppress(OSError):
            temporary.unlink()
        raise


def sync_names(directory: Path) -> None:
    """Make what was made, renamed and removed in a directory durable. Raises `OSError`."""
    descriptor = os.open(directory, os.O_RDONLY | os.O_CLOEXEC)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
