"""Says when a network comes up, or an address or a route is there: then it is worth trying at once (Linux rtnetlink(7))."""

import asyncio
import socket
import struct
from collections.abc import Callable

from skerry.core import log

_NETLINK, _ROUTE = 16, 0
# RTMGRP_LINK, RTMGRP_IPV4_IFADDR, RTMGRP_IPV4_ROUTE, RTMGRP_IPV6_IFADDR, RTMGRP_IPV6_ROUTE
_GROUPS = 0x1 | 0x10 | 0x40 | 0x100 | 0x400
_NEWS = frozenset({16, 20, 24})
"""RTM_NEWLINK, RTM_NEWADDR, RTM_NEWROUTE."""
_READ = 64 * 1024
_log = log.get("uplink")


def has_news(data: bytes) -> bool:
    """Whether one of the messages of a netlink read says that something came: `nlmsghdr` is length, type, flags, sequence, port."""
    at = 0
    while at + 16 <= len(data):
        length, kind = struct.unpack_from("=IH", data, at)
        if kind in _NEWS:
            return True
        if length < 16:
            return False
        at += (length + 3) & ~3
    return False


async def watch(changed: Callable[[], None]) -> None:
    """Call `changed` whenever that happens, until cancelled. Where the system does not tell, nothing happens."""
    try:
        sock = socket.socket(_NETLINK, socket.SOCK_RAW | socket.SOCK_CLOEXEC, _ROUTE)
    except OSError as error:
        _log.debug(f"this system does not tell when the network comes back: {error}")
        await asyncio.Event().wait()
        return
    with sock:
        sock.setblocking(False)
        sock.bind((0, _GROUPS))
        while True:
            try:
                data = await asyncio.get_running_loop().sock_recv(sock, _READ)
            except OSError:  # more news than the buffer holds is news as well
                changed()
                await asyncio.sleep(1.0)
                continue
            if has_news(data):
                changed()
