"""What all members of a cluster have in common, as files of the data directory: given by a member, kept by who joins."""

from collections.abc import Mapping
from pathlib import Path

from skerry.core.errors import UnavailableError
from skerry.core.files import replace_synced, sync_names

SHARED = {
    "ca.pem": "tls/ca.pem",
    "ca.key": "tls/ca.key",
    "issuer.seed": "keys/issuer.seed",
    "ticket.pem": "keys/ticket.pem",
}
"""By the name in `Joined.share`: the site's authority, what signs log-ins and devices' tokens, and what signs join tokens."""


def shared(data_dir: Path) -> dict[str, str]:
    """What a node is given that joins. Raises `UnavailableError`."""
    found = {}
    for name, place in SHARED.items():
        try:
            found[name] = (data_dir / place).read_text("utf-8")
        except OSError as error:
            raise UnavailableError(f"cannot be read: {error.strerror}", where=str(data_dir / place)) from error
    return found


def take(data_dir: Path, share: Mapping[str, str]) -> None:
    """Keep what a member gave, in the place of what this node had made for itself. Raises `UnavailableError`."""
    for name, place in SHARED.items():
        if name not in share:
            continue
        path = data_dir / place
        try:
            path.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
            if path.is_file() and path.read_bytes() != share[name].encode():
                path.replace(path.with_name(f"{path.name}.before-joining"))
            replace_synced(path, share[name].encode())
            sync_names(path.parent)
        except OSError as error:
            raise UnavailableError(
                f"cannot be written: {error.strerror}", where=str(path), mend="see who owns it, and the disk"
            ) from error
