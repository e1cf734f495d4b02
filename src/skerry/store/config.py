"""`[storage]`, and what a store may hold."""

from pathlib import Path
from typing import Literal

import msgspec

from skerry.core.errors import ConfigError
from skerry.core.units import at_key, parse_size

MIB = 1024 * 1024
MOST_KEY = 64 * 1024
MOST_VALUE = 64 * MIB
SMALLEST = 32 * MIB


class StorageConfig(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """One store.

    Attributes:
        path: its directory, made where it is missing.
        max_size: bytes on the disk that it stays under.
        compression: of what is written from now on; what is there is rewritten as it is compacted.
        cache: bytes of blocks kept in memory for reads.
        write_buffer: bytes of writes kept in memory until they go to a file.
        evictable: tables whose oldest entries may go when there is no room.
    """

    path: str | Path = "./data/store"
    max_size: str = "2GiB"
    compression: Literal["none", "lz4", "zstd"] = "zstd"
    cache: str = "16MiB"
    write_buffer: str = "16MiB"
    evictable: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        if at_key("max_size", parse_size, self.max_size) < SMALLEST:
            raise ConfigError(f"{self.max_size} is too small", where="max_size", allowed="32MiB or more")
        for where in ("cache", "write_buffer"):
            if not MIB <= at_key(where, parse_size, getattr(self, where)) <= 1024 * MIB:
                raise ConfigError(f"{getattr(self, where)} is out of range", where=where, allowed="1MiB to 1GiB")
        if self.compression not in ("none", "lz4", "zstd"):
            raise ConfigError(f"{self.compression!r} is no compression", where="compression", allowed="none, lz4, zstd")

    @property
    def directory(self) -> Path:
        return Path(self.path)

    @property
    def max_bytes(self) -> int:
        return parse_size(self.max_size)
