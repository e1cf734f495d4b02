"""A copy of the catalogue as it is at one moment, by hard links: an index, and all the files that it names."""

import fcntl
import os
from pathlib import Path


def copy_catalogue(directory: Path, into: Path) -> None:
    """Link index and files of `models` into a new directory on the same disk, while nobody writes. Raises `OSError`."""
    (into / "blobs").mkdir(parents=True, mode=0o700)
    descriptor = os.open(directory / "lock", os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX)
        if (directory / "index.json").exists():
            os.link(directory / "index.json", into / "index.json")
        if (directory / "blobs").is_dir():
            for file in (directory / "blobs").iterdir():
                if not file.name.startswith("."):
                    os.link(file, into / "blobs" / file.name)
    finally:
        os.close(descriptor)
