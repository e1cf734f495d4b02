"""A copy of the catalogue as it is at one moment, by hard links: an index, and all the files that it names."""

import os
from pathlib import Path

from skerry.inference.catalogue.index import locked


def copy_catalogue(directory: Path, into: Path) -> None:
    """Link index and files of `models` into a new directory on the same disk, while nobody writes.

    Raises `UnavailableError` where another goes on writing, `OSError`.
    """
    (into / "blobs").mkdir(parents=True, mode=0o700)
    with locked(directory):
        if (directory / "index.json").exists():
            os.link(directory / "index.json", into / "index.json")
        if (directory / "blobs").is_dir():
            for file in (directory / "blobs").iterdir():
                if not file.name.startswith("."):
                    os.link(file, into / "blobs" / file.name)
