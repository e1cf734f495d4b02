"""The names and addresses by which this machine may be called."""

import ipaddress
import socket

import psutil

_MOST = 64


def machine_names() -> tuple[str, ...]:
    """Host name, the same in `.local`, and the addresses of all interfaces; `localhost` and loopback too. At most 64.

    Left out are link-local IPv6 addresses, which are good only with the name of an interface.
    """
    host = socket.gethostname().lower() or "localhost"
    short = host.partition(".")[0]
    found = [host, f"{short}.local", "localhost", "127.0.0.1", "::1"]
    for addresses in psutil.net_if_addrs().values():
        for each in addresses:
            if each.family in (socket.AF_INET, socket.AF_INET6):
                address = ipaddress.ip_address(each.address.partition("%")[0])
                if not (address.version == 6 and address.is_link_local):
                    found.append(str(address))
    return tuple(dict.fromkeys(name for name in found if len(name) <= 64))[:_MOST]
