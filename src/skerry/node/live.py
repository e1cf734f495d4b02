"""What of a configuration can change while the node runs."""

from typing import Any

import msgspec

from skerry.config import LISTS, NodeConfig
from skerry.core.settings import Tables

LIVE_KEYS = LISTS
READ_ANEW = ("bundles",)
"""Sections that are read from the file each time they are needed."""


def with_live(running: NodeConfig, fresh: NodeConfig) -> NodeConfig:
    """What runs, with the parts of another configuration that can change live."""
    live = {name: fresh.tables.values.get(name, []) for name in LIVE_KEYS}
    tables = Tables({**running.tables.values, **live}, fresh.tables.origins, fresh.tables.path)
    lists: dict[str, Any] = {name: getattr(fresh, name) for name in LIVE_KEYS}
    return msgspec.structs.replace(running, **lists, bundles=fresh.bundles, tables=tables)
