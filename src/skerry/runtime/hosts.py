"""Whether a host name or a `Host` header can mean this machine: what holds a web page of elsewhere off. Pure."""

import ipaddress
from functools import lru_cache
from urllib.parse import urlsplit

FORWARDED = frozenset({"forwarded", "via", "x-forwarded-for", "x-forwarded-host", "x-forwarded-proto", "x-real-ip"})
"""Headers, in lower case, of a request that came through a proxy: its sender is not who asks."""


@lru_cache(maxsize=1024)
def is_loopback(host: str) -> bool:
    """Whether a host name or address can mean this machine only."""
    if host.lower() == "localhost":
        return True
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return False


@lru_cache(maxsize=256)
def means_us(host: str, names: frozenset[str], beyond: bool) -> bool:
    """Whether a `Host` names this machine; remembered, since all but all requests bear the same few.

    An address cannot be pointed elsewhere: who listens beyond loopback (`beyond`) may be meant by any, seen from a container or
    through a router. `names`: host names in lower case, beside those of loopback.
    """
    try:
        name = (urlsplit(f"//{host}").hostname or "").rstrip(".")
    except ValueError:
        return False
    return is_loopback(name) or name in names or (beyond and _is_address(name))


def _is_address(name: str) -> bool:
    try:
        ipaddress.ip_address(name)
    except ValueError:
        return False
    return True
