"""Which pipelines are paused: kept on the disk over restarts, and the same on all nodes of a cluster."""

import asyncio
from collections.abc import Awaitable, Callable, Iterable
from pathlib import Path

import msgspec

from skerry.core.errors import CorruptError, UnavailableError


class Paused:
    """Names of paused pipelines; a part of what is mirrored (`skerry.node.cluster.mirror.Part`).

    Args:
        file: where they are kept.
        given: those that the configuration pauses.
        tell: called with a name and whether it is paused now, to make it so.
    """

    key = "paused"

    def __init__(self, file: Path, given: Iterable[str], tell: Callable[[str, bool], Awaitable[None]]) -> None:
        self.names = _read(file) | set(given)
        self._file = file
        self._tell = tell

    async def set(self, name: str, paused: bool) -> None:
        """Pause or resume one. Raises `UnavailableError` when it cannot be kept."""
        (self.names.add if paused else self.names.discard)(name)
        await asyncio.to_thread(_write, self._file, sorted(self.names))
        await self._tell(name, paused)

    async def read(self) -> bytes | None:
        return msgspec.json.encode(sorted(self.names))

    async def give(self, data: bytes) -> None:
        """Nothing else is needed."""

    async def given(self, data: bytes) -> None:
        """Nothing is left over."""

    async def take(self, data: bytes) -> None:
        try:
            wanted = set(msgspec.json.decode(data, type=list[str]))
        except msgspec.MsgspecError as error:
            raise CorruptError(f"what is paused elsewhere cannot be read: {error}") from error
        for name in sorted(self.names ^ wanted):
            await self.set(name, name in wanted)


def _read(path: Path) -> set[str]:
    try:
        return set(msgspec.json.decode(path.read_bytes(), type=list[str]))
    except (OSError, msgspec.MsgspecError):
        return set()


def _write(path: Path, names: list[str]) -> None:
    temporary = path.with_suffix(".new")
    try:
        temporary.write_bytes(msgspec.json.encode(names))
        temporary.replace(path)
    except OSError as error:
        raise UnavailableError(f"cannot be written: {error.strerror}", where=str(path), mend="make room on the disk") from error
