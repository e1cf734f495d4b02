"""Which members there were, kept on disk: what a node says of its cluster before it hears of anybody, and whom it asks."""

from pathlib import Path

import msgspec

from skerry.cluster import EdgeNode
from skerry.core.errors import UnavailableError
from skerry.core.files import replace_synced

KNOWN = "members.json"


def read_known(folder: Path) -> tuple[EdgeNode, ...]:
    """What is kept; nothing where that cannot be read: it is heard of again."""
    try:
        return msgspec.json.decode((folder / KNOWN).read_bytes(), type=tuple[EdgeNode, ...])
    except (OSError, msgspec.MsgspecError):
        return ()


def write_known(folder: Path, members: tuple[EdgeNode, ...]) -> None:
    """Keep it. Raises `UnavailableError`."""
    try:
        replace_synced(folder / KNOWN, msgspec.json.encode(members))
    except OSError as error:
        raise UnavailableError(f"cannot be written: {error.strerror}", where=str(folder / KNOWN)) from error
