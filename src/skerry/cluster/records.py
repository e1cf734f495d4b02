"""What a cluster keeps in its replicated bucket: members, the leader's office, the plan, and marks of people. Pure.

Each key is written by compare-and-set only. A member's own record is written by the member, and once more by who fences it: from
then on the member's renewals are refused. The plan names generations, so that a node that comes back holds nothing of before.
"""

import re
from collections.abc import Mapping
from typing import Literal, TypeVar

import msgspec

from skerry.core.errors import ConfigError, CorruptError
from skerry.runtime import ResourceUsage

T = TypeVar("T")
MOST_MEMBERS = 128
MOST_PARTITIONS = 4096
MEMBER, MARK = "member.", "mark."
LEADER, PLAN, WISH = "leader", "plan", "wish"
Role = Literal["node", "witness"]
_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9_-]{0,62}")


class Entry(msgspec.Struct, frozen=True, gc=False):
    """A value as it was read, and the revision that a write has to name."""

    value: bytes
    revision: int


class Put(msgspec.Struct, frozen=True):
    """A write: only if the key still has this revision (0: there is none)."""

    key: str
    value: bytes
    revision: int
    began: float


class Partition(msgspec.Struct, frozen=True):
    """A share of a pipeline's work: it runs on one node, one that has these capabilities and room for these resources."""

    name: str
    capabilities: tuple[str, ...] = ()
    resources: ResourceUsage = ResourceUsage()


class Member(msgspec.Struct, frozen=True, omit_defaults=True):
    """A node's own record, renewed with each heartbeat.

    Attributes:
        instance: made once a data directory: two nodes of one name differ in it.
        generation: grows by one each time the node comes anew, and when it is fenced.
        started: microseconds since the epoch.
        holds: partitions that it runs, or has not yet stopped.
        seen: version of the plan that it follows.
        by: who fenced or removed it.
        role: a witness keeps log and records with the others; it neither runs work nor leads.
    """

    id: str
    instance: str
    generation: int
    state: Literal["joining", "online", "left", "fenced", "removed"] = "joining"
    address: str = ""
    site: str = ""
    version: str = ""
    started: int = 0
    capabilities: tuple[str, ...] = ()
    resources: ResourceUsage = ResourceUsage()
    holds: tuple[str, ...] = ()
    seen: int = 0
    by: str = ""
    role: Role = "node"


class Office(msgspec.Struct, frozen=True):
    """Who leads: a node in one generation, or nobody. The epoch grows with each leader."""

    holder: str
    generation: int
    epoch: int


class Part(msgspec.Struct, frozen=True, omit_defaults=True):
    """Where one partition runs. `to`: where it goes when the node says that it has stopped it, having seen version `since`."""

    node: str
    generation: int
    to: str = ""
    since: int = 0


class Plan(msgspec.Struct, frozen=True, omit_defaults=True):
    """Where all partitions run. `epoch`: of the leader that wrote it."""

    version: int = 0
    epoch: int = 0
    parts: dict[str, Part] = {}


class Mark(msgspec.Struct, frozen=True):
    """What a person wants of a node."""

    maintenance: bool = False


class Wish(msgspec.Struct, frozen=True):
    """A person wants another to lead than who does in this epoch."""

    epoch: int = 0


def encode(record: msgspec.Struct) -> bytes:
    """A record as it is kept."""
    return msgspec.json.encode(record)


def decode(kind: type[T], entry: Entry | None, key: str) -> T | None:
    """The record of an entry; None where there is none. Raises `CorruptError` for what no skerry wrote."""
    if entry is None or not entry.value:
        return None
    try:
        return msgspec.json.decode(entry.value, type=kind)
    except (msgspec.DecodeError, msgspec.ValidationError) as error:
        raise CorruptError(
            f"is not what a node writes: {error}", where=f"cluster key {key}", mend="is a newer node there?"
        ) from error


def members_of(entries: Mapping[str, Entry]) -> dict[str, Member]:
    """All member records of a read."""
    found = {}
    for key, entry in entries.items():
        if key.startswith(MEMBER):
            member = decode(Member, entry, key)
            if member is not None:
                found[member.id] = member
    return found


def check_name(name: str) -> str:
    """The name, if a node may be called so. Raises `ConfigError`."""
    if _NAME.fullmatch(name) is None:
        raise ConfigError(f"{name!r} is no name for a node", where="node", allowed="1 to 63 letters, digits, - and _")
    return name
