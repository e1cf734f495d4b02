"""Who is at the other end of a connection: an address, or a process of a user that the kernel names."""

import asyncio
import socket
import struct

from skerry.http.messages import UNIX

_CREDENTIALS = struct.Struct("3i")  # pid, uid, gid: unix(7), SO_PEERCRED


def remote_of(transport: asyncio.BaseTransport | None) -> str:
    """The peer's address, or `unix`; empty where it went before that could be told.

    `unix` opens every door, so nothing but a Unix socket that is there may be called so."""
    own = None if transport is None else transport.get_extra_info("socket")
    if transport is None or own is None:
        return ""
    if own.family == socket.AF_UNIX:
        return UNIX
    peer = transport.get_extra_info("peername")
    return str(peer[0]) if isinstance(peer, tuple) else ""


def user_of(transport: asyncio.BaseTransport) -> str:
    """`unix:<uid>` of the process that connected, or `unix` where this system does not say."""
    peer, option = transport.get_extra_info("socket"), getattr(socket, "SO_PEERCRED", None)
    if peer is None or option is None:
        return "unix"
    try:
        _, uid, _ = _CREDENTIALS.unpack(peer.getsockopt(socket.SOL_SOCKET, option, _CREDENTIALS.size))
    except OSError:
        return "unix"
    return f"unix:{uid}"
