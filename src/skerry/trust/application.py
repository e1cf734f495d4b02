"""The certificate by which a program says who it is to machines: RSA and self-signed, as OPC UA has it (OPC 10000-6, 6.2.2)."""

import os
from contextlib import suppress
from datetime import timedelta
from pathlib import Path

from cryptography import x509
from cryptography.hazmat.primitives.asymmetric.rsa import RSAPrivateKey, generate_private_key
from cryptography.hazmat.primitives.hashes import SHA256
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat
from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID

from skerry.core.clock import SystemClock
from skerry.core.errors import RejectedError
from skerry.trust.certificates import key_fits, read_certificate, read_key, to_moment

BITS, YEARS = 2048, 10


def application_identity(certificate: Path, key: Path, name: str, uri: str) -> None:
    """Make key (0600) and certificate, PEM, where they are not there, or do not belong together.

    Args:
        uri: of the application; the certificate names it. Raises `OSError`, `RejectedError` for a key file that holds none.
    """
    certificate.parent.mkdir(parents=True, exist_ok=True)
    if not key.exists():
        made = generate_private_key(65537, BITS)
        draft = key.with_name(f"{key.name}.{os.getpid()}")
        draft.touch(0o600)
        draft.write_bytes(made.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption()))
        with suppress(FileExistsError):  # another process was first: its key counts
            os.link(draft, key)
        draft.unlink()
    pem = key.read_bytes()
    if certificate.exists() and key_fits(certificate.read_bytes(), pem):
        return
    private = read_key(pem)
    if not isinstance(private, RSAPrivateKey):
        raise RejectedError("OPC UA needs an RSA key", where=str(key), mend="remove it: another one is made")
    draft = certificate.with_name(f"{certificate.name}.{os.getpid()}")
    draft.write_bytes(_self_signed(private, name, uri).public_bytes(Encoding.PEM))
    draft.replace(certificate)


def application_uri(pem: str | bytes) -> str:
    """The URI that an application's certificate names; empty where it names none. Raises `RejectedError`."""
    with suppress(x509.ExtensionNotFound, ValueError):
        names = read_certificate(pem).extensions.get_extension_for_class(x509.SubjectAlternativeName).value
        return next(iter(names.get_values_for_type(x509.UniformResourceIdentifier)), "")
    return ""


def _self_signed(key: RSAPrivateKey, name: str, uri: str) -> x509.Certificate:
    subject = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, name[:64])])
    now = to_moment(SystemClock().now())
    usage = x509.KeyUsage(
        digital_signature=True, content_commitment=True, key_encipherment=True, data_encipherment=True, key_agreement=False,
        key_cert_sign=False, crl_sign=False, encipher_only=False, decipher_only=False,
    )  # fmt: skip
    built = x509.CertificateBuilder(subject, subject, key.public_key(), x509.random_serial_number())
    built = built.not_valid_before(now - timedelta(days=1)).not_valid_after(now + timedelta(days=365 * YEARS))
    for extension in (
        x509.SubjectAlternativeName([x509.UniformResourceIdentifier(uri)]),
        usage,
        x509.ExtendedKeyUsage([ExtendedKeyUsageOID.CLIENT_AUTH]),
        x509.BasicConstraints(ca=False, path_length=None),
        x509.SubjectKeyIdentifier.from_public_key(key.public_key()),
    ):
        built = built.add_extension(extension, critical=False)
    return built.sign(key, SHA256())
