"""When the queue is full: raw samples become roll-ups of a minute, those of a minute become those of an hour. Pure."""

import hashlib
from collections.abc import Sequence

import numpy as np

from skerry.core.clock import SECOND
from skerry.uplink.item import Item
from skerry.uplink.stretches import Stretches, added
from skerry.uplink.table import Rows, Table, decode_table, encode_rows

_MINUTE, _HOUR = 60, 3600
_MOST_ROWS = 4096


def thin(items: Sequence[Item]) -> list[Item]:
    """Items that say less about the same, of the same priority; those that cannot say less stay what they are.

    Raw samples of one pipeline come together in roll-ups of a minute, roll-ups of a minute in those of an hour. An item's id is
    computed from those that it stands for.
    """
    kept: list[Item] = []
    groups: dict[tuple[str, str, int, tuple[str, ...]], list[tuple[Item, Table]]] = {}
    for item in items:
        table = None if item.kind == "event" else decode_table(item.body)
        if table is None or table.width >= _HOUR:
            kept.append(item)
            continue
        groups.setdefault((item.pipeline, item.priority, table.width, table.names), []).append((item, table))
    for (_, _, width, names), found in groups.items():
        kept += _thinned([item for item, _ in found], [table for _, table in found], names, _HOUR if width else _MINUTE)
    return kept


def _thinned(items: list[Item], tables: list[Table], names: tuple[str, ...], width: int) -> list[Item]:
    rows = _coarser(tables, width) if tables[0].width else _rolled(tables, width)
    mark = hashlib.blake2b("\0".join(item.id for item in items).encode(), digest_size=8).hexdigest()
    flat = [(key, row) for key, found in rows.items() for row in found]
    made = []
    for at in range(0, len(flat), _MOST_ROWS):
        piece = flat[at : at + _MOST_ROWS]
        part: Rows = {}
        for key, row in piece:
            part.setdefault(key, []).append(row)
        newest = max(int(row[0]) for _, row in piece)
        name = f"{mark}.{at // _MOST_ROWS:x}"
        made.append(Item("rollup", items[0].priority, name, items[0].pipeline, newest, len(piece), encode_rows(part, names, width)))
    return made


def _rolled(tables: list[Table], width: int) -> Rows:
    stretches = Stretches(width * SECOND, 0)
    for table in tables:
        array = np.column_stack([table.times.astype(np.float64), *table.columns]).tolist()
        at = 0
        for key, count in zip(table.keys, table.counts, strict=True):
            for row in array[at : at + count]:
                stretches.add(key, tuple(row), 0)
            at += count
    return _joined(stretches.close())


def _coarser(tables: list[Table], width: int) -> Rows:
    found: dict[tuple[int, str], list[float]] = {}
    for table in tables:
        keys = [key for key, count in zip(table.keys, table.counts, strict=True) for _ in range(count)]
        array = np.column_stack(table.columns).tolist()
        for key, time, row in zip(keys, table.times.tolist(), array, strict=True):
            start = time // (width * SECOND) * width * SECOND
            before = found.get((start, key))
            found[start, key] = row if before is None else added(before, row)
    return _joined([{key: [(float(start), *row)]} for (start, key), row in sorted(found.items())])


def _joined(parts: list[Rows]) -> Rows:
    joined: Rows = {}
    for part in parts:
        for key, rows in part.items():
            joined.setdefault(key, []).extend(rows)
    return joined
