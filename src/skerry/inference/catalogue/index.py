"""The index of the catalogue on disk: read whole, replaced whole, and a lock for who writes."""

import contextlib
import fcntl
import os
import time
from collections.abc import Iterator
from pathlib import Path

import msgspec

from skerry.core.errors import CorruptError, InsufficientResources, UnavailableError
from skerry.core.files import sync_names
from skerry.inference.catalogue.version import FORMAT, Index

_LOCK_WAIT_S = 10.0


class IndexFile:
    """`index.json` in a directory; an empty index where there is none."""

    def __init__(self, directory: Path) -> None:
        self._directory = directory

    def read(self) -> Index:
        """The index as it is on the disk. Raises `CorruptError`."""
        path = self._directory / "index.json"
        try:
            index = msgspec.json.decode(path.read_bytes(), type=Index)
        except FileNotFoundError:
            return Index()
        except (msgspec.DecodeError, UnicodeDecodeError) as error:
            raise CorruptError(
                f"is not what was written: {error}",
                where=str(path),
                mend="move it away and add the models again; blobs/ has the files",
            ) from error
        if index.format != FORMAT:
            raise CorruptError(
                f"has format {index.format}, this skerry reads {FORMAT}", where=str(path), mend="use the skerry that wrote it"
            )
        return index

    def write(self, index: Index) -> None:
        """Put an index in place; only while `writing`. Raises `InsufficientResources`."""
        path = self._directory / "index.json"
        part = path.with_suffix(".part")
        try:
            with part.open("wb") as file:
                file.write(msgspec.json.format(msgspec.json.encode(index), indent=1))
                file.flush()
                os.fsync(file.fileno())
            part.replace(path)
            sync_names(self._directory)
        except OSError as error:
            raise InsufficientResources(
                f"cannot be written: {error.strerror}", where=str(path), mend="make room and try again"
            ) from error

    @contextlib.contextmanager
    def writing(self) -> Iterator[Index]:
        """The index, under the lock; the kernel lets it go when its holder dies."""
        with locked(self._directory):
            yield self.read()


@contextlib.contextmanager
def locked(directory: Path) -> Iterator[None]:
    """Hold the lock of a catalogue. Raises `UnavailableError` where another has it for long, `OSError`."""
    directory.mkdir(parents=True, exist_ok=True)
    descriptor = os.open(directory / "lock", os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
    until = time.monotonic() + _LOCK_WAIT_S
    try:
        while True:
            try:
                fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
                break
            except BlockingIOError as error:
                if time.monotonic() > until:
                    raise UnavailableError(
                        "another skerry is writing the catalogue", where=str(directory), mend="try again"
                    ) from error
                time.sleep(0.02)
        yield
    finally:
        os.close(descriptor)
