"""The site's own certificate authority: makes it, and signs certificates of the node and of devices. Pure, but for new keys.

EC P-256 and SHA-256, which small devices can check. Each certificate is good from a day before it is made: clocks go wrong.
"""

import ipaddress

import msgspec
from cryptography import x509
from cryptography.hazmat.primitives.asymmetric.ec import (
    SECP256R1,
    EllipticCurvePrivateKey,
    EllipticCurvePublicKey,
    generate_private_key,
)
from cryptography.hazmat.primitives.hashes import SHA256
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat
from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID

from skerry.core.errors import RejectedError
from skerry.trust.certificates import DAY, read_certificate, read_key, to_moment

AUTHORITY_DAYS = 3650
# with the day before it is made 825, the most that some clients take of a server
SERVER_DAYS = 824
DEVICE_DAYS = 825
_EARLIER = DAY
_LONGEST_NAME = 64


class Issued(msgspec.Struct, frozen=True):
    """A certificate and its private key, both PEM. `repr` leaves the key out."""

    certificate: bytes
    key: bytes

    def __repr__(self) -> str:
        return f"Issued({self.certificate!r})"


def new_authority(site: str, now: int) -> Issued:
    """An authority of ten years for a site. `now`: microseconds since the epoch."""
    key = generate_private_key(SECP256R1())
    name = x509.Name(
        [
            x509.NameAttribute(NameOID.ORGANIZATION_NAME, site[:_LONGEST_NAME] or "site"),
            x509.NameAttribute(NameOID.COMMON_NAME, "skerry site CA"),
        ]
    )
    identifier = x509.SubjectKeyIdentifier.from_public_key(key.public_key())
    builder = (
        _builder(name, name, key.public_key(), now, AUTHORITY_DAYS)
        .add_extension(x509.BasicConstraints(ca=True, path_length=0), critical=True)
        .add_extension(_usage(signs=True), critical=True)
        .add_extension(identifier, critical=False)
    )
    return _with_key(builder.sign(key, SHA256()), key)


def issue_server(authority: Issued, names: tuple[str, ...], now: int) -> Issued:
    """A server's certificate for names and addresses; the first one is its common name too. Raises `RejectedError`."""
    return _issue(authority, names[0], alternative_names(names), ExtendedKeyUsageOID.SERVER_AUTH, now, SERVER_DAYS)


def issue_device(authority: Issued, device: str, now: int, days: int = DEVICE_DAYS) -> Issued:
    """A device's certificate: its id is the common name. Raises `RejectedError`."""
    return _issue(authority, device, None, ExtendedKeyUsageOID.CLIENT_AUTH, now, days)


def _issue(
    authority: Issued, name: str, others: x509.SubjectAlternativeName | None, use: x509.ObjectIdentifier, now: int, days: int
) -> Issued:
    key = generate_private_key(SECP256R1())
    return _with_key(sign_for(authority, name, key.public_key(), others, [use], now, days), key)


def sign_for(
    authority: Issued,
    name: str,
    public: EllipticCurvePublicKey,
    others: x509.SubjectAlternativeName | None,
    uses: list[x509.ObjectIdentifier],
    now: int,
    days: int,
) -> x509.Certificate:
    """A certificate for somebody's key. Raises `RejectedError`."""
    if not 1 <= len(name) <= _LONGEST_NAME:
        raise RejectedError(f"{name!r} is no name for a certificate", mend=f"a name has 1 to {_LONGEST_NAME} characters")
    signer, signing = read_certificate(authority.certificate), read_key(authority.key)
    if not isinstance(signing, EllipticCurvePrivateKey):
        raise RejectedError("the authority's key is none that skerry made", mend="make another authority with skerry init --tls")
    subject = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, name)])
    builder = (
        _builder(subject, signer.subject, public, now, days, signer)
        .add_extension(x509.BasicConstraints(ca=False, path_length=None), critical=True)
        .add_extension(_usage(signs=False), critical=True)
        .add_extension(x509.ExtendedKeyUsage(uses), critical=False)
        .add_extension(x509.SubjectKeyIdentifier.from_public_key(public), critical=False)
        .add_extension(x509.AuthorityKeyIdentifier.from_issuer_public_key(signing.public_key()), critical=False)
    )
    if others is not None:
        builder = builder.add_extension(others, critical=False)
    return builder.sign(signing, SHA256())


def _builder(
    subject: x509.Name, issuer: x509.Name, key: EllipticCurvePublicKey, now: int, days: int, signer: x509.Certificate | None = None
) -> x509.CertificateBuilder:
    """With what all certificates have; none outlives its signer, since nobody would take it."""
    ends = to_moment(now + days * DAY).replace(microsecond=0)
    if signer is not None:
        ends = min(ends, signer.not_valid_after_utc)
    begins = to_moment(now - _EARLIER).replace(microsecond=0)
    if begins >= ends:
        raise RejectedError(
            "the authority has ended, or this machine's clock is wrong", mend="set the clock, or make another authority"
        )
    return (
        x509.CertificateBuilder()
        .subject_name(subject)
        .issuer_name(issuer)
        .public_key(key)
        .serial_number(x509.random_serial_number())
        .not_valid_before(begins)
        .not_valid_after(ends)
    )


def _usage(signs: bool) -> x509.KeyUsage:
    return x509.KeyUsage(
        digital_signature=not signs,
        key_cert_sign=signs,
        crl_sign=signs,
        content_commitment=False,
        key_encipherment=False,
        data_encipherment=False,
        key_agreement=False,
        encipher_only=False,
        decipher_only=False,
    )


def _with_key(certificate: x509.Certificate, key: EllipticCurvePrivateKey) -> Issued:
    private = key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption())
    return Issued(certificate.public_bytes(Encoding.PEM), private)


def alternative_names(names: tuple[str, ...]) -> x509.SubjectAlternativeName:
    """Host names and addresses, each once. Raises `RejectedError`."""
    return x509.SubjectAlternativeName([_general_name(each) for each in dict.fromkeys(names)])


def _general_name(name: str) -> x509.GeneralName:
    try:
        return x509.IPAddress(ipaddress.ip_address(name))
    except ValueError:
        pass
    try:
        return x509.DNSName(name)
    except ValueError as error:
        raise RejectedError(f"{name!r} is no host name", mend="write names as DNS does") from error
