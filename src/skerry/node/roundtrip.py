"""The round trip to the centre, measured: how long a TCP connection to the uplink's host takes, from time to time."""

import asyncio
import statistics
from collections import deque
from collections.abc import Callable
from contextlib import suppress
from urllib.parse import urlsplit

from skerry.core.clock import Clock

EVERY_S = 60.0
PATIENCE_S = 10.0
KEPT = 5
_PORTS = {
    "mqtt": 1883, "mqtts": 8883, "ws": 80, "wss": 443, "http": 80, "https": 443, "nats": 4222, "tls": 4222,
}  # fmt: skip


def place_of(url: str) -> tuple[str, int] | None:
    """Host and port of an uplink's address; None for one that is no network address, such as a directory."""
    try:
        parts = urlsplit(url)
        port = parts.port or _PORTS.get(parts.scheme)
    except ValueError:
        return None
    return (parts.hostname, port) if parts.hostname and port else None


class RoundTrip:
    """A service: one connection a minute, closed as soon as it is there.

    Args:
        url: of the uplink now; empty: nothing is measured.
    """

    def __init__(self, url: Callable[[], str], clock: Clock) -> None:
        self._url = url
        self._clock = clock
        self._of = ""
        self._taken: deque[float] = deque(maxlen=KEPT)

    @property
    def milliseconds(self) -> float | None:
        """The median of the last five; None without an uplink, and while it was not reached."""
        return statistics.median(self._taken) if self._taken and self._of == self._url() else None

    async def run(self) -> None:
        """Measure every minute until cancelled."""
        while True:
            await self.measure()
            await asyncio.sleep(EVERY_S)

    async def measure(self) -> None:
        """Measure once. A host that is not reached takes what was measured before with it."""
        url = self._url()
        if url != self._of:
            self._of = url
            self._taken.clear()
        place = place_of(url)
        if place is None:
            return
        began = self._clock.monotonic()
        try:
            async with asyncio.timeout(PATIENCE_S):
                _, writer = await asyncio.open_connection(*place)
        except (OSError, TimeoutError):
            self._taken.clear()
            return
        self._taken.append(1000 * (self._clock.monotonic() - began))
        writer.close()
        with suppress(OSError):
            await writer.wait_closed()
