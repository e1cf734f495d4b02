"""The names by which this machine may be called."""

import ipaddress
import socket

import psutil

from skerry.runtime import machine_names


def test_names_come_first_and_loopback_is_among_them() -> None:
    found = machine_names()
    assert found[0] == (socket.gethostname().lower() or "localhost")
    assert found[1] == f"{found[0].partition('.')[0]}.local"
    assert {"localhost", "127.0.0.1", "::1"} <= set(found)


def test_each_is_there_once_and_fits_into_a_certificate() -> None:
    found = machine_names()
    assert len(found) == len(set(found)) <= 64
    assert all(0 < len(name) <= 64 for name in found)


def test_all_addresses_of_ipv4_and_those_of_ipv6_that_are_good_without_an_interface() -> None:
    addresses = {name for name in machine_names() if ":" in name or name.replace(".", "").isdigit()}
    own = [each for interface in psutil.net_if_addrs().values() for each in interface]
    assert {each.address for each in own if each.family == socket.AF_INET} <= addresses
    assert not any(ipaddress.ip_address(each).is_link_local for each in addresses if ":" in each)
    assert not any("%" in each for each in addresses)
