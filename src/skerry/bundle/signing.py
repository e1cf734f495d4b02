"""Who signed a bundle: signatures over its manifest, and the keys that are trusted. Pure but for reading key files."""

import base64
import binascii
import hashlib
from collections.abc import Sequence
from pathlib import Path

import msgspec

from skerry.core.errors import ConfigError, CorruptError, RejectedError, SkerryError
from skerry.trust import SigningKey, read_public, verify_strict

MOST_SIGNATURES = 16
MOST_KEY_FILE = 16 * 1024
_CONTEXT = b"skerry-bundle-v1\0"


class Signature(msgspec.Struct, frozen=True, order=True):
    """A public key and its signature over a manifest, each in base64."""

    key: str
    signature: str


class Signatures(msgspec.Struct, frozen=True):
    """All of a bundle; in the order of their keys."""

    signatures: list[Signature] = []


def fingerprint(public: bytes) -> str:
    """How a key is shown: 32 hexadecimal digits of the SHA-256 of its 32 bytes."""
    return hashlib.sha256(public).hexdigest()[:32]


def sign_manifest(data: bytes, key: SigningKey, others: Signatures = Signatures()) -> Signatures:  # noqa: B008 - a frozen struct
    """The signatures of a manifest with one more. Raises `RejectedError` where there would be too many."""
    made = Signature(_text(key.public), _text(key.sign(_CONTEXT + data)))
    kept = [each for each in others.signatures if each.key != made.key]
    if len(kept) >= MOST_SIGNATURES:
        raise RejectedError(f"it has {MOST_SIGNATURES} signatures already", mend="build it again")
    return Signatures(sorted([*kept, made]))


def decode_signatures(data: bytes) -> Signatures:
    """Raises `CorruptError`."""
    try:
        found = msgspec.json.decode(data, type=Signatures)
    except (msgspec.MsgspecError, UnicodeDecodeError) as error:
        raise CorruptError("its signatures cannot be read", mend="build and sign it again") from error
    if len(found.signatures) > MOST_SIGNATURES:
        raise CorruptError(f"it has more than {MOST_SIGNATURES} signatures", mend="build and sign it again")
    return found


def signer_of(data: bytes, signatures: Signatures, trusted: Sequence[bytes]) -> str:
    """The fingerprint of a trusted key that signed a manifest. Raises `RejectedError` in one sentence: why there is none."""
    if not signatures.signatures:
        raise RejectedError("it is not signed", mend="skerry bundle sign FILE --key KEY")
    if not trusted:
        raise RejectedError("no key is trusted here", mend="name public keys in bundles.trusted, or with --key")
    unknown = []
    for each in signatures.signatures:
        public, signature = _bytes(each.key), _bytes(each.signature)
        if public not in trusted:
            unknown.append(fingerprint(public))
        elif verify_strict(public, _CONTEXT + data, signature):
            return fingerprint(public)
        else:
            raise RejectedError(f"the signature of {fingerprint(public)} does not fit: it was changed", mend="do not use it")
    raise RejectedError(
        f"it is signed by {', '.join(unknown)}, and that key is not trusted here",
        mend="have it signed with a trusted key, or name this one's public half in bundles.trusted",
    )


def signers(data: bytes, signatures: Signatures) -> list[str]:
    """The fingerprints of all keys whose signature fits, trusted or not."""
    return [
        fingerprint(public)
        for each in signatures.signatures
        if verify_strict(public := _bytes(each.key), _CONTEXT + data, _bytes(each.signature))
    ]


def read_trusted(files: Sequence[str | Path], base: Path, where: str = "bundles.trusted") -> list[bytes]:
    """The public keys of PEM files. Raises `ConfigError` with the file that holds none."""
    found = []
    for at, file in enumerate(files):
        path, place = base / file, f"{where}[{at}]"
        try:
            with path.open("rb") as opened:
                found.append(read_public(opened.read(MOST_KEY_FILE + 1), str(path)))
        except OSError as error:
            raise ConfigError(f"{path} cannot be read: {error.strerror}", where=place, mend="name a public key in PEM") from error
        except SkerryError as error:
            raise ConfigError(f"{path}: {error.message}", where=place, mend="name a public key in PEM") from error
    return found


def read_private(file: Path) -> SigningKey:
    """The private key of a PEM file. Raises `RejectedError`."""
    try:
        with file.open("rb") as opened:
            data = opened.read(MOST_KEY_FILE + 1)
    except OSError as error:
        raise RejectedError(f"cannot be read: {error.strerror}", where=str(file), mend="skerry bundle key new FILE") from error
    return SigningKey.from_pem(data, str(file))


def _text(data: bytes) -> str:
    return base64.b64encode(data).decode()


def _bytes(text: str) -> bytes:
    try:
        return base64.b64decode(text, validate=True)
    except (binascii.Error, ValueError):
        return b""
