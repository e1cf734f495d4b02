"""How often one source may ask: token buckets in a bounded table. Pure but for the clock that is given."""

import ipaddress
from collections import OrderedDict
from functools import lru_cache

from skerry.core.clock import Clock

MOST_SOURCES = 4_096
_SITE_BITS = 64


class Buckets:
    """A bucket a source: `burst` requests at once, `rate` a second after that.

    Of `most` sources at a time; the one that has been silent longest is forgotten for a new one, which gives it a full bucket.
    """

    def __init__(self, rate: float, burst: float, clock: Clock, most: int = MOST_SOURCES) -> None:
        self._rate = rate
        self._burst = burst
        self._clock = clock
        self._most = most
        self._levels: OrderedDict[str, tuple[float, float]] = OrderedDict()  # what is left, and when that was

    def __len__(self) -> int:
        return len(self._levels)

    def take(self, source: str) -> float:
        """Take one: 0.0, or the seconds after which there is one again (then nothing was taken)."""
        now = self._clock.monotonic()
        level, then = self._levels.pop(source, (self._burst, now))
        level = min(self._burst, level + (now - then) * self._rate)
        wait = 0.0 if level >= 1.0 else (1.0 - level) / self._rate
        self._levels[source] = (level if wait else level - 1.0, now)
        if len(self._levels) > self._most:
            self._levels.popitem(last=False)
        return wait


@lru_cache(maxsize=MOST_SOURCES)
def source_of(address: str) -> str:
    """What is counted as one source: an IPv4 address, or the /64 that an IPv6 address is in, since one host has all of that."""
    try:
        found = ipaddress.ip_address(address)
    except ValueError:
        return address[:64]
    if isinstance(found, ipaddress.IPv4Address):
        return str(found)
    if found.ipv4_mapped is not None:
        return str(found.ipv4_mapped)
    return str(ipaddress.ip_network((int(found), _SITE_BITS), strict=False))
