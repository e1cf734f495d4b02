"""Whose a client id is: where two clients come with the same one, nats-server ends the first and gives its session to the second.

So the first device that logs in with a client id owns it, over restarts too, until it has not used it for `FORGET_DAYS` or is
removed. A client id that is the id of a registered device is that device's alone.
"""

import hashlib
import re
from collections import OrderedDict
from collections.abc import Awaitable, Callable

import msgspec

from skerry.core.clock import SECOND, Clock
from skerry.core.ports import KeyValue
from skerry.device.permissions import is_id

PREFIX = "clients/"
FORGET_DAYS = 30
MOST_A_DEVICE = 16
MOST = 100_000
LONGEST = 128
ONCE_REMEMBERED = 4096
_DAY = 24 * 3600 * SECOND
OWN_CLIENTS = "$skerry-"
"""What the client ids of the node's own MQTT connections begin with: nobody else gets such a one."""
# What nats-server makes for a client that brings none (a NUID), and our own client: new each time, so nothing to be kept.
_MADE = re.compile("[0-9A-Za-z]{22}|skerry-[0-9a-f]{16}")
Ask = Callable[[str], Awaitable[bool]]


async def _never(client_id: str) -> bool:
    return False


async def _alone() -> None:
    return


class ClientIds:
    """Answers whether a device may use a client id; what is known costs neither a read nor a write.

    The store holds one record a device. Bounded: a device owns its last `MOST_A_DEVICE` client ids, all devices together `MOST`;
    what is beyond is let in and owned by nobody. Clients without a name own none and get none that is a device's.

    Attributes:
        look: awaited before a client id gets another owner: hands what other nodes have written to `learn`.

    Args:
        registered: whether there is a device of that id.
        in_use: whether a client is connected with that client id; asked before one is given away as unused.
        nobody: what clients without a user name are called.
    """

    def __init__(self, store: KeyValue, clock: Clock, registered: Ask, *, in_use: Ask = _never, nobody: str = "$anonymous") -> None:
        self.look: Callable[[], Awaitable[None]] = _alone
        self._store = store
        self._clock = clock
        self._registered = registered
        self._in_use = in_use
        self._nobody = nobody
        self._owner: dict[str, str] = {}
        self._used: dict[str, dict[str, int]] = {}
        self._unwritten: set[str] = set()
        self._once: OrderedDict[str, str] = OrderedDict()

    async def load(self) -> None:
        """Read what was kept; before anybody is let in. A record that cannot be read is passed over: its device claims again."""
        for key, data in await self._store.items(PREFIX):
            device = key.removeprefix(PREFIX)
            try:
                kept = msgspec.json.decode(data, type=dict[str, int])
            except msgspec.MsgspecError:
                continue
            for client_id, used in sorted(kept.items(), key=lambda item: item[1]):
                if self._owner.setdefault(client_id, device) == device:
                    self._used.setdefault(device, {})[client_id] = used

    def learn(self, key: str, data: bytes | None) -> None:
        """Another node wrote the record of a device, or deleted it: what it says holds here from now on."""
        device = key.removeprefix(PREFIX)
        try:
            kept = {} if data is None else msgspec.json.decode(data, type=dict[str, int])
        except msgspec.MsgspecError:
            return
        for client_id in self._used.pop(device, {}):
            self._owner.pop(client_id, None)
        for client_id, used in sorted(kept.items(), key=lambda item: item[1]):
            before = self._owner.get(client_id)
            if before is not None:  # two nodes gave it away in one moment: the later record counts
                self._used.get(before, {}).pop(client_id, None)
            self._owner[client_id] = device
            self._used.setdefault(device, {})[client_id] = used

    async def claim(self, client_id: str, device: str) -> bool:
        """Whether this device, whose credentials are right, may use it; it owns it from then on. Raises `UnavailableError`."""
        if client_id.startswith(OWN_CLIENTS):
            return False
        name = _name(client_id)
        owner = self._owner.get(name)
        if device not in (owner, client_id) and not _MADE.fullmatch(name):
            await self.look()
            owner = self._owner.get(name)
        if client_id == device:
            if owner is not None:
                await self._take(name, owner)
            return True
        if owner == device:
            await self._keep(name, device)
            return True
        if self._once.get(name, device) != device or (owner is not None and not await self._unused(client_id, owner)):
            return False
        if is_id(client_id) and await self._registered(client_id):
            return False
        if self._owner.get(name) != owner:  # somebody was faster
            return self._owner.get(name) == device
        if owner is not None:
            await self._take(name, owner)
        if device != self._nobody:
            await self._own(name, device)
        return True

    async def forget(self, device: str) -> None:
        """A device was removed: its client ids are free. Raises `UnavailableError`."""
        for name in self._used.pop(device, {}):
            del self._owner[name]
        for name in [name for name, owner in self._once.items() if owner == device]:
            del self._once[name]
        self._unwritten.discard(device)
        await self._store.delete(PREFIX + device)

    def of(self, device: str) -> list[str]:
        """The client ids that a device owns, the last used last."""
        return list(self._used.get(device, {}))

    async def _unused(self, client_id: str, owner: str) -> bool:
        age = self._clock.now() - self._used[owner][_name(client_id)]
        if age > FORGET_DAYS * _DAY and not await self._in_use(client_id):
            return True
        return not await self._registered(owner)

    async def _keep(self, name: str, device: str) -> None:
        """Note the use, to the day: a storm of reconnects writes nothing."""
        used = self._used[device]
        before, now = used.pop(name), self._clock.now()
        used[name] = now if abs(now - before) >= _DAY else before
        if used[name] != before or device in self._unwritten:
            await self._write(device)

    async def _own(self, name: str, device: str) -> None:
        if _MADE.fullmatch(name) and self._once.pop(name, None) is None:
            self._once[name] = device
            if len(self._once) > ONCE_REMEMBERED:
                self._once.popitem(last=False)
            return
        if len(self._owner) >= MOST:
            return
        used = self._used.setdefault(device, {})
        used[name], self._owner[name] = self._clock.now(), device
        while len(used) > MOST_A_DEVICE:
            oldest = next(iter(used))
            del used[oldest], self._owner[oldest]
        await self._write(device)

    async def _take(self, name: str, owner: str) -> None:
        del self._owner[name], self._used[owner][name]
        await self._write(owner)

    async def _write(self, device: str) -> None:
        """What could not be written is written with the next claim."""
        self._unwritten.add(device)
        await self._store.set(PREFIX + device, msgspec.json.encode(self._used.get(device, {})))
        self._unwritten.discard(device)


def _name(client_id: str) -> str:
    """As it is kept: a very long one by its hash."""
    return client_id if len(client_id) <= LONGEST else "sha256:" + hashlib.sha256(client_id.encode("utf-8", "replace")).hexdigest()
