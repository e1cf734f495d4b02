"""The devices that a node knows: one record each, kept through the key-value port."""

import asyncio
import base64
import re
from collections.abc import Sequence
from typing import Any, Literal

import msgspec

from skerry.core.clock import Clock, to_rfc3339
from skerry.core.errors import CorruptError, RejectedError, suggestion
from skerry.core.ports import KeyValue
from skerry.device.permissions import OWN, check_id, check_templates, is_id
from skerry.trust import certificate_fingerprint, hash_password, new_password, read_public

FORMAT = 1
PREFIX = "device/"
BY_CERTIFICATE = "certificate/"
BY_CA = "ca"
_FINGERPRINT = re.compile(r"sha256:[0-9a-f]{64}")
Row = dict[str, Any]
Kind = Literal["password", "key", "certificate"]


class Credential(msgspec.Struct, frozen=True, omit_defaults=True):
    """How a device proves who it is: one of the three.

    Attributes:
        password: a scrypt hash.
        key: 32 bytes of an Ed25519 public key in base64.
        certificate: `sha256:<hex>` of one certificate, or `ca`: any that the site's CA has signed for this device's id.
    """

    password: str = ""
    key: str = ""
    certificate: str = ""

    def __repr__(self) -> str:
        return f"Credential({self.kind})"

    @property
    def kind(self) -> Kind:
        return "key" if self.key else "certificate" if self.certificate else "password"


class Device(Credential, frozen=True, omit_defaults=True, kw_only=True):
    """One record. Times are microseconds since the epoch, 0 for never; `rotated`: when it last got another credential."""

    id: str
    format: int
    created: int
    topics: tuple[str, ...] = ()
    revoked: int = 0
    rotated: int = 0

    def __repr__(self) -> str:
        return f"Device({self.id!r}{', revoked' if self.revoked else ''})"

    @property
    def public_key(self) -> bytes:
        """The 32 bytes of its public key; empty if it has none."""
        return base64.b64decode(self.key)

    def row(self) -> Row:
        """What people may see: no hash."""
        shown = {"key": self.key, "certificate": self.certificate}
        return {
            "id": self.id,
            "kind": self.kind,
            "created": to_rfc3339(self.created),
            "rotated": to_rfc3339(self.rotated) if self.rotated else None,
            "revoked": to_rfc3339(self.revoked) if self.revoked else None,
            **{name: value for name, value in shown.items() if value},
            "topics": [template.replace("{device}", self.id) for template in (*OWN, *self.topics)],
        }


class _Format(msgspec.Struct):
    format: int


_NOBODY = Device(id="nobody", format=FORMAT, created=1, key=base64.b64encode(bytes(32)).decode())
_STAND_IN = msgspec.json.encode(_NOBODY)


class DeviceRegistry:
    """Add, find, rotate, revoke and remove devices. Nothing is cached: what the store says now holds.

    Changes are made by one node at a time; of two that add one id at the same moment the last one stays.
    """

    def __init__(self, store: KeyValue, clock: Clock) -> None:
        self._store = store
        self._clock = clock
        self._changing = asyncio.Lock()

    async def find(self, device_id: str) -> Device | None:
        """The record, or None. Raises `CorruptError` for one that cannot be read."""
        data = await self._stored(device_id)
        if data is None:
            _decode(_NOBODY.id, _STAND_IN)  # so that it takes as long
            return None
        return _decode(device_id, data)

    async def find_by_certificate(self, fingerprint: str, names: Sequence[str] = ()) -> Device | None:
        """The device that has this certificate, or whose id is among the names that the site's CA has signed.

        Raises `CorruptError`."""
        known = await self._store.get(BY_CERTIFICATE + fingerprint)
        if known is not None:
            device = await self.find(known.decode("utf-8", "replace"))
            if device is not None and device.certificate == fingerprint:
                return device
        for name in names[:8]:
            device = await self.find(name)
            if device is not None and device.certificate == BY_CA:
                return device
        return None

    async def all(self) -> list[Device]:
        """All records in order of their ids. Raises `CorruptError`."""
        return [_decode(key.removeprefix(PREFIX), data) for key, data in await self._store.items(PREFIX)]

    async def add(self, device_id: str, credential: Credential, topics: Sequence[str] = ()) -> Device:
        """Make the record of a device.

        Raises `RejectedError` for an id or a topic that will not do, and for a device that is there already."""
        check_id(device_id)
        check_templates(device_id, topics)
        device = Device(
            id=device_id, format=FORMAT, created=self._clock.now(), topics=tuple(topics), **msgspec.structs.asdict(credential)
        )
        async with self._changing:
            await self._refuse_known(device_id)
            await self._keep(device)
        return device

    async def rotate(self, device_id: str, credential: Credential) -> Device:
        """Give a device another credential; the old one is worth nothing from now on.

        Raises `RejectedError` for an unknown device and for a revoked one."""
        async with self._changing:
            before = await self._known(device_id)
            if before.revoked:
                raise RejectedError(f"device {device_id!r} is revoked", where="device", mend="remove it and add it again")
            device = msgspec.structs.replace(before, rotated=self._clock.now(), **msgspec.structs.asdict(credential))
            await self._keep(device)
            if before.certificate != device.certificate:
                await self._forget_certificate(before)
        return device

    async def add_with(
        self, device_id: str, topics: Sequence[str] = (), *, password: str | None = None, key: str = "", certificate: str = ""
    ) -> Row:
        """As `add`, from what people give; answers the row, with its `password`, if it has one: it cannot be shown again.

        Args:
            key: a public key in PEM.
            certificate: in PEM, or `sha256:<hex>`, or `ca`. With neither of the three a password is made.
        """
        check_id(device_id)
        check_templates(device_id, topics)
        await self._refuse_known(device_id)
        credential, shown = await _credential(password, key, certificate)
        return {**(await self.add(device_id, credential, topics)).row(), **shown}

    async def add_with_password(self, device_id: str, password: str | None, topics: Sequence[str] = ()) -> Row:
        """As `add_with`, for a password alone."""
        return await self.add_with(device_id, topics, password=password)

    async def rotate_with(self, device_id: str, *, password: str | None = None, key: str = "", certificate: str = "") -> Row:
        """As `rotate`, from what people give; with neither of the three a device that has a password gets a new one."""
        before = await self._known(device_id)
        if before.kind != "password" and password is None and not key and not certificate:
            raise RejectedError(
                f"device {device_id!r} logs in with a {before.kind}", where="device", mend=f"give it a new {before.kind}"
            )
        credential, shown = await _credential(password, key, certificate)
        return {**(await self.rotate(device_id, credential)).row(), **shown}

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
            before = await self._known(device_id, readable=False)
            await self._store.delete(PREFIX + device_id)
            await self._forget_certificate(before)

    async def _stored(self, device_id: str) -> bytes | None:
        # Names come from whoever connects: the store sees only what can be an id.
        return await self._store.get(PREFIX + device_id) if is_id(device_id) else None

    async def _keep(self, device: Device) -> None:
        """Write the record, and before it the way from its certificate to it: alone that leads nowhere."""
        if device.certificate and device.certificate != BY_CA:
            other = await self.find_by_certificate(device.certificate)
            if other is not None and other.id != device.id:
                raise RejectedError(f"device {other.id!r} has this certificate", where="certificate", mend="give each its own")
            await self._store.set(BY_CERTIFICATE + device.certificate, device.id.encode())
        await self._store.set(PREFIX + device.id, msgspec.json.encode(device))

    async def _forget_certificate(self, before: Device) -> None:
        if before.certificate and before.certificate != BY_CA:
            await self._store.delete(BY_CERTIFICATE + before.certificate)

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
        try:
            return _decode(device_id, data)
        except CorruptError:
            if readable:
                raise
            return Device(id=device_id, format=FORMAT, created=0)


async def _credential(password: str | None, key: str, certificate: str) -> tuple[Credential, Row]:
    """What to keep, and what to show this once."""
    if (password is not None) + bool(key) + bool(certificate) > 1:
        raise RejectedError("a device has one of password, key and certificate", where="device", mend="give one of them")
    if key:
        return key_credential(key), {}
    if certificate:
        return certificate_credential(certificate), {}
    chosen = new_password() if password is None else password
    return Credential(password=await asyncio.to_thread(hash_password, chosen)), {"password": chosen}


def key_credential(key: bytes | str) -> Credential:
    """Of a public key: PEM, or its 32 bytes. Raises `RejectedError`."""
    return Credential(key=base64.b64encode(read_public(key)).decode())


def certificate_credential(certificate: str) -> Credential:
    """Of a certificate in PEM, `sha256:<hex>`, or `ca`. Raises `RejectedError`."""
    given = certificate.strip()
    if given == BY_CA or _FINGERPRINT.fullmatch(given):
        return Credential(certificate=given)
    return Credential(certificate=certificate_fingerprint(given))


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
