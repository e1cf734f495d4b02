"""The devices that a node knows: one record each, kept through the key-value port."""

import asyncio
from collections.abc import Sequence
from typing import Any

import msgspec

from skerry.core.clock import Clock, to_rfc3339
from skerry.core.errors import CorruptError, RejectedError, suggestion
from skerry.core.ports import KeyValue
from skerry.device.permissions import OWN, check_id, check_templates, is_id
from skerry.trust import hash_password, new_password

FORMAT = 1
PREFIX = "device/"
Row = dict[str, Any]


class Device(msgspec.Struct, frozen=True, omit_defaults=True):
    """One record. `password` is a scrypt hash; times are microseconds since the epoch, 0 for never."""

    id: str
    format: int
    created: int
    password: str = ""
    topics: tuple[str, ...] = ()
    revoked: int = 0

    def __repr__(self) -> str:
        return f"Device({self.id!r}{', revoked' if self.revoked else ''})"

    def row(self) -> Row:
        """What people may see: no hash."""
        return {
            "id": self.id,
            "kind": "password",
            "created": to_rfc3339(self.created),
            "revoked": to_rfc3339(self.revoked) if self.revoked else None,
            "topics": [template.replace("{device}", self.id) for template in (*OWN, *self.topics)],
        }


class _Format(msgspec.Struct):
    format: int


class DeviceRegistry:
    """Add, find, revoke and remove devices. Nothing is cached: what the store says now holds.

    Changes are made by one node at a time; of two that add one id at the same moment the last one stays.
    """

    def __init__(self, store: KeyValue, clock: Clock) -> None:
        self._store = store
        self._clock = clock
        self._changing = asyncio.Lock()

    async def find(self, device_id: str) -> Device | None:
        """The record, or None. Raises `CorruptError` for one that cannot be read."""
        data = await self._stored(device_id)
        return None if data is None else _decode(device_id, data)

    async def all(self) -> list[Device]:
        """All records in order of their ids. Raises `CorruptError`."""
        return [_decode(key.removeprefix(PREFIX), data) for key, data in await self._store.items(PREFIX)]

    async def add(self, device_id: str, password_hash: str, topics: Sequence[str] = ()) -> Device:
        """Make the record of a device that logs in with a password.

        Raises `RejectedError` for an id or a topic that will not do, and for a device that is there already."""
        check_id(device_id)
        check_templates(device_id, topics)
        device = Device(device_id, FORMAT, self._clock.now(), password_hash, tuple(topics))
        async with self._changing:
            await self._refuse_known(device_id)
            await self._store.set(PREFIX + device_id, msgspec.json.encode(device))
        return device

    async def add_with_password(self, device_id: str, password: str | None, topics: Sequence[str] = ()) -> Row:
        """As `add`; answers the row with its `password`, made where none was given. It cannot be shown again."""
        check_id(device_id)
        check_templates(device_id, topics)
        await self._refuse_known(device_id)
        chosen = new_password() if password is None else password
        device = await self.add(device_id, await asyncio.to_thread(hash_password, chosen), topics)
        return {**device.row(), "password": chosen}

    async def rows(self) -> list[Row]:
        """All devices as people may see them."""
        return [device.row() for device in await self.all()]

    async def row(self, device_id: str) -> Row | None:
        """One device as people may see it, or None."""
        device = await self.find(device_id)
        return None if device is None else device.row()

    async def revoke(self, device_id: str) -> None:
        """Refuse it from now on; it stays in the list. Twice is once. Raises `RejectedError` for an unknown one."""
        async with self._changing:
            device = await self._known(device_id)
            if not device.revoked:
                revoked = msgspec.structs.replace(device, revoked=self._clock.now())
                await self._store.set(PREFIX + device_id, msgspec.json.encode(revoked))

    async def remove(self, device_id: str) -> None:
        """Forget it. Raises `RejectedError` for an unknown one."""
        async with self._changing:
            await self._known(device_id, readable=False)
            await self._store.delete(PREFIX + device_id)

    async def _stored(self, device_id: str) -> bytes | None:
        # Names come from whoever connects: the store sees only what can be an id.
        return await self._store.get(PREFIX + device_id) if is_id(device_id) else None

    async def _refuse_known(self, device_id: str) -> None:
        if await self._stored(device_id) is not None:
            raise RejectedError(
                f"there is a device {device_id!r} already", where="device", mend="remove it first or choose another id"
            )

    async def _known(self, device_id: str, *, readable: bool = True) -> Device:
        data = await self._stored(device_id)
        if data is None:
            ids = [key.removeprefix(PREFIX) for key, _ in await self._store.items(PREFIX)]
            raise RejectedError(
                f"there is no device {device_id[:80]!r}{suggestion(device_id, ids)}", mend="see `skerry device list`"
            )
        return _decode(device_id, data) if readable else Device(device_id, FORMAT, 0)


def _decode(device_id: str, data: bytes) -> Device:
    try:
        if (found := msgspec.json.decode(data, type=_Format).format) > FORMAT:
            raise CorruptError(
                f"its record was written by a later version (format {found})", where=f"device {device_id}",
                mend="run that version",
            )  # fmt: skip
        device = msgspec.json.decode(data, type=Device)
    except msgspec.MsgspecError as error:
        raise CorruptError(
            f"its record cannot be read and was left as it is: {error}", where=f"device {device_id}",
            mend="remove the device and add it again",
        ) from error  # fmt: skip
    if device.id != device_id:
        raise CorruptError(f"its record is of {device.id!r}", where=f"device {device_id}")
    return device
