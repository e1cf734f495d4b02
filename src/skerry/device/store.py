"""Where devices are kept when there is no node: in memory, or in one file; both behind `skerry.core.ports.KeyValue`."""

import asyncio
from pathlib import Path

import msgspec

from skerry.core.errors import CorruptError, UnavailableError
from skerry.core.files import replace_synced, sync_names


class MemoryStore:
    """Keeps its values as long as it lives."""

    def __init__(self) -> None:
        self._values: dict[str, bytes] = {}

    async def get(self, key: str) -> bytes | None:
        return self._values.get(key)

    async def set(self, key: str, value: bytes) -> None:
        self._values[key] = value

    async def delete(self, key: str) -> None:
        self._values.pop(key, None)

    async def items(self, prefix: str = "") -> list[tuple[str, bytes]]:
        return sorted(item for item in self._values.items() if item[0].startswith(prefix))


class FileStore:
    """All values in one JSON file (0600), written whole and synced to the disk with each change; for one process at a time.

    Read once, at the first use. Raises `CorruptError` for a file that holds something else, which is left as it is, and
    `UnavailableError` when it cannot be read or written; a change that could not be written has not happened."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._values: dict[str, bytes] | None = None
        self._changing = asyncio.Lock()

    async def get(self, key: str) -> bytes | None:
        return (await self._loaded()).get(key)

    async def set(self, key: str, value: bytes) -> None:
        async with self._changing:
            await self._write({**await self._loaded(), key: value})

    async def delete(self, key: str) -> None:
        async with self._changing:
            values = dict(await self._loaded())
            if values.pop(key, None) is not None:
                await self._write(values)

    async def items(self, prefix: str = "") -> list[tuple[str, bytes]]:
        return sorted(item for item in (await self._loaded()).items() if item[0].startswith(prefix))

    async def _loaded(self) -> dict[str, bytes]:
        if self._values is None:
            self._values = await asyncio.to_thread(self._read)
        return self._values

    def _read(self) -> dict[str, bytes]:
        try:
            return msgspec.json.decode(self._path.read_bytes(), type=dict[str, bytes])
        except FileNotFoundError:
            return {}
        except OSError as error:
            raise UnavailableError(f"cannot be read: {error.strerror}", where=str(self._path)) from error
        except msgspec.MsgspecError as error:
            raise CorruptError("holds no devices; it was kept as it is", where=str(self._path), mend="restore it") from error

    async def _write(self, values: dict[str, bytes]) -> None:
        # shielded: what was begun is finished, so that memory and file say the same
        await asyncio.shield(asyncio.to_thread(self._write_whole, values))
        self._values = values

    def _write_whole(self, values: dict[str, bytes]) -> None:
        try:
            self._path.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
            replace_synced(self._path, msgspec.json.encode(values))
            sync_names(self._path.parent)
        except OSError as error:
            raise UnavailableError(
                f"cannot be written: {error.strerror}", where=str(self._path), mend="make room on the disk"
            ) from error
