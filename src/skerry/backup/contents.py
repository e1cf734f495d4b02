"""What goes into a backup, by its place in the data directory. Pure."""

from collections.abc import Iterable
from pathlib import PurePosixPath

from skerry.node import COPIES, RESTORING

SKIPPED = frozenset({"run", "lock", "skerry.sock", COPIES, RESTORING, "reserve"})
"""What a node makes again, or what is of one machine's moment."""
APART = frozenset({"history", "models", "broker"})
"""What is copied in a way of its own while a node runs."""
_PASSING = (".new", ".part")


def is_secret(path: str) -> bool:
    """Whether a file of the data directory is one that nobody else may have: private keys, passwords, tokens."""
    at = PurePosixPath(path)
    return (
        at.parts[0] == "keys"
        or not {".key", ".seed"}.isdisjoint(at.suffixes)  # drafts of such files too
        or path in ("broker/kept.json", "cluster/joined.json")
        or at.name.startswith("tokens")
    )


_SERVERS = (("servers.json",), ("saved",), ("copy",), ("copy.new",))


def is_kept(path: str) -> bool:
    """Whether a file of the data directory belongs into a backup (secrets too)."""
    at = PurePosixPath(path)
    if at.parts[0] in SKIPPED or at.suffix in _PASSING:
        return False
    if at.parts[0] == "logs":
        return at.name.startswith("audit")
    if at.parts[0] == "broker":
        return at.parts[1] == "jetstream" or is_secret(path)
    if at.parts[0] == "cluster" and at.parts[1:2] in _SERVERS:
        return False  # which servers are one now: what is restored is a node alone
    if at.parts[0] == "models":
        return at.name == "index.json" or at.parts[1:2] == ("blobs",)
    return not (at.parts[0] == "history" and is_engines(path))


def is_engines(path: str) -> bool:
    """Whether a file of a store is its engine's own, and made again: locks, ballast, the engine's log."""
    name = PurePosixPath(path).name
    return name in ("lock", "LOCK", "ballast") or name == "LOG" or name.startswith("LOG.")


def stream_order(names: Iterable[str], log: str) -> list[str]:
    """The order that streams are copied in: what holds cursors before what they point into, the log last of all.

    So each cursor finds what it points at, since nothing is trimmed meanwhile."""

    def rank(name: str) -> int:
        if name == log:
            return 9
        return 0 if name.startswith("KV_") else 1 if name.startswith("$MQTT") else 5

    return sorted(names, key=lambda name: (rank(name), name))
