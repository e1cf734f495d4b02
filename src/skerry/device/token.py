"""Tokens: what a device shows to the broker after it has answered a challenge. Pure, but for who signs.

`st1.<key id>.<expires>.<credential>.<signature>`, 125 signs, which small MQTT clients have room for. The signature (Ed25519) is
over `b"skerry-token-v1\\0" + device + b"\\0" + all before it`. The key id names the node's key that signed (so every node of a
cluster that knows the key can check it), expires is Unix seconds, and the credential stands for the device's public key
and the time when it was added: a device that was given another key, or was added again, needs another token.
"""

import base64
import hashlib
import re
from collections.abc import Callable

import msgspec

PREFIX = b"skerry-token-v1\0"
VERSION = "st1"
SIGNATURE_BYTES = 64
_TOKEN = re.compile(rf"({VERSION}\.([A-Za-z0-9_-]{{11}})\.([1-9][0-9]{{0,11}})\.([A-Za-z0-9_-]{{11}}))\.([A-Za-z0-9_-]{{86}})")


class Token(msgspec.Struct, frozen=True):
    """A token that was read and not yet checked."""

    key_id: str
    expires: int
    credential: str
    signed: str
    signature: bytes


def short_hash(key: bytes) -> str:
    """Eleven signs that stand for a public key: 64 bits of its SHA-256."""
    return _text(hashlib.sha256(key).digest()[:8])


def mint(sign: Callable[[bytes], bytes], key_id: str, device: str, key: bytes, expires: int) -> str:
    """A token for a device, bound to `key` (what stands for its credential), until `expires` (Unix seconds)."""
    signed = f"{VERSION}.{key_id}.{expires}.{short_hash(key)}"
    return f"{signed}.{_text(sign(token_message(device, signed)))}"


def token_message(device: str, signed: str) -> bytes:
    """What is signed."""
    return PREFIX + device.encode() + b"\0" + signed.encode()


def read_token(text: str) -> Token | None:
    """The parts of a token in its one spelling; None for anything else."""
    found = _TOKEN.fullmatch(text)
    if found is None:
        return None
    signature = base64.urlsafe_b64decode(found[5] + "==")
    if _text(signature) != found[5]:
        return None
    return Token(key_id=found[2], expires=int(found[3]), credential=found[4], signed=found[1], signature=signature)


def _text(data: bytes) -> str:
    return base64.urlsafe_b64encode(data).decode().rstrip("=")
