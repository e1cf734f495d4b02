"""Secrets in a file that others may hold: sealed with a passphrase, and whole or not readable at all.

Scrypt (RFC 7914) makes the key, ChaCha20-Poly1305 (RFC 8439) seals; the parameters stand in front and are sealed with the rest.
"""

import secrets
import struct

from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.ciphers.aead import ChaCha20Poly1305
from cryptography.hazmat.primitives.kdf.scrypt import Scrypt

from skerry.core.errors import CorruptError, RejectedError

SHORTEST = 12
LOG2_N, BLOCK, PARALLEL = 16, 8, 1
"""64 MiB and some 0.3 s a try: a backup is guessed at without anybody watching."""
_MAGIC = b"skerry-sealed-1\n"
_HEAD = struct.Struct(">16sBBB16s12s")


def seal(data: bytes, passphrase: str) -> bytes:
    """Seal with a passphrase of at least 12 characters. Blocks for some 0.3 s. Raises `RejectedError` for a shorter one."""
    if len(passphrase) < SHORTEST:
        raise RejectedError("that passphrase is too short", where="passphrase", mend=f"use {SHORTEST} characters or more")
    salt, nonce = secrets.token_bytes(16), secrets.token_bytes(12)
    head = _HEAD.pack(_MAGIC, LOG2_N, BLOCK, PARALLEL, salt, nonce)
    return head + ChaCha20Poly1305(_key(passphrase, salt, LOG2_N, BLOCK, PARALLEL)).encrypt(nonce, data, head)


def unseal(sealed: bytes, passphrase: str) -> bytes:
    """What was sealed. Raises `RejectedError` for a wrong passphrase or changed bytes, `CorruptError` for another form."""
    if len(sealed) < _HEAD.size:
        raise CorruptError("the sealed secrets are cut off")
    magic, log2_n, r, p, salt, nonce = _HEAD.unpack_from(sealed)
    # a bound, so that a made-up file cannot ask for all memory
    if magic != _MAGIC or not (1 <= log2_n <= 18 and 1 <= r <= 8 and 1 <= p <= 4):
        raise CorruptError("the sealed secrets have a form that this version does not know")
    try:
        key = _key(passphrase, salt, log2_n, r, p)
        return ChaCha20Poly1305(key).decrypt(nonce, sealed[_HEAD.size :], sealed[: _HEAD.size])
    except InvalidTag as error:
        raise RejectedError("the passphrase is wrong, or the sealed secrets were changed", where="passphrase") from error


def _key(passphrase: str, salt: bytes, log2_n: int, r: int, p: int) -> bytes:
    return Scrypt(salt=salt, length=32, n=1 << log2_n, r=r, p=p).derive(passphrase.encode("utf-8", "surrogatepass"))
