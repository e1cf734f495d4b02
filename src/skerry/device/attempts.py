"""Failed log-ins of the last minute, by source and by device: who failed too often is answered later. Pure.

Only refusals are held up. A correct credential is never slowed down or refused for what others have tried.
"""

import ipaddress
from collections import OrderedDict

FREE = 20
"""Failures a minute that cost nothing."""
PER_S = FREE / 60
STEP_S, MOST_S = 0.1, 1.0
CEILING = 60.0
MOST = 8192


class Attempts:
    """Counts that leak away, twenty a minute; one for each source and one for each device, the least used forgotten first."""

    def __init__(self, most: int = MOST) -> None:
        self._sources: OrderedDict[str, tuple[float, float]] = OrderedDict()
        self._devices: OrderedDict[str, tuple[float, float]] = OrderedDict()
        self._most = most

    def fail(self, source: str, device: str, now: float) -> float:
        """Count one failure; seconds that its answer shall take. `now`: monotonic seconds."""
        return max(self._add(self._sources, network(source), now), self._add(self._devices, device[:64], now))

    def _add(self, counts: OrderedDict[str, tuple[float, float]], name: str, now: float) -> float:
        level, then = counts.pop(name, (0.0, now))
        level = min(CEILING, max(0.0, level - (now - then) * PER_S) + 1)
        counts[name] = level, now
        if len(counts) > self._most:
            counts.popitem(last=False)
        return min(MOST_S, max(0.0, level - FREE) * STEP_S)


def network(source: str) -> str:
    """What counts as one source: an IPv4 address, or the /64 that one customer of IPv6 has to himself."""
    try:
        address = ipaddress.ip_address(source.partition("%")[0])
    except ValueError:
        return source[:64]
    if isinstance(address, ipaddress.IPv4Address):
        return str(address)
    if address.ipv4_mapped is not None:
        return str(address.ipv4_mapped)
    return str(ipaddress.IPv6Network((address, 64), strict=False))
