"""Who a device is: trusted devices, challenges that each is answered once, and tokens for the broker."""

import hmac
import secrets
from collections import OrderedDict
from collections.abc import Sequence
from pathlib import Path

import msgspec

from skerry.core.clock import SECOND, Clock, SystemClock
from skerry.core.errors import CorruptError, RejectedError
from skerry.core.ports import KeyValue
from skerry.core.units import parse_duration
from skerry.device.attempts import network
from skerry.device.challenge import BYTES, MOST, MOST_A_DEVICE, Challenges, from_base64, signed_message
from skerry.device.registry import Device, DeviceRegistry, key_credential
from skerry.device.store import FileStore, MemoryStore
from skerry.device.token import SIGNATURE_BYTES, Token, mint, read_token, short_hash, token_message
from skerry.store import KeyValueStore, NamedValues
from skerry.trust import KeyPair, Role, check_public, load_or_create, verify_strict

SIGNERS = "signer/"
MOST_REMEMBERED = 16_384
LEEWAY_S = 60
"""How much longer than `token_ttl` a token may still live by this node's clock: clocks of a cluster differ."""


class Verdict(msgspec.Struct, frozen=True):
    """What came out of a check.

    Attributes:
        reason: why not, for the audit log; empty: it was right.
        device: whose it was, where it was right.
        expires: Unix seconds, of a token.
    """

    reason: str = ""
    device: Device | None = None
    expires: int = 0


class _Signer(msgspec.Struct, frozen=True):
    """A node's public key as the store keeps it for the other nodes; told again while it signs, at `told` (Unix seconds)."""

    format: int
    public: str
    told: int = 0


class DeviceAuthenticator:
    """Trusted devices, and log-in by challenge and response with Ed25519.

    A challenge is 32 random bytes for one device; the device signs `b"skerry-login-v1\\0" + device + b"\\0" + challenge`. It
    lives for `challenge_ttl`, is spent by the first attempt, right or wrong, and never outlives the process. Refusals look alike
    and take the same time, whatever the reason is. Every method may raise `UnavailableError` and `CorruptError` of the store.

    Args:
        store: where devices are kept: a `KeyValueStore` (in its table `devices`), or anything behind
            `skerry.core.ports.KeyValue`; a path: files in that directory (made if it is not there); nothing: memory.
        key_file: where the own key pair is kept (0600, made at the first start). Without it the pair lives in the directory of
            `store`, or in memory: then tokens end with the process.
        most, most_a_device: how many challenges may be open, altogether and for one device. What is one too many ends an older one.

    Attributes:
        devices: the registry itself: all kinds of devices, their topics, rotation.
        challenge_s, token_s: seconds that each lives.
    """

    def __init__(
        self,
        store: KeyValueStore | KeyValue | Path | str | None = None,
        *,
        key_file: Path | None = None,
        clock: Clock | None = None,
        challenge_ttl: str = "30s",
        token_ttl: str = "1h",  # noqa: S107 - a duration
        most: int = MOST,
        most_a_device: int = MOST_A_DEVICE,
    ) -> None:
        if isinstance(store, str | Path):
            key_file = key_file or Path(store) / "tokens.seed"
            store = FileStore(Path(store) / "devices.json")
        elif isinstance(store, KeyValueStore):
            store = NamedValues(store, "devices")
        self._store: KeyValue = MemoryStore() if store is None else store
        self._clock = clock or SystemClock()
        self._pair = KeyPair.new(Role.USER) if key_file is None else load_or_create(key_file, Role.USER)
        self.challenge_s = parse_duration(challenge_ttl) / SECOND
        self.token_s = max(1, parse_duration(token_ttl) // SECOND)
        self.devices = DeviceRegistry(self._store, self._clock)
        self.public_key = check_public(self._pair.public, Role.USER)
        self.key_id = short_hash(self.public_key)
        self._told = 0
        self._secret = secrets.token_bytes(32)
        self._right: OrderedDict[str, bytes] = OrderedDict()
        self._open = Challenges(self.challenge_s, most, most_a_device)
        # those of devices that are not there, kept apart so that no flood of names can push out a real one
        self._decoys = Challenges(self.challenge_s, most // 16 or 1, most_a_device)

    async def add_trusted_device(self, device_id: str, public_key: bytes | str, topics: Sequence[str] = ()) -> Device:
        """Trust a device from now on.

        Args:
            public_key: Ed25519, in PEM (SubjectPublicKeyInfo) or as 32 bytes.
            topics: `pub:…` and `sub:…` beyond its own, see `check_templates`.

        Raises `RejectedError` for an id, key or topic that will not do, and for a device that is there already."""
        return await self.devices.add(device_id, key_credential(public_key), topics)

    async def trusted_devices(self) -> list[Device]:
        """All that are not revoked, in order of their ids."""
        return [device for device in await self.devices.all() if not device.revoked]

    async def revoke(self, device_id: str) -> None:
        """Trust it no longer, and end its challenges; it stays on record. Raises `RejectedError` for an unknown one."""
        await self.devices.revoke(device_id)
        self._open.forget(device_id)

    async def remove(self, device_id: str) -> None:
        """Forget it. Raises `RejectedError` for an unknown one."""
        await self.devices.remove(device_id)
        self._open.forget(device_id)

    async def generate_challenge(self, device_id: str, source: str = "") -> bytes:
        """32 bytes from the operating system for this device to sign; a device that is not there gets some too.

        `source`: who asks, an address; a network that asks too often ends its own older challenges before those of others."""
        device = await self.devices.find(device_id)
        value = secrets.token_bytes(BYTES)
        known = device is not None and device.kind == "key" and not device.revoked
        opened = self._open if known else self._decoys
        opened.issue(device_id[:128], network(source), value, self._clock.monotonic())
        return value

    async def verify_response(self, device_id: str, challenge: bytes | str, response: bytes | str) -> bool:
        """Whether the response is this device's signature of this challenge, which is spent now, whatever the answer is.

        Both as bytes, or as text in base64 (its one spelling, with padding)."""
        return not (await self.judge(device_id, challenge, response)).reason

    async def judge(self, device_id: str, challenge: bytes | str, response: bytes | str) -> Verdict:
        """As `verify_response`, with the reason: `unknown`, `revoked`, `no-key`, `bad-challenge` (not open, used, expired, another
        device's) or `bad-signature`. It is for the audit log and not for who asked."""
        value, signature = _bytes(challenge, BYTES), _bytes(response, SIGNATURE_BYTES)
        now = self._clock.monotonic()
        # before the first await: of two at once with one challenge, one finds it spent
        name = device_id[:128]
        opened = self._open.spend(name, value, now) | self._decoys.spend(name, value, now)
        device = await self.devices.find(device_id)
        key = device.public_key if device is not None else b""
        right = verify_strict(key or self.public_key, signed_message(device_id, value), signature) and bool(key)
        if device is None:
            return Verdict("unknown")
        if device.revoked:
            return Verdict("revoked")
        if not key:
            return Verdict("no-key")
        if not opened:
            return Verdict("bad-challenge")
        return Verdict(device=device) if right else Verdict("bad-signature")

    async def issue_token(self, device: Device) -> str:
        """A token that lets this device into the broker for `token_s` seconds, on every node that shares the store.

        Nothing is kept of it: it ends by its time, and with the device's key or the device."""
        now = self._clock.now() // SECOND
        if not 0 <= now - self._told < self.token_s / 2:
            kept = _Signer(1, self._pair.public, now)
            await self._store.set(SIGNERS + self.key_id, msgspec.json.encode(kept))
            self._told = now
        return mint(self._pair.sign, self.key_id, device.id, _bound_to(device), now + self.token_s)

    async def check_token(self, device: Device, text: str) -> Verdict:
        """Whether a token is this device's, signed by a node of this store, and lives: `bad-token` or `token-expired`."""
        token = read_token(text)
        if token is None or token.credential != short_hash(_bound_to(device)) or not await self._is_signed(device, token):
            return Verdict("bad-token")
        left = token.expires - self._clock.now() / SECOND
        # one that would live longer than any that is made now was made by a clock that was wrong
        if not 0 < left <= self.token_s + LEEWAY_S:
            return Verdict("token-expired")
        return Verdict(device=device, expires=token.expires)

    async def _is_signed(self, device: Device, token: Token) -> bool:
        """Whether a node of this store signed it for this device. What was right before is remembered, by device: a storm of
        reconnects verifies no signature twice."""
        mark = hmac.digest(self._secret, token_message(device.id, token.signed) + token.signature, "sha256")
        if hmac.compare_digest(self._right.get(device.id, b""), mark):
            return True
        signer = await self._signer(token.key_id)
        if not verify_strict(signer, token_message(device.id, token.signed), token.signature):
            return False
        self._right[device.id] = mark
        self._right.move_to_end(device.id)
        if len(self._right) > MOST_REMEMBERED:
            self._right.popitem(last=False)
        return True

    async def _signer(self, key_id: str) -> bytes:
        """The public key of the node that signs under this id; empty if there is none, or if it has not said so for longer than its
        tokens can live: a key that was replaced, and may be in other hands."""
        if key_id == self.key_id:
            return self.public_key
        data = await self._store.get(SIGNERS + key_id)
        if data is None:
            return b""
        try:
            signer = msgspec.json.decode(data, type=_Signer)
            public = check_public(signer.public, Role.USER)
        except (msgspec.MsgspecError, RejectedError) as error:
            raise CorruptError("the public key of a node cannot be read", where=SIGNERS + key_id) from error
        silent = self._clock.now() // SECOND - signer.told
        return public if short_hash(public) == key_id and silent <= 1.5 * self.token_s + LEEWAY_S else b""


def _bound_to(device: Device) -> bytes:
    """What a token is bound to: a device that was removed and added again with the same key is another one."""
    return device.public_key + device.created.to_bytes(8, "big", signed=True)


def _bytes(given: bytes | str, size: int) -> bytes:
    """So many bytes, or none at all: then the rest of the way is gone all the same."""
    data = from_base64(given, size) if isinstance(given, str) else given
    return data if data is not None and len(data) == size else b""
