"""TCP ports: one that is free, and whose one is that is not."""

import errno
import random
import socket
from pathlib import Path

import psutil

from skerry.core.errors import UnavailableError

_KERNELS_OWN = Path("/proc/sys/net/ipv4/ip_local_port_range")
_LOWEST = 10_000  # below it are the ports that programs are known by
_TRIES = 200


def can_listen(host: str, port: int) -> OSError | None:
    """None when a program could listen there now, else what the kernel says."""
    try:
        with socket.socket(_family(host), socket.SOCK_STREAM) as probe:
            probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            probe.bind((host, port))
    except OSError as error:
        return error
    return None


def free_ports(host: str, before: list[int], apart_from: tuple[int, ...] = ()) -> list[int]:
    """As many different ports of a host as were asked for: each as it was before (0: none) where that is still free.

    A new one is no port that the kernel gives to outgoing connections: between this call and the listening, and while the
    listener is down, one of those could take it. Raises `UnavailableError`."""
    found: list[int] = []
    for port in before:
        if not port or port in found or port in apart_from or can_listen(host, port) is not None:
            port = _one_free(host, {*found, *before, *apart_from})
        found.append(port)
    return found


def _one_free(host: str, apart_from: set[int]) -> int:
    first = _first_of_the_kernel()
    for _ in range(_TRIES if first > _LOWEST else 0):
        port = random.randrange(_LOWEST, first)
        if port in apart_from:
            continue
        error = can_listen(host, port)
        if error is None:
            return port
        if error.errno != errno.EADDRINUSE:
            raise UnavailableError(f"no port is free on {host}: {error.strerror or error}") from error
    while True:
        try:
            with socket.create_server((host, 0), family=_family(host)) as probe:
                port = int(probe.getsockname()[1])
        except OSError as error:
            raise UnavailableError(f"no port is free on {host}: {error.strerror or error}") from error
        if port not in apart_from:
            return port


def _first_of_the_kernel() -> int:
    """The lowest port that the kernel gives out by itself; 0 where it does not say."""
    try:
        return int(_KERNELS_OWN.read_text(encoding="ascii").split()[0])
    except (OSError, ValueError, IndexError):
        return 0


def _family(host: str) -> socket.AddressFamily:
    return socket.AF_INET6 if ":" in host else socket.AF_INET


def listener_of(port: int) -> str:
    """`name (pid n)` of the process that listens on a port; empty when there is none, or it is another user's."""
    try:
        for found in psutil.net_connections(kind="tcp"):
            if found.status == psutil.CONN_LISTEN and found.laddr.port == port and found.pid:
                return f"{psutil.Process(found.pid).name()} (pid {found.pid})"
    except (psutil.Error, OSError):
        return ""
    return ""
