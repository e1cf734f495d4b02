"""Envelopes as files in a directory: for a USB stick, a share, or a diode."""

import asyncio
import contextlib
import errno
import os
from pathlib import Path

from skerry.core.errors import UnavailableError
from skerry.core.files import sync_names
from skerry.uplink.envelope import read_header
from skerry.uplink.targets.target import Place

SUFFIX = ".skup"
_WORDS = {errno.ENOSPC: "the disk is full", errno.EROFS: "it cannot be written", errno.ENOENT: "it is not there"}


def name_of(envelope: bytes) -> str:
    """The file of an envelope: in the order of their names the files of one lane are in the order of their items."""
    header = read_header(envelope)
    return f"{header.node}-{header.epoch}-{header.lane}-{header.first:012d}-{header.last:012d}{SUFFIX}"


class FileTarget:
    """Writes each envelope as a file of its own: synced under another name, then renamed, so that no file is ever half there.

    The directory is not made: a stick that is not plugged in must not fill the disk below its mount point.
    """

    def __init__(self, place: Place) -> None:
        self.where = place.url
        self._directory = Path(place.url.removeprefix("file://"))

    async def send(self, envelope: bytes) -> None:
        writing = asyncio.create_task(asyncio.to_thread(self._write, envelope))
        try:
            await asyncio.shield(writing)
        except asyncio.CancelledError:
            await asyncio.wait([writing])
            raise

    def _write(self, envelope: bytes) -> None:
        final = self._directory / name_of(envelope)
        temporary = final.with_suffix(".part")
        try:
            with temporary.open("wb") as file:
                file.write(envelope)
                file.flush()
                os.fsync(file.fileno())
            temporary.replace(final)
            sync_names(self._directory)
        except OSError as error:
            with contextlib.suppress(OSError):
                temporary.unlink(missing_ok=True)
            why = _WORDS.get(error.errno or 0, (error.strerror or str(error)).lower())
            raise UnavailableError(
                f"no envelope can be written: {why}", where=self.where, mend="plug in the stick, or make room"
            ) from error

    async def close(self) -> None:
        """Nothing is open."""
