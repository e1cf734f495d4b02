"""OPC UA, signed and encrypted: our own certificate, made when it is first needed, and which servers' certificates are trusted.

Before anything else is said the server's endpoints are asked for in the clear, as the protocol has it; its certificate has to be
one that a person has put beside the others, or of an authority among them. One that is not is kept to be looked at.
"""

import asyncio
import contextlib
import ssl
from collections.abc import AsyncIterator
from pathlib import Path
from typing import TYPE_CHECKING, Literal

import msgspec

from skerry.connector.contract import Place
from skerry.core.clock import SystemClock
from skerry.core.errors import ConfigError, RejectedError, UnavailableError
from skerry.trust import application_identity, application_uri, certificate_facts, signed_by

if TYPE_CHECKING:
    from asyncua.client.client import Client
    from asyncua.ua import EndpointDescription

Level = Literal["none", "sign", "encrypt"]
POLICY = "Basic256Sha256"
MOST_TRUSTED = 1000
_REFUSED = ("BadSecurityChecksFailed", "BadCertificate", "BadConnectionClosed", "BadSecureChannelClosed")


class Security(msgspec.Struct, frozen=True):
    """How a connector's servers are talked to. `cert`, `key`: our own, PEM; `trusted`: a directory; empty: those of the node."""

    level: Level
    cert: str
    key: str
    trusted: str


class Safe:
    """What one connector needs to be safe: its own certificate, and those that it trusts."""

    def __init__(self, security: Security, place: Place) -> None:
        folder = (place.data or place.base) / "opcua"
        self.level = security.level
        self._made = not security.cert
        self._cert = place.base / security.cert if security.cert else folder / "own.pem"
        self._key = place.base / security.key if security.key else folder / "own.key"
        self._trusted = place.base / security.trusted if security.trusted else folder / "trusted"
        self._rejected = folder / "rejected"
        self._place = place

    @contextlib.asynccontextmanager
    async def over(self, client: "Client", server: str, pin: str) -> AsyncIterator[None]:
        """Connect inside of it: what the server has against us is said with what to do about it.

        Args:
            server: its name here. pin: a file with the one certificate that it may have; empty: one of the trusted.

        Raises `UnavailableError`, `ConfigError` for files that cannot be used."""
        from asyncua import ua  # late: an extra
        from asyncua.crypto.security_policies import SecurityPolicyBasic256Sha256
        from asyncua.crypto.uacrypto import CertProperties
        from asyncua.ua.uaerrors import UaError

        own = await asyncio.to_thread(self._own)
        client.application_uri = application_uri(own) or client.application_uri
        mode = ua.MessageSecurityMode.Sign if self.level == "sign" else ua.MessageSecurityMode.SignAndEncrypt
        offered = await client.connect_and_get_server_endpoints()
        wanted = (mode, SecurityPolicyBasic256Sha256.URI)
        fitting = [each for each in offered if (each.SecurityMode, each.SecurityPolicyUri) == wanted]
        if not fitting:
            mend = f"switch on {POLICY} there, or set security to what it has"
            raise UnavailableError(f"it has no {POLICY} {mode.name}, but {_shown(offered)}", mend=mend)
        certificate = _first(fitting[0].ServerCertificate or b"")
        await asyncio.to_thread(self._check, certificate, server, pin)
        theirs = CertProperties(certificate, "der")
        mine, key = CertProperties(self._cert, "pem"), CertProperties(self._key, "pem")
        await client.set_security(SecurityPolicyBasic256Sha256, mine, key, server_certificate=theirs, mode=mode)
        try:
            yield
        except (UaError, ConnectionError) as error:
            if any(type(error).__name__.startswith(each) for each in _REFUSED) or isinstance(error, ConnectionError):
                mend = f"have it trust our certificate {self._cert} ({certificate_facts(own).fingerprint})"
                raise UnavailableError(f"it does not take us: {type(error).__name__}", mend=mend) from error
            raise

    def _own(self) -> bytes:
        try:
            if self._made:
                name = f"skerry {self._place.node}"
                application_identity(self._cert, self._key, name, f"urn:skerry:{self._place.site}:{self._place.node}")
            return self._cert.read_bytes()
        except OSError as error:
            raise ConfigError(f"cannot be used: {error.strerror}", where=str(error.filename or self._cert)) from error

    def _check(self, der: bytes, server: str, pin: str) -> None:
        """Raises `UnavailableError` for a certificate that nobody here has said yes to."""
        try:
            pem = ssl.DER_cert_to_PEM_cert(der)
            facts = certificate_facts(pem)
        except (RejectedError, ValueError) as error:
            raise UnavailableError("the server's certificate cannot be read") from error
        if pin:
            path = self._place.base / pin
            if certificate_facts(_read(path)).fingerprint != facts.fingerprint:
                why = f"it has another certificate than {path}: {facts.fingerprint}"
                raise UnavailableError(why, mend="look whether it was given a new one, or whether that is another server")
            return
        now = SystemClock().now()
        for path in sorted(self._trusted.glob("*"))[:MOST_TRUSTED] if self._trusted.is_dir() else []:
            known = _read(path)
            found = certificate_facts(known)
            in_time = facts.not_before <= now <= facts.not_after
            if found.fingerprint == facts.fingerprint or (found.authority and in_time and signed_by(pem, known)):
                return
        kept = self._rejected / f"{server}.pem"
        with contextlib.suppress(OSError):
            kept.parent.mkdir(parents=True, exist_ok=True)
            kept.write_text(pem)
        mend = f"compare that with what the server shows, and move {kept} into {self._trusted}"
        raise UnavailableError(f"its certificate is not trusted: {facts.fingerprint}", mend=mend)


def _read(path: Path) -> str:
    """A certificate of a file, PEM or DER, as PEM. Raises `ConfigError`."""
    try:
        content = path.read_bytes()
        pem = content.decode() if b"-----BEGIN" in content else ssl.DER_cert_to_PEM_cert(content)
        certificate_facts(pem)
    except (OSError, ValueError, RejectedError) as error:
        why = getattr(error, "strerror", None) or "is no certificate"
        raise ConfigError(why, where=str(path), mend="PEM or DER, one certificate a file") from error
    return pem


def _first(chain: bytes) -> bytes:
    """The server's own certificate of a chain in DER: its length is in its first bytes (X.690, 8.1.3)."""
    if len(chain) < 4 or not chain[1] & 0x80:
        return chain
    size = chain[1] & 0x7F
    return chain[: 2 + size + int.from_bytes(chain[2 : 2 + size])]


def _shown(offered: "list[EndpointDescription]") -> str:
    found = {f"{(each.SecurityPolicyUri or '').rpartition('#')[2]} {each.SecurityMode.name}" for each in offered}
    return ", ".join(sorted(found)) or "nothing"
