"""The site's key: what devices' names are hashed with, so that nobody without it can find them by trying."""

import os
import secrets
from pathlib import Path

from skerry.core.errors import CorruptError, UnavailableError

KEY_BYTES = 32
FILE = "uplink.key"


def site_key(data_dir: Path, make: bool = True) -> bytes:
    """The key in a data directory, made where there is none; only its owner may read it.

    Without `make` nothing is written: where there is none yet, it is one for this call alone.

    Raises `CorruptError` for a file that holds none, `UnavailableError` where it cannot be read or written.
    """
    path = data_dir / FILE
    try:
        if not path.exists():
            if not make:
                return secrets.token_bytes(KEY_BYTES)
            _make(path)
        key = path.read_bytes()
    except OSError as error:
        raise UnavailableError(f"the site's key cannot be had: {error.strerror}", where=str(path)) from error
    if len(key) != KEY_BYTES:
        raise CorruptError(
            f"{len(key)} bytes are no key of {KEY_BYTES}", where=str(path), mend="restore it; a new one changes every hashed name"
        )
    return key


def _make(path: Path) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    draft = path.with_name(f"{path.name}.{secrets.token_hex(4)}")
    handle = os.open(draft, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
    try:
        with os.fdopen(handle, "wb") as file:
            file.write(secrets.token_bytes(KEY_BYTES))
            file.flush()
            os.fsync(file.fileno())
        # a link does not take the place of a key that another process made meanwhile
        os.link(draft, path)
    except FileExistsError:
        pass
    finally:
        draft.unlink(missing_ok=True)
