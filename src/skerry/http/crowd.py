"""How many connections one address holds, so that none can take them all."""

import asyncio
from collections.abc import Iterable
from typing import Protocol


class Connected(Protocol):
    """A connection of the library: its transport is None when it has ended."""

    transport: asyncio.Transport | None


def held_by(remote: str, own: Iterable[str], library: Iterable[Connected]) -> int:
    """How many connections an address has.

    Args:
        own: the addresses of those that are ours still.
        library: those that were handed over.
    """
    return sum(each == remote for each in own) + sum(_address(each.transport) == remote for each in library)


def _address(transport: asyncio.Transport | None) -> str:
    peer = None if transport is None else transport.get_extra_info("peername")
    return str(peer[0]) if isinstance(peer, tuple) else ""
