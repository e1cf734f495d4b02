"""TCP ports: one that is free, and whose one is that is not."""

import contextlib
import socket

import psutil

from skerry.core.errors import UnavailableError


def can_listen(host: str, port: int) -> OSError | None:
    """None when a program could listen there now, else what the kernel says."""
    try:
        with socket.socket(_family(host), socket.SOCK_STREAM) as probe:
            probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            probe.bind((host, port))
    except OSError as error:
        return error
    return None


def free_ports(host: str, before: list[int]) -> list[int]:
    """As many different ports of a host as were asked for: each as it was before (0: none) where that is still free.

    Raises `UnavailableError`."""
    found: list[int] = []
    with contextlib.ExitStack() as held:
        for port in before:
            if port and port not in found and can_listen(host, port) is None:
                found.append(port)
                continue
            try:
                # held until all are chosen, so that the kernel gives no port twice
                probe = held.enter_context(socket.create_server((host, 0), family=_family(host)))
            except OSError as error:
                raise UnavailableError(f"no port is free on {host}: {error.strerror or error}") from error
            found.append(int(probe.getsockname()[1]))
    return found


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
