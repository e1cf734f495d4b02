"""The site's certificates on disk: `ca.pem` and `ca.key`, `server.pem` and `server.key`; keys 0600, each file replaced whole."""

import os
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from skerry.core.errors import RejectedError, UnavailableError
from skerry.trust.authority import Issued, issue_device, issue_server, new_authority
from skerry.trust.certificates import CertificateFacts, certificate_facts, certificate_names, key_fits, signed_by

CA, CA_KEY, SERVER, SERVER_KEY = "ca.pem", "ca.key", "server.pem", "server.key"
RENEW_DAYS = 30
_RESTORE = "restore both from a backup"


class SiteAuthority:
    """The authority in a directory. Its methods raise `UnavailableError` when a file cannot be read or written.

    Args:
        directory: made by `create`, 0700.
    """

    def __init__(self, directory: Path) -> None:
        self.directory = directory

    @property
    def certificate(self) -> Path:
        return self.directory / CA

    @property
    def server(self) -> tuple[Path, Path]:
        """The node's own certificate and key."""
        return self.directory / SERVER, self.directory / SERVER_KEY

    @property
    def exists(self) -> bool:
        """Whether there is an authority that can sign."""
        return self.certificate.is_file() and (self.directory / CA_KEY).is_file()

    def create(self, site: str, now: int) -> None:
        """Make the authority. Raises `RejectedError` when there is one: what it has signed would be worth nothing."""
        if self.exists:
            raise RejectedError("is there already", where=str(self.certificate), mend="devices trust it: go on with it")
        with _mapped(self.directory):
            self.directory.mkdir(parents=True, exist_ok=True, mode=0o700)
        self._write(new_authority(site, now), CA, CA_KEY)

    def load(self) -> Issued:
        """The authority with its key. Raises `RejectedError` when there is none, or when the two do not fit."""
        if not self.exists:
            raise RejectedError("there is no site CA here", where=str(self.directory), mend="make one with skerry init --tls")
        with _mapped(self.directory):
            found = Issued(self.certificate.read_bytes(), (self.directory / CA_KEY).read_bytes())
        try:
            fits = key_fits(found.certificate, found.key)
        except RejectedError as error:
            raise RejectedError(f"ca.pem or ca.key {error.message}", where=str(self.directory), mend=_RESTORE) from error
        if not fits:
            raise RejectedError("ca.key does not fit ca.pem", where=str(self.directory), mend=_RESTORE)
        return found

    def facts(self) -> CertificateFacts:
        """What the authority's certificate says."""
        with _mapped(self.directory):
            return certificate_facts(self.certificate.read_bytes())

    def issue_server(self, names: tuple[str, ...], now: int) -> None:
        """Sign a new certificate and key of the node, and put them in place of those that were there."""
        self._write(issue_server(self.load(), names, now), SERVER, SERVER_KEY)

    def renew(self, names: tuple[str, ...], now: int) -> None:
        """Sign it for these names, and for the host names that it was made for before; addresses of before are left out."""
        kept: tuple[str, ...] = ()
        with suppress(OSError, RejectedError):
            kept = certificate_names(self.server[0].read_bytes())
        self.issue_server(tuple(dict.fromkeys((*names, *kept))), now)

    def issue_device(self, device: str, now: int, days: int) -> Issued:
        """Sign a certificate and key for a device; nothing is kept."""
        return issue_device(self.load(), device, now, days)

    def due(self, names: tuple[str, ...], now: int) -> str:
        """Why the node's own certificate has to be signed anew; empty while it has not. A clock that must be wrong is no reason."""
        authority = self.facts()
        if not authority.not_before <= now <= authority.not_after:
            return ""
        cert, key = self.server
        try:
            facts = certificate_facts(cert.read_bytes())
            if not key_fits(cert.read_bytes(), key.read_bytes()) or not signed_by(cert.read_bytes(), self.certificate.read_bytes()):
                return "certificate, key and CA do not fit together"
        except (OSError, RejectedError):
            return "it cannot be read"
        if facts.days_left(now) < RENEW_DAYS and facts.not_after < authority.not_after:
            return f"it ends in {facts.days_left(now)} days" if facts.not_after > now else "it has ended"
        missing = [name for name in names if name not in facts.names]
        return f"this machine is {', '.join(missing)} too" if missing else ""

    def _write(self, issued: Issued, certificate: str, key: str) -> None:
        with _mapped(self.directory):
            _replace(self.directory / key, issued.key, 0o600)
            _replace(self.directory / certificate, issued.certificate, 0o644)


@contextmanager
def _mapped(directory: Path) -> Iterator[None]:
    try:
        yield
    except OSError as error:
        where = str(error.filename or directory)
        raise UnavailableError(f"cannot be used: {error.strerror}", where=where, mend="see who owns it, and the disk") from error


def _replace(path: Path, content: bytes, mode: int) -> None:
    temporary = path.with_name(f"{path.name}.new")
    with suppress(FileNotFoundError):
        temporary.unlink()
    with os.fdopen(os.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_EXCL, mode), "wb") as file:
        file.write(content)
        file.flush()
        os.fsync(file.fileno())
    temporary.replace(path)
