"""The key-value store on this machine's disk, and the packed form of sensor readings."""

from pathlib import Path
from typing import TYPE_CHECKING

from skerry.core.lazy import lazy
from skerry.store.config import StorageConfig

if TYPE_CHECKING:
    from skerry.store.blocking import SyncKeyValueStore
    from skerry.store.columns import Floats, Ints, Summary, pack, pack_table, summary, unpack, unpack_table
    from skerry.store.history import Archive, Keep
    from skerry.store.key_value import KeyValueStore
    from skerry.store.named import NamedValues

# the agent needs the store's names only, and numpy is 16 MB of memory
__getattr__ = lazy(
    __name__,
    {
        "Archive": "history",
        "Floats": "columns",
        "Ints": "columns",
        "Keep": "history",
        "KeyValueStore": "key_value",
        "NamedValues": "named",
        "Summary": "columns",
        "SyncKeyValueStore": "blocking",
        "pack": "columns",
        "pack_table": "columns",
        "summary": "columns",
        "unpack": "columns",
        "unpack_table": "columns",
    },
)

__all__ = [
    "Archive", "Floats", "Ints", "Keep", "KeyValueStore", "NamedValues", "StorageConfig", "Summary", "SyncKeyValueStore", "pack",
    "pack_table", "repair", "summary", "unpack", "unpack_table",
]  # fmt: skip


def repair(config: StorageConfig, into: Path) -> int:
    """See `skerry.store.salvage.repair`."""
    from skerry.store.salvage import repair as save  # late: it brings the engine

    return save(config, into)
