"""What the tests of the log-in share: requests, an audit log in memory, certificates."""

import datetime as dt
from typing import Any

import msgspec
from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.serialization import Encoding
from cryptography.x509.oid import NameOID

from skerry.broker import ConnectRequest, Decision, Refusal
from skerry.device import Attempts

PASSWORD = "correct-horse"
MQTT = ConnectRequest(server="NSERVER", user_key="UKEY", transport="mqtt", client_id="c1", address="10.0.0.7")


def asks(username: str, password: str = PASSWORD, **more: Any) -> ConnectRequest:
    return msgspec.structs.replace(MQTT, username=username, password=password, **more)


class Patient(Attempts):
    """Counts failures and holds up nobody."""

    def __init__(self) -> None:
        super().__init__()
        self.failed: list[tuple[str, str]] = []

    def fail(self, source: str, device: str, now: float) -> float:
        self.failed.append((source, device))
        return 0.0


class Notes:
    """An audit log in memory."""

    def __init__(self) -> None:
        self.entries: list[dict[str, Any]] = []

    def note(self, event: str, *, by: str = "", address: str = "", reason: str = "", **fields: object) -> None:
        self.entries.append({"event": event, "by": by, "address": address, "reason": reason, **fields})


def certificate(*names: str) -> str:
    """A certificate with a common name and further DNS names, signed by itself."""
    key = ec.generate_private_key(ec.SECP256R1())
    subject = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, names[0])])
    begin = dt.datetime(2026, 1, 1, tzinfo=dt.UTC)
    builder = x509.CertificateBuilder().subject_name(subject).issuer_name(subject).public_key(key.public_key())
    builder = builder.serial_number(x509.random_serial_number()).not_valid_before(begin)
    builder = builder.not_valid_after(begin + dt.timedelta(days=3650))
    if names[1:]:
        builder = builder.add_extension(x509.SubjectAlternativeName([x509.DNSName(name) for name in names[1:]]), critical=False)
    return builder.sign(key, hashes.SHA256()).public_bytes(Encoding.PEM).decode()


def reason(decision: Decision) -> str:
    return decision.reason if isinstance(decision, Refusal) else "granted"
