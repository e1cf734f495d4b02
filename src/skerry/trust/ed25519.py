"""Ed25519 (RFC 8032) as strict as it can be read: one spelling a key and a signature, and no keys that sign everything.

The library below accepts what some others refuse (a public key of small order, under which one signature fits many messages), and
libraries differ on encodings that are not canonical. So keys and signatures are checked here on their bytes, by RFC 8032, 5.1.3 and
5.1.7, before the library sees them. A public key is kept as its 32 bytes.
"""

import re

from cryptography.exceptions import InvalidSignature, UnsupportedAlgorithm
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey, Ed25519PublicKey
from cryptography.hazmat.primitives.serialization import (
    Encoding,
    NoEncryption,
    PrivateFormat,
    PublicFormat,
    load_pem_private_key,
    load_pem_public_key,
)

from skerry.core.errors import RejectedError

PUBLIC_BYTES, SIGNATURE_BYTES = 32, 64
PRIME = 2**255 - 19
ORDER = 2**252 + 27742317777372353535851937790883648493
_D = -121665 * pow(121666, -1, PRIME) % PRIME
_SIGN_BIT = 1 << 255
_Y_OF_ORDER_8 = 0x05FC536D880238B13933C6D305ACDFD5F098EFF289F4C345B027B2C28F95E826
# The eight points whose order divides 8 have these five y; no honest key and no honest R is among them.
_SMALL_ORDER = frozenset({0, 1, PRIME - 1, _Y_OF_ORDER_8, PRIME - _Y_OF_ORDER_8})
LONGEST_PEM = 16 * 1024
_PRIVATE = re.compile(rb"-----BEGIN [A-Z0-9 ]*PRIVATE KEY-----")
# RFC 8032, 7.1, test 1: what is checked in the place of a signature that is refused for its form, so that it takes as long.
_STAND_IN = (
    bytes.fromhex("d75a980182b10ab7d54bfed3c964073a0ee172f3daa62325af021a68f707511a"),
    bytes.fromhex(
        "e5564300c360ac729086e2cc806e828a84877f1eb8e5d974d873e065224901555fb8821590a33bacc61e39701cf9b46bd25bf5f0595bbe24655141438e7a100b"
    ),
)


class SigningKey:
    """A private Ed25519 key. Neither `repr` nor an error shows it."""

    def __init__(self, key: Ed25519PrivateKey) -> None:
        self._key = key
        self.public = key.public_key().public_bytes(Encoding.Raw, PublicFormat.Raw)

    @classmethod
    def new(cls) -> "SigningKey":
        """A key out of the operating system's random numbers."""
        return cls(Ed25519PrivateKey.generate())

    @classmethod
    def from_pem(cls, data: bytes, where: str = "") -> "SigningKey":
        """Read PKCS #8 in PEM, as `openssl genpkey -algorithm ed25519` writes it. Raises `RejectedError`."""
        try:
            key = load_pem_private_key(data[:LONGEST_PEM], password=None)
        except TypeError as error:
            raise RejectedError(
                "this private key is encrypted", where=where, mend="decrypt it: openssl pkey -in KEY -out PLAIN"
            ) from error
        except (ValueError, UnsupportedAlgorithm) as error:
            raise RejectedError(
                "holds no private key in PEM", where=where, mend="make one: openssl genpkey -algorithm ed25519 -out KEY"
            ) from error
        if not isinstance(key, Ed25519PrivateKey):
            raise RejectedError("holds a key that is not Ed25519", where=where, mend="openssl genpkey -algorithm ed25519 -out KEY")
        return cls(key)

    def pem(self) -> str:
        """PKCS #8, not encrypted: for a file that only its owner may read."""
        return self._key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption()).decode()

    def public_pem(self) -> str:
        """The public half, as `read_public` takes it."""
        return public_pem(self.public)

    def sign(self, message: bytes) -> bytes:
        """64 bytes."""
        return self._key.sign(message)

    def __repr__(self) -> str:
        return "SigningKey()"


def read_public(key: bytes | str, where: str = "key") -> bytes:
    """The 32 bytes of a public key given as PEM (SubjectPublicKeyInfo) or as those bytes.

    Raises `RejectedError` for anything else, for a private key, and for a point that no key has."""
    data = key.encode("utf-8", "surrogatepass") if isinstance(key, str) else key
    raw = data if isinstance(key, bytes) and len(key) == PUBLIC_BYTES else _read_pem(data, where)
    fault = point_fault(raw)
    if fault:
        raise RejectedError(f"that is no public key: {fault}", where=where, mend="make a new pair")
    return raw


def _read_pem(data: bytes, where: str) -> bytes:
    if _PRIVATE.search(data):
        raise RejectedError(
            "that is a private key, which belongs to the device alone", where=where,
            mend="give the public half: openssl pkey -in KEY -pubout",
        )  # fmt: skip
    mend = "give an Ed25519 public key in PEM: openssl pkey -in KEY -pubout"
    if len(data) > LONGEST_PEM:
        raise RejectedError(f"over {LONGEST_PEM} bytes are no public key", where=where, mend=mend)
    try:
        found = load_pem_public_key(data)
    except (ValueError, UnsupportedAlgorithm) as error:
        raise RejectedError("that is no public key in PEM", where=where, mend=mend) from error
    if not isinstance(found, Ed25519PublicKey):
        raise RejectedError("that key is not Ed25519", where=where, mend=mend)
    return found.public_bytes(Encoding.Raw, PublicFormat.Raw)


def public_pem(raw: bytes) -> str:
    """SubjectPublicKeyInfo in PEM."""
    return Ed25519PublicKey.from_public_bytes(raw).public_bytes(Encoding.PEM, PublicFormat.SubjectPublicKeyInfo).decode()


def point_fault(raw: bytes) -> str:
    """What is wrong with the encoding of a public key; empty if it is canonical, on the curve and not of small order."""
    fault = _encoding_fault(raw)
    if fault:
        return fault
    y = _y_of(raw)
    # x² = (y² − 1) / (d y² + 1) has a root when the product of both is a square (Euler)
    on_curve = pow((y * y - 1) * (_D * y * y + 1), (PRIME - 1) // 2, PRIME) == 1
    return "" if on_curve else "not a point of the curve"


def _encoding_fault(raw: bytes) -> str:
    if len(raw) != PUBLIC_BYTES:
        return f"{len(raw)} bytes instead of {PUBLIC_BYTES}"
    y = _y_of(raw)
    if y >= PRIME:
        return "its encoding is not canonical"
    return "a point of small order" if y in _SMALL_ORDER else ""


def signature_fault(signature: bytes) -> str:
    """What is wrong with the encoding of a signature; empty if it has one spelling: R canonical, S below the group's order."""
    if len(signature) != SIGNATURE_BYTES:
        return f"{len(signature)} bytes instead of {SIGNATURE_BYTES}"
    fault = _encoding_fault(signature[:32])
    if fault:
        return f"R: {fault}"
    return "S is not reduced" if int.from_bytes(signature[32:], "little") >= ORDER else ""


def verify_strict(public: bytes, message: bytes, signature: bytes) -> bool:
    """Whether the holder of the key signed this message in the one spelling; a refusal takes as long whatever the fault is."""
    # the library itself refuses what is not on the curve
    fault = signature_fault(signature) or _encoding_fault(public)
    key, checked = _STAND_IN if fault else (public, signature)
    return _verify(key, message, checked) and not fault


def _verify(public: bytes, message: bytes, signature: bytes) -> bool:
    try:
        Ed25519PublicKey.from_public_bytes(public).verify(signature, message)
    except (InvalidSignature, ValueError):
        return False
    return True


def _y_of(raw: bytes) -> int:
    return int.from_bytes(raw, "little") & ~_SIGN_BIT
