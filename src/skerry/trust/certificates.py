"""Certificates, read: fingerprints, names, dates, and whether a key fits (X.509, RFC 5280)."""

import hashlib
from contextlib import suppress
from datetime import UTC, datetime, timedelta

import msgspec
from cryptography import x509
from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives.asymmetric.types import PrivateKeyTypes, PublicKeyTypes
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat, load_pem_private_key
from cryptography.x509.oid import NameOID

from skerry.core.errors import RejectedError

DAY = 86_400_000_000
_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)


class CertificateFacts(msgspec.Struct, frozen=True):
    """What a person wants to know of a certificate.

    Attributes:
        names: common name, DNS names and addresses, each once.
        issuer: as one line.
        fingerprint: `sha256:` and hexadecimal.
        not_before, not_after: microseconds since the epoch; good from the first to the last.
        authority: it may sign others.
    """

    names: tuple[str, ...]
    issuer: str
    fingerprint: str
    not_before: int
    not_after: int
    authority: bool

    def days_left(self, now: int) -> int:
        """Whole days until it ends; below 0 when it has."""
        return (self.not_after - now) // DAY


def read_certificate(pem: str | bytes) -> x509.Certificate:
    """The first certificate of a PEM text. Raises `RejectedError`."""
    try:
        return x509.load_pem_x509_certificate(pem.encode() if isinstance(pem, str) else pem)
    except ValueError as error:
        raise RejectedError("is no certificate in PEM form", mend="it begins with -----BEGIN CERTIFICATE-----") from error


def read_key(pem: bytes) -> PrivateKeyTypes:
    """The private key of a PEM text. Raises `RejectedError`, also when it is kept with a password."""
    try:
        return load_pem_private_key(pem, None)
    except TypeError as error:
        raise RejectedError(
            "is a key with a password", mend="a node starts alone: take the password off, and keep it 0600"
        ) from error
    except ValueError as error:
        raise RejectedError("is no private key in PEM form", mend="it begins with -----BEGIN PRIVATE KEY-----") from error


def certificate_fingerprint(pem: str | bytes) -> str:
    """`sha256:` and the hexadecimal SHA-256 of the DER form. Raises `RejectedError`."""
    return _fingerprint(read_certificate(pem))


def certificate_names(pem: str | bytes) -> tuple[str, ...]:
    """The common name and the DNS names of the subject, in this order, each once. Raises `RejectedError`."""
    return _names(read_certificate(pem), False)


def certificate_facts(pem: str | bytes) -> CertificateFacts:
    """What a person wants to know of the first certificate of a PEM text. Raises `RejectedError`."""
    certificate = read_certificate(pem)
    return CertificateFacts(
        _names(certificate, True),
        certificate.issuer.rfc4514_string(),
        _fingerprint(certificate),
        to_microseconds(certificate.not_valid_before_utc),
        to_microseconds(certificate.not_valid_after_utc),
        _is_authority(certificate),
    )


def key_fits(certificate: str | bytes, key: bytes) -> bool:
    """Whether the private key is the certificate's. Raises `RejectedError` when one of them is none."""
    own = read_certificate(certificate).public_key()
    return _public(own) == _public(read_key(key).public_key())


def signed_by(certificate: str | bytes, authority: str | bytes) -> bool:
    """Whether the authority's key signed the certificate: says nothing of dates. Raises `RejectedError`."""
    issued = read_certificate(certificate)
    with suppress(ValueError, TypeError, InvalidSignature):
        issued.verify_directly_issued_by(read_certificate(authority))
        return True
    return False


def to_microseconds(moment: datetime) -> int:
    return (moment - _EPOCH) // timedelta(microseconds=1)


def to_moment(microseconds: int) -> datetime:
    return _EPOCH + timedelta(microseconds=microseconds)


def _public(key: PublicKeyTypes) -> bytes:
    return key.public_bytes(Encoding.DER, PublicFormat.SubjectPublicKeyInfo)


def _fingerprint(certificate: x509.Certificate) -> str:
    return "sha256:" + hashlib.sha256(certificate.public_bytes(Encoding.DER)).hexdigest()


def _names(certificate: x509.Certificate, addresses: bool) -> tuple[str, ...]:
    try:
        found = [str(each.value) for each in certificate.subject.get_attributes_for_oid(NameOID.COMMON_NAME)]
        with suppress(x509.ExtensionNotFound):
            others = certificate.extensions.get_extension_for_class(x509.SubjectAlternativeName).value
            found += others.get_values_for_type(x509.DNSName)
            if addresses:
                found += map(str, others.get_values_for_type(x509.IPAddress))
    except ValueError as error:
        raise RejectedError("has names that cannot be read", mend="have another certificate issued") from error
    return tuple(dict.fromkeys(found))


def _is_authority(certificate: x509.Certificate) -> bool:
    with suppress(x509.ExtensionNotFound, ValueError):
        return bool(certificate.extensions.get_extension_for_class(x509.BasicConstraints).value.ca)
    return False
