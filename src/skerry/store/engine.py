"""The seam under the store: what keeps sorted keys. RocksDB (`rocks.py`) or, without a disk, a dictionary (`memory.py`)."""

from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import NamedTuple, Protocol

from skerry.core.errors import UnavailableError


class Change(NamedTuple):
    """One put, or one delete where `data` is None."""

    table: str
    key: bytes
    data: bytes | None


class DiskFull(UnavailableError):
    """The disk has no room; what is asked for may do when there is some."""


class View(Protocol):
    """What can be read of an engine."""

    def get(self, table: str, key: bytes) -> bytes | None:
        """The bytes of a key, or None; None too in a table that is not there."""
        ...

    def scan(self, table: str, begin: bytes, end: bytes) -> Iterator[tuple[bytes, bytes]]:
        """Keys from `begin` up to but without `end` (empty: to the last) in order, as they stood at the call."""
        ...

    def end(self) -> None:
        """Let go of what it holds."""
        ...


class Engine(View, Protocol):
    """Sorted keys in named tables. Used by one writing thread and any number of reading ones.

    Every call raises `UnavailableError` when the disk does not do its part and `CorruptError` for what it did not write.
    """

    def tables(self) -> list[str]:
        """Names of the tables there are."""
        ...

    def ensure(self, table: str) -> None:
        """Make the table if it is not there."""
        ...

    def view(self) -> View:
        """All tables as they stand now, whatever is written later."""
        ...

    def write(self, changes: Sequence[Change]) -> None:
        """All or nothing; visible at once, on the disk after `sync`."""
        ...

    def sync(self) -> None:
        """What was written survives a power cut when this returns."""
        ...

    def size(self) -> int:
        """Bytes on the disk."""
        ...

    def compact(self) -> None:
        """Give the room of what was deleted back to the disk."""
        ...

    def copy(self, directory: Path) -> None:
        """A consistent copy in a new directory."""
        ...
