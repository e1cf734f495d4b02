"""The active bundle over skerry.toml: its tables take the place of those of the same name."""

from pathlib import Path
from typing import TYPE_CHECKING, Any

from skerry.core.settings import Tables

if TYPE_CHECKING:
    from skerry.bundle.manifest import Manifest

BUNDLES = "bundles"
"""Directory in the data directory."""
NONE = ""
"""Instead of a bundle's id: skerry.toml alone."""
_KEYS = {"models": ("name", "version"), "pipelines": ("name",), "connectors": ("name",)}
"""By what a table of the file is known to be the one that a table of the bundle replaces."""


def lay_over(tables: Tables, data_dir: Path, wanted: str | None = None) -> str:
    """Lay a bundle of a node over the tables of its file; which one that is, for people, or an empty string.

    Args:
        wanted: an id, `NONE`, or None for the active one.

    The origin of each table is `tables.origins["pipelines[3]"]`. Raises `CorruptError`.
    """
    directory = data_dir / BUNDLES
    if wanted == NONE or (wanted is None and not (directory / "state.json").exists()):
        return ""
    from skerry.bundle.shelf import Shelf  # late: most nodes have no bundle, and every command reads the configuration

    shelf = Shelf(directory)
    named = shelf.read().active if wanted is None else wanted
    if not named:
        return ""
    manifest = shelf.manifest(named)
    title = f"bundle {manifest.title} ({named[:12]})"
    merge(tables, manifest, shelf.folder(named), title)
    return title


def merge(tables: Tables, manifest: "Manifest", folder: Path, title: str) -> None:
    """The same for a manifest whose models lie below a directory. Pure but for changing `tables`."""
    for kind, keys in _KEYS.items():
        mine: list[dict[str, Any]] = getattr(manifest, kind)
        if kind == "models":
            mine = [{**table, "file": str(folder / table["file"])} for table in mine]
        given = tables.values.get(kind, [])
        if not mine or not isinstance(given, list):  # what is no list is refused in a sentence where it is read
            continue
        names = {_name(table, keys) for table in mine}
        kept = [table for table in given if not (isinstance(table, dict) and _name(table, keys) in names)]
        tables.values[kind] = [*kept, *mine]
        for at in range(len(kept), len(kept) + len(mine)):
            tables.origins[f"{kind}[{at}]"] = title


def _name(table: dict[str, Any], keys: tuple[str, ...]) -> tuple[str, ...]:
    return tuple(str(table.get(key, "1")) for key in keys)  # a model's version is "1" where it says none
