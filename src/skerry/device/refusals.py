"""What devices were refused once they were in: publishes and subscriptions, counted by device, and told in the audit log."""

import asyncio
from collections import Counter, OrderedDict
from collections.abc import Awaitable, Callable, Sequence
from typing import Any

import msgspec

from skerry.broker import Violation
from skerry.core.clock import Clock, to_rfc3339
from skerry.core.errors import UnavailableError
from skerry.device.audit import AuditLog

MOST_DEVICES = 10_000
MOST_CONNECTIONS = 4096
MOST_WAITING = 1000
TELL_S = 60.0
SHOWN = 256
KINDS = ("publish", "subscribe")
_UNKNOWN = "$unknown"
DeviceOf = Callable[[int], Awaitable[str]]
AddressOf = Callable[[str, str], str]


def _as_seen(device: str, address: str) -> str:
    return address


class _Refused(msgspec.Struct):
    """What one device was refused since the node started; by kind: the topics last refused, what the audit log was not told yet,
    and when it was told."""

    counts: dict[str, int]
    topics: dict[str, str] = {}
    last_kind: str = ""
    last_at: int = 0
    untold: dict[str, int] = {}
    told: dict[str, float] = {}
    client_id: str = ""
    address: str = ""


class Refusals:
    """Counts by device. The audit log is told of the first at once, and then once a minute, device and kind.

    Bounded: of more than `MOST_DEVICES` devices those that were refused last are kept; `totals` (by kind) goes on. `device_of`
    answers whose a connection is or was; `address_of` answers where a device is, which the server may see behind another address.
    """

    def __init__(self, clock: Clock, audit: AuditLog, device_of: DeviceOf, address_of: AddressOf = _as_seen) -> None:
        self.totals: Counter[str] = Counter(dict.fromkeys(KINDS, 0))
        self._clock = clock
        self._audit = audit
        self._device_of = device_of
        self._address_of = address_of
        self._devices: OrderedDict[str, _Refused] = OrderedDict()
        self._owners: OrderedDict[tuple[int, int], str] = OrderedDict()
        self._waiting: asyncio.Queue[Sequence[Violation]] = asyncio.Queue(MOST_WAITING)

    def note(self, violations: Sequence[Violation]) -> None:
        """Take what the server's log said; whose it was is found out by `run`."""
        for one in violations:
            self.totals[one.kind] += one.count
        if not self._waiting.full():
            self._waiting.put_nowait(violations)

    async def run(self) -> None:
        """Attribute what comes, until cancelled."""
        while True:
            try:
                async with asyncio.timeout(TELL_S):
                    violations = await self._waiting.get()
            except TimeoutError:
                self._tell_what_is_due()
                continue
            for one in violations:
                self._add(await self._owner(one), one)

    def of(self, device: str) -> dict[str, Any]:
        """What a device was refused since the node started: counts by kind, the last topic and when."""
        found = self._devices.get(device)
        if found is None:
            return dict.fromkeys(KINDS, 0)
        return {
            **dict.fromkeys(KINDS, 0), **found.counts, "last": found.last_kind, "last_topic": found.topics[found.last_kind],
            "last_at": to_rfc3339(found.last_at),
        }  # fmt: skip

    def forget(self, device: str) -> None:
        """A device was removed."""
        self._devices.pop(device, None)

    async def _owner(self, one: Violation) -> str:
        key = one.life, one.connection
        owner = self._owners.get(key)
        if owner is None:
            try:
                owner = await self._device_of(one.connection) or _UNKNOWN
            except UnavailableError:
                return _UNKNOWN
            self._owners[key] = owner
            if len(self._owners) > MOST_CONNECTIONS:
                self._owners.popitem(last=False)
        return owner

    def _add(self, device: str, one: Violation) -> None:
        found = self._devices.get(device)
        if found is None:
            found = self._devices[device] = _Refused({})
            if len(self._devices) > MOST_DEVICES:
                self._devices.popitem(last=False)
        self._devices.move_to_end(device)
        found.counts[one.kind] = found.counts.get(one.kind, 0) + one.count
        found.untold[one.kind] = found.untold.get(one.kind, 0) + one.count
        found.topics[one.kind] = one.topic[:SHOWN]
        found.last_kind, found.last_at = one.kind, self._clock.now()
        found.client_id, found.address = one.client_id, self._address_of(device, one.address)
        self._tell(device, found)

    def _tell(self, device: str, found: _Refused) -> None:
        now = self._clock.monotonic()
        for kind in [kind for kind in found.untold if now - found.told.get(kind, -TELL_S) >= TELL_S]:
            found.told[kind] = now
            self._audit.note(
                f"{kind} refused", by=device, address=found.address, reason="not its topic", topic=found.topics[kind],
                count=found.untold.pop(kind), client=found.client_id,
            )  # fmt: skip

    def _tell_what_is_due(self) -> None:
        for device, found in self._devices.items():
            if found.untold:
                self._tell(device, found)
