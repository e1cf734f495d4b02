"""Ports of the machine."""

import errno
import os
import socket
from collections.abc import Iterator
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from skerry.core.errors import UnavailableError
from skerry.runtime import can_listen, free_ports, listener_of


@pytest.fixture
def taken() -> Iterator[int]:
    """A port of 127.0.0.1 that this process listens on."""
    with socket.create_server(("127.0.0.1", 0)) as server:
        yield server.getsockname()[1]


def test_a_free_port_can_be_listened_on(free_port: int) -> None:
    assert can_listen("127.0.0.1", free_port) is None
    assert listener_of(free_port) == ""


def test_a_taken_port_says_by_whom(taken: int) -> None:
    for host in ("127.0.0.1", "0.0.0.0"):
        error = can_listen(host, taken)
        assert error is not None
        assert error.errno == errno.EADDRINUSE
    assert listener_of(taken).endswith(f"(pid {os.getpid()})")


@pytest.mark.parametrize("host", ["192.0.2.1", "no.such.host.invalid"])
def test_a_host_of_others_cannot_be_listened_on(host: str) -> None:
    assert can_listen(host, 0) is not None
    with pytest.raises(UnavailableError, match="no port is free on"):
        free_ports(host, [0])


def test_ports_stay_while_they_are_free(taken: int, free_port: int) -> None:
    first, second, third = free_ports("127.0.0.1", [taken, free_port, free_port])
    assert second == free_port
    assert len({first, second, third, taken}) == 4


@settings(max_examples=20, deadline=None)
@given(st.integers(1, 8))
def test_new_ports_differ(count: int) -> None:
    found = free_ports("127.0.0.1", [0] * count)
    assert len(set(found)) == count
    assert free_ports("127.0.0.1", found) == found


def test_new_ports_are_none_that_outgoing_connections_get() -> None:
    span = Path("/proc/sys/net/ipv4/ip_local_port_range")
    if not span.exists():
        pytest.skip("optional: this kernel does not say which ports it gives out")
    first = int(span.read_text().split()[0])
    if first <= 10_000:
        pytest.skip("optional: the kernel gives out all ports here")
    assert all(1024 < port < first for port in free_ports("127.0.0.1", [0] * 50))


def test_ports_stay_apart_from_others(free_port: int) -> None:
    (found,) = free_ports("127.0.0.1", [free_port], (free_port,))
    assert found != free_port
