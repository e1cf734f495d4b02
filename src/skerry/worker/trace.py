"""What a worker is doing right now, in a mapped file that outlives it: who hung or killed it can be named.

Layout: u64 counter, u16 length, then `kind\\tpipeline\\tfirst\\tlast` in UTF-8. The page cache keeps it over its death.
"""

import mmap
import os
import struct
from pathlib import Path

import msgspec

from skerry.pipeline import Trace

_SIZE = 4096
_HEAD = struct.Struct("<QH")
_ROOM = _SIZE - _HEAD.size


class FileTrace(Trace):
    """Notes into the file, about a microsecond each."""

    def __init__(self, path: Path) -> None:
        descriptor = os.open(path, os.O_RDWR | os.O_CREAT, 0o600)
        try:
            os.ftruncate(descriptor, _SIZE)
            self._map = mmap.mmap(descriptor, _SIZE)
        finally:
            os.close(descriptor)
        # goes on counting where the life before this one stopped: who reads can tell the two apart
        self._count: int = _HEAD.unpack_from(self._map)[0]
        self.idle()

    def messages(self, pipeline: str, first: int, last: int) -> None:
        self._note(f"messages\t{pipeline}\t{first}\t{last}")

    def windows(self, pipeline: str, first: str, last: str) -> None:
        self._note(f"windows\t{pipeline}\t{first}\t{last}")

    def idle(self) -> None:
        self._note("idle\t\t\t")

    def _note(self, text: str) -> None:
        data = text.encode()[:_ROOM]
        self._count += 1
        self._map[_HEAD.size : _HEAD.size + len(data)] = data
        _HEAD.pack_into(self._map, 0, self._count, len(data))


class Doing(msgspec.Struct):
    """What the file says: `kind` is messages, windows or idle; first and last are sequences or window names."""

    counter: int
    kind: str
    pipeline: str
    first: str
    last: str

    @property
    def single(self) -> str:
        """The one message or window, where it was only one; else empty."""
        return self.first if self.first == self.last else ""


def read_trace(path: Path) -> Doing | None:
    """What a worker is or was doing; None where there is no such file."""
    try:
        data = path.read_bytes()
    except OSError:
        return None
    if len(data) < _HEAD.size:
        return None
    counter, length = _HEAD.unpack_from(data)
    parts = data[_HEAD.size : _HEAD.size + length].decode(errors="replace").split("\t")
    return Doing(counter, *parts) if len(parts) == 4 else None
