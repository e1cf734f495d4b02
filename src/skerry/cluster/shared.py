"""What all members know: made by who founds a cluster, given to who joins, put where the parts of a node look for it.

The site's CA with its key (a member signs certificates of those that join), the seed that signs the broker's log-in answers
(another node answers where one's agent is away), the key that signs join tokens, and the password of the routes between the
brokers. Passwords of a node's own users at its own broker, and the key of its device tokens, are no other node's business.
"""

import secrets
from collections.abc import Mapping
from pathlib import Path

from skerry.cluster.config import ClusterConfig
from skerry.cluster.joining import CERTIFICATE, KEY, Joined, has_joined, host_of, keep
from skerry.core import log
from skerry.core.clock import Clock
from skerry.core.errors import CorruptError, RejectedError, UnavailableError
from skerry.core.files import replace_synced, sync_names
from skerry.runtime import machine_names
from skerry.trust import Issued, KeyPair, SigningKey, SiteAuthority, TlsFiles, issue_node, load_or_create, new_request

FOLDER = "cluster"
AUTHORITY, AUTHORITY_KEY, ISSUER, TOKENS, ROUTES = "ca.pem", "ca.key", "issuer.seed", "tokens.key", "routes.password"
_ANEW = "join again: remove the folder, and use a new token"
_log = log.get("cluster")


class Shared:
    """What a node was given when it joined, or made when it founded. Raises `CorruptError` where it is not whole.

    Attributes:
        authority: the site's CA with its key.
        issuer: seed of the account that signs the broker's log-in answers.
        tokens: signs join tokens.
        routes: password between the brokers.
    """

    def __init__(self, share: Mapping[str, str], where: str = FOLDER) -> None:
        try:
            self.authority = Issued(share[AUTHORITY].encode(), share[AUTHORITY_KEY].encode())
            self.issuer = KeyPair.from_seed(share[ISSUER]).seed
            self.tokens = SigningKey.from_pem(share[TOKENS].encode(), TOKENS)
            self.routes = share[ROUTES]
        except (KeyError, RejectedError) as error:
            raise CorruptError(f"what members share is not whole: {error}", where=where, mend=_ANEW) from error


def certificate_files(data_dir: Path) -> TlsFiles:
    """The node's certificate and key among the members: for its join port and for the routes of its broker."""
    folder = data_dir / FOLDER
    return TlsFiles("cluster", folder / CERTIFICATE, folder / KEY)


def found(config: ClusterConfig, data_dir: Path, clock: Clock) -> Joined:
    """Begin a cluster of this node alone, with the CA and the issuer that it has; what a join has kept is left as it is.

    Raises `UnavailableError` where the files cannot be written, `RejectedError` for a CA that cannot be read.
    """
    folder = data_dir / FOLDER
    before = has_joined(folder)
    if before is not None:
        return before
    site = SiteAuthority(data_dir / "tls")
    if not site.exists:
        site.create(config.site, clock.now())
    authority = site.load()
    asked = new_request(config.node)
    names = tuple(dict.fromkeys((*host_of(config.address), *machine_names())))
    certificate = issue_node(authority, asked.certificate, config.node, names, clock.now())
    share = {
        AUTHORITY: authority.certificate.decode(),
        AUTHORITY_KEY: authority.key.decode(),
        ISSUER: load_or_create(data_dir / "keys" / "issuer.seed").seed,
        TOKENS: SigningKey.new().pem(),
        ROUTES: secrets.token_hex(24),
    }
    joined = Joined(config.site, config.node, (), share)
    keep(folder, share[AUTHORITY], certificate.decode(), asked.key, joined)
    _log.info(f"a cluster of one was founded; what it shares with those that join is kept in {folder}")
    return joined


def equip(data_dir: Path) -> Shared | None:
    """Before the parts of a node begin: put what the members share where each looks. None where this node is in no cluster.

    At each start, so that a crash between joining and this is made good. A CA of its own that the node had before is kept beside,
    as `ca.pem.before` and `ca.key.before`. Raises `UnavailableError`, `CorruptError`.
    """
    folder = data_dir / FOLDER
    joined = has_joined(folder)
    if joined is None:
        return None
    shared = Shared(joined.share, str(folder))
    site = SiteAuthority(data_dir / "tls")
    _put(site.directory / AUTHORITY_KEY, shared.authority.key, "key of the site's CA")
    _put(site.directory / AUTHORITY, shared.authority.certificate, "certificate of the site's CA")
    _put(data_dir / "keys" / ISSUER, f"{shared.issuer}\n".encode(), "")
    return shared


def _put(path: Path, content: bytes, what: str) -> None:
    """Make a file hold this; `what` it held before is kept beside it, where that has a name."""
    try:
        before = path.read_bytes() if path.exists() else None
        if before == content:
            return
        path.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
        if before is not None and what:
            replace_synced(path.with_name(f"{path.name}.before"), before)
            _log.warning(f"the {what} is another one since this node has joined; the old one is kept in {path.name}.before")
        replace_synced(path, content)
        sync_names(path.parent)
    except OSError as error:
        raise UnavailableError(
            f"cannot be written: {error.strerror}", where=str(path), mend="see who owns it, and the disk"
        ) from error
