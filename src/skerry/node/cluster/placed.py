"""The cluster's records at the nats-server that keeps them now: it may listen elsewhere later, and become one of three."""

from collections.abc import Callable

import msgspec

from skerry.cluster import Entry, JetStreamLeases
from skerry.core.errors import UnavailableError


class RecordsPlace(msgspec.Struct, frozen=True):
    """Where records are kept. `replicas`: servers that keep each."""

    addresses: tuple[tuple[str, int], ...]
    user: str
    password: str
    replicas: int = 1

    def __repr__(self) -> str:
        return f"RecordsPlace(addresses={self.addresses!r}, replicas={self.replicas!r})"


class PlacedLeases:
    """`Leases` at a place that is asked for each time; None: there is none now. Connects anew where it has changed."""

    def __init__(self, place: Callable[[], RecordsPlace | None]) -> None:
        self._place = place
        self._last: RecordsPlace | None = None
        self._leases: JetStreamLeases | None = None

    async def read(self, after: int) -> dict[str, Entry]:
        return await (await self._here()).read(after)

    async def write(self, key: str, value: bytes, revision: int) -> int:
        return await (await self._here()).write(key, value, revision)

    async def close(self) -> None:
        leases, self._leases, self._last = self._leases, None, None
        if leases is not None:
            await leases.close()

    async def _here(self) -> JetStreamLeases:
        place = self._place()
        if place is None:
            raise UnavailableError("the broker is not there", where="cluster")
        if self._leases is None or place != self._last:
            await self.close()
            self._last = place
            self._leases = JetStreamLeases(place.addresses, place.user, place.password, place.replicas)
        return self._leases
