"""nkeys: Ed25519 keys as nats-server writes them, base32 with a role prefix and a check sum.

Source: github.com/nats-io/nkeys. Public: `prefix(1) key(32) crc(2)`; seed: `prefix(2) seed(32) crc(2)`, the role's bits shared
over both prefix bytes; the check sum is CRC-16/XMODEM, little endian; base32 without padding.
"""

import base64
import binascii
import contextlib
import enum
import functools
import os
from pathlib import Path

from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey, Ed25519PublicKey
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat

from skerry.core.errors import CorruptError, RejectedError, UnavailableError
from skerry.core.files import sync_names

_SEED = 18 << 3
_KEY_BYTES = 32


class Role(enum.IntEnum):
    """Whose key it is; the value is the prefix byte, which makes the first letter A, N or U."""

    ACCOUNT = 0
    SERVER = 13 << 3
    USER = 20 << 3


class KeyPair:
    """An Ed25519 pair with its role. Neither `repr` nor an error shows the private half."""

    def __init__(self, role: Role, seed: bytes) -> None:
        self.role = role
        self._raw = seed
        self._key = Ed25519PrivateKey.from_private_bytes(seed)
        self._public = self._key.public_key().public_bytes(Encoding.Raw, PublicFormat.Raw)
        self.public = _encode(bytes([role]) + self._public)

    @classmethod
    def new(cls, role: Role) -> "KeyPair":
        """A pair out of the operating system's random numbers."""
        return cls(role, os.urandom(_KEY_BYTES))

    @classmethod
    def from_seed(cls, text: str) -> "KeyPair":
        """Read an encoded seed (`SA…`, `SU…`, `SN…`). Raises `RejectedError`."""
        data = _decode(text)
        role = ((data[0] & 7) << 5) | (data[1] >> 3)
        if len(data) != _KEY_BYTES + 2 or data[0] & 0xF8 != _SEED or data[1] & 7 or role not in tuple(Role):
            raise RejectedError("that is not an nkey seed of an account, a server or a user")
        return cls(Role(role), data[2:])

    @property
    def seed(self) -> str:
        """The encoded private half: for the key file only."""
        return _encode(bytes([_SEED | (self.role >> 5), (self.role & 31) << 3]) + self._raw)

    def sign(self, message: bytes) -> bytes:
        """64 bytes, RFC 8032."""
        return self._key.sign(message)

    def __repr__(self) -> str:
        return f"KeyPair({self.public})"


def verify(public: str, message: bytes, signature: bytes, role: Role) -> bool:
    """Whether the holder of a public key of that role signed the message; a key that cannot be read signed nothing."""
    try:
        _public_key(public, role).verify(signature, message)
    except (InvalidSignature, RejectedError, ValueError):
        return False
    return True


@functools.lru_cache(maxsize=32)
def _public_key(public: str, role: Role) -> Ed25519PublicKey:
    return Ed25519PublicKey.from_public_bytes(check_public(public, role))


def check_public(text: str, role: Role) -> bytes:
    """The 32 bytes of an encoded public key. Raises `RejectedError` for a damaged one or one of another role."""
    data = _decode(text)
    if len(data) != _KEY_BYTES + 1 or data[0] != role:
        raise RejectedError(f"that is not the public nkey of {'an' if role == Role.ACCOUNT else 'a'} {role.name.lower()}")
    return data[1:]


def load_or_create(path: Path, role: Role = Role.ACCOUNT) -> KeyPair:
    """The pair whose seed a file holds; made on first use: the file 0600, its directory 0700.

    Raises `CorruptError` when the file holds something else, `UnavailableError` when it cannot be read or written."""
    try:
        found = _load(path, role)
        if found is None:
            path.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
            _write_new(path, KeyPair.new(role))
            found = _load(path, role)
    except OSError as error:
        raise UnavailableError(f"the key cannot be kept: {error.strerror}", where=str(path)) from error
    assert found is not None
    return found


def _load(path: Path, role: Role) -> KeyPair | None:
    try:
        text = path.read_text("ascii", "replace").strip()
    except FileNotFoundError:
        return None
    if path.stat().st_mode & 0o077:
        path.chmod(0o600)
    try:
        pair = KeyPair.from_seed(text)
    except RejectedError as error:
        raise CorruptError(
            "holds no key; it was kept as it is", where=str(path), mend="restore it, or remove it and a new one is made"
        ) from error
    if pair.role != role:
        raise CorruptError(f"holds a key for another role than {role.name.lower()}", where=str(path))
    return pair


def _write_new(path: Path, pair: KeyPair) -> None:
    """Appear whole or not at all, on disk before it is used; of two at once the first stays."""
    temporary = path.with_name(f".{path.name}.{os.getpid()}")
    handle = os.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600)
    try:
        with os.fdopen(handle, "w", encoding="ascii") as file:
            file.write(pair.seed + "\n")
            file.flush()
            os.fsync(handle)
        with contextlib.suppress(FileExistsError):
            os.link(temporary, path)
    finally:
        temporary.unlink()
    sync_names(path.parent)


def _encode(data: bytes) -> str:
    return base64.b32encode(data + binascii.crc_hqx(data, 0).to_bytes(2, "little")).decode().rstrip("=")


def _decode(text: str) -> bytes:
    try:
        data = base64.b32decode(text + "=" * (-len(text) % 8))
    except ValueError as error:
        raise RejectedError("that is not an nkey: not base32") from error
    if len(data) < 4 or binascii.crc_hqx(data[:-2], 0) != int.from_bytes(data[-2:], "little") or _encode(data[:-2]) != text:
        raise RejectedError("that is not an nkey: its check sum does not fit")
    return data[:-2]
