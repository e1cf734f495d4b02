"""Passwords: made readable, kept as scrypt hashes that carry their own parameters.

Scrypt: RFC 7914. The parameters cost about 50 ms and 16 MiB a try on the boxes that skerry is made for.
"""

import base64
import hmac
import re
import secrets

import msgspec
from cryptography.hazmat.primitives.kdf.scrypt import Scrypt

from skerry.core.errors import CorruptError, RejectedError

LOG2_N, BLOCK, PARALLEL = 14, 8, 1
SALT_BYTES, KEY_BYTES = 16, 32
SHORTEST, LONGEST = 8, 256
# What can be mistaken for another when read aloud or copied by hand is left out: 0 o, 1 i l.
ALPHABET = "23456789abcdefghjkmnpqrstuvwxyz"
GROUPS, GROUP = 5, 5
_ENCODED = re.compile(r"scrypt\$ln=(\d{1,2}),r=(\d{1,2}),p=(\d{1,2})\$([A-Za-z0-9_-]{22})\$([A-Za-z0-9_-]{43})")


class PasswordHash(msgspec.Struct, frozen=True):
    """One scrypt hash with what made it: `N = 2 ** log2_n`, block size r, parallelism p."""

    log2_n: int
    r: int
    p: int
    salt: bytes
    key: bytes

    @classmethod
    def decode(cls, text: str) -> "PasswordHash":
        """Read `scrypt$ln=14,r=8,p=1$<salt>$<key>`, base64url without padding.

        Raises `CorruptError` for another form, and for parameters that would cost more than 1 GiB."""
        match = _ENCODED.fullmatch(text)
        if match is None:
            raise CorruptError("a stored password hash cannot be read", mend="give the device a new password")
        log2_n, r, p = int(match[1]), int(match[2]), int(match[3])
        if not (1 <= log2_n <= 20 and 1 <= r <= 32 and 1 <= p <= 16 and (128 * r << log2_n) <= 1 << 30):
            raise CorruptError("a stored password hash has impossible parameters", mend="give the device a new password")
        return cls(log2_n, r, p, _bytes(match[4]), _bytes(match[5]))

    def encode(self) -> str:
        """The text form that `decode` reads."""
        return f"scrypt$ln={self.log2_n},r={self.r},p={self.p}${_text(self.salt)}${_text(self.key)}"

    def matches(self, password: str) -> bool:
        """Whether this is the password; compares in constant time."""
        return hmac.compare_digest(_derive(password, self.salt, self.log2_n, self.r, self.p), self.key)


def new_password() -> str:
    """A random password such as `k7m2x-…`: five groups of five out of 31 signs, 123 bits."""
    return "-".join("".join(secrets.choice(ALPHABET) for _ in range(GROUP)) for _ in range(GROUPS))


def hash_password(password: str) -> str:
    """Hash with a new salt. Blocks for about 50 ms (without the interpreter's lock): call it in a thread.

    Raises `RejectedError` for a password under 8 or over 256 bytes, or one with control characters."""
    size = len(_utf8(password))
    if not SHORTEST <= size <= LONGEST or not password.isprintable():
        raise RejectedError(
            "that password will not do", where="password",
            mend=f"use {SHORTEST} to {LONGEST} bytes without control characters, or leave it out and one is made",
        )  # fmt: skip
    salt = secrets.token_bytes(SALT_BYTES)
    return PasswordHash(LOG2_N, BLOCK, PARALLEL, salt, _derive(password, salt, LOG2_N, BLOCK, PARALLEL)).encode()


def verify_password(password: str, encoded: str) -> bool:
    """Whether the password belongs to the hash. Blocks as `hash_password` does. Raises `CorruptError`."""
    return PasswordHash.decode(encoded).matches(password)


def _derive(password: str, salt: bytes, log2_n: int, r: int, p: int) -> bytes:
    return Scrypt(salt=salt, length=KEY_BYTES, n=1 << log2_n, r=r, p=p).derive(_utf8(password))


def _utf8(password: str) -> bytes:
    # JSON may carry half a surrogate pair, which is no text; it must be a wrong password, not an error.
    return password.encode("utf-8", "surrogatepass")


def _text(data: bytes) -> str:
    return base64.urlsafe_b64encode(data).decode().rstrip("=")


def _bytes(text: str) -> bytes:
    return base64.urlsafe_b64decode(text + "=" * (-len(text) % 4))
