"""TLS of a server whose certificate changes while it serves: each handshake uses the files as they were last loaded."""

import ssl
from pathlib import Path

import msgspec

from skerry.core.clock import Clock, to_rfc3339
from skerry.core.errors import ConfigError, RejectedError
from skerry.trust.certificates import CertificateFacts, certificate_facts, key_fits

# TLS 1.2 with forward secrecy and authenticated encryption only; those of TLS 1.3 are all of this kind
_CIPHERS = "ECDHE+AESGCM:ECDHE+CHACHA20"
_MOST = 1024 * 1024


class TlsFiles(msgspec.Struct, frozen=True):
    """PEM files of a server, as the configuration names them.

    Attributes:
        where: the place in the configuration, such as `broker.tls`.
        cert: its certificate, followed by those between it and its authority.
        ca: authorities whose client certificates are taken; without it no client is asked for one.
    """

    where: str
    cert: Path
    key: Path
    ca: Path | None = None

    @property
    def paths(self) -> tuple[Path, ...]:
        return (self.cert, self.key) if self.ca is None else (self.cert, self.key, self.ca)


class ServerTls:
    """A context for `create_server` that goes on being good when the files are replaced.

    Where `ca` is given a client may show a certificate, and need not; one that shows a wrong one is refused. Connections that are
    up keep what they were made with.

    Attributes:
        context: for the next handshake. It stays the same but where `ca` changes: sessions that were begun under the authorities of
            before cannot be resumed then, which would spare their clients the question for a certificate.
        facts: of the certificate that is used.
        trouble: why newer files are not used; empty while all is well.
    """

    def __init__(self, files: TlsFiles, clock: Clock) -> None:
        """Load the files. Raises `ConfigError`: the first thing that is wrong with them."""
        self.files = files
        self.trouble = ""
        self._clock = clock
        self._seen = _stamps(files)
        self.facts = check_tls_files(files, clock.now())
        self._authorities = _authorities(files)
        self._current = _context(files)
        self.context = self._listening()

    def refresh(self) -> bool:
        """Take the files if they have changed: whether they were taken. What does not fit is left, and `trouble` says why."""
        seen = _stamps(self.files)
        if seen == self._seen:
            return False
        try:
            facts, context = check_tls_files(self.files, self._clock.now()), _context(self.files)
            authorities = _authorities(self.files)
        except ConfigError as error:
            # looked at again until they fit: a certificate and its key are seldom replaced in the same instant
            self.trouble = str(error)
            return False
        self._seen, self.facts, self._current, self.trouble = seen, facts, context, ""
        if authorities != self._authorities:
            self._authorities, self.context = authorities, self._listening()
        return True

    def _listening(self) -> ssl.SSLContext:
        """A context that keeps sessions, and has each handshake done by the current one."""
        context = _context(self.files)
        context.sni_callback = self._hand_over
        return context

    def _hand_over(self, handshake: ssl.SSLObject | ssl.SSLSocket, name: str | None, context: ssl.SSLContext) -> None:
        handshake.context = self._current


def check_tls_files(files: TlsFiles, now: int) -> CertificateFacts:
    """What the certificate says, when it may be used. Raises `ConfigError` in one sentence: the first thing that is wrong."""
    certificate, key = _read(files, "cert"), _read(files, "key")
    facts = _facts(files, "cert", certificate)
    try:
        fits = key_fits(certificate, key)
    except RejectedError as error:
        raise _wrong(files, "key", error.message, error.mend) from error
    if not fits:
        raise _wrong(files, "key", f"is not the key of {files.cert}", "name the key that the certificate was made for")
    if facts.not_after < now:
        mend = "have it renewed, or set the clock if that is wrong"
        raise _wrong(files, "cert", f"ended on {to_rfc3339(facts.not_after)[:10]}", mend)
    if files.ca is not None and not _facts(files, "ca", _read(files, "ca")).authority:
        raise _wrong(files, "ca", "is no certificate authority", "name the certificate that signs the certificates of devices")
    return facts


def _authorities(files: TlsFiles) -> bytes:
    return b"" if files.ca is None else _read(files, "ca")


def _facts(files: TlsFiles, part: str, pem: bytes) -> CertificateFacts:
    try:
        return certificate_facts(pem)
    except RejectedError as error:
        raise _wrong(files, part, error.message, error.mend) from error


def _read(files: TlsFiles, part: str) -> bytes:
    path: Path = getattr(files, part)
    try:
        with path.open("rb") as file:
            return file.read(_MOST)
    except FileNotFoundError as error:
        raise _wrong(files, part, "is not there", "make certificates with skerry init --tls, or name your own") from error
    except OSError as error:
        mend = "let the user who runs skerry read it"
        raise _wrong(files, part, f"cannot be read: {(error.strerror or str(error)).lower()}", mend) from error


def _wrong(files: TlsFiles, part: str, message: str, mend: str) -> ConfigError:
    return ConfigError(f"{getattr(files, part)} {message}", where=f"{files.where}.{part}", mend=mend)


def _context(files: TlsFiles) -> ssl.SSLContext:
    """TLS 1.2 or newer over files that have been checked. Raises `ConfigError` for what only OpenSSL finds."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.minimum_version = ssl.TLSVersion.TLSv1_2
    context.set_ciphers(_CIPHERS)
    try:
        context.load_cert_chain(files.cert, files.key)
        if files.ca is not None:
            context.load_verify_locations(files.ca)
            context.verify_mode = ssl.CERT_OPTIONAL
    except (ssl.SSLError, OSError) as error:
        why = getattr(error, "reason", None) or error.strerror or str(error)
        raise ConfigError(f"cannot be used for TLS: {why}", where=files.where, mend="have the files made again") from error
    return context


def _stamps(files: TlsFiles) -> tuple[tuple[int, int, int], ...]:
    """What tells that a file has been replaced or written, link or not."""
    found = []
    for path in files.paths:
        try:
            status = path.stat()
        except OSError:
            found.append((0, 0, 0))
        else:
            found.append((status.st_ino, status.st_mtime_ns, status.st_size))
    return tuple(found)
