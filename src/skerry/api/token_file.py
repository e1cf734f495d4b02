"""The file that tokens are kept in: JSON, mode 0600, written whole, changed under a lock."""

import fcntl
import os
import re
import stat
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import msgspec

from skerry.api.scopes import Scope
from skerry.core.clock import from_rfc3339, to_rfc3339
from skerry.core.errors import ConfigError, CorruptError, UnavailableError
from skerry.core.files import replace_synced

_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._@-]{0,63}")
_DIGEST = re.compile(r"[0-9a-f]{64}")
_LOCK_TRIES, _LOCK_PAUSE_S = 100, 0.05


class Token(msgspec.Struct, frozen=True):
    """What is kept of a token. Times are microseconds; `expires` None: never; `used` None: not yet, else the hour it began."""

    name: str
    scopes: tuple[Scope, ...]
    sha256: str
    created: int
    expires: int | None = None
    used: int | None = None

    def expired(self, now: int) -> bool:
        return self.expires is not None and now >= self.expires

    def row(self, now: int) -> dict[str, Any]:
        """What may be shown of it."""
        return {
            "name": self.name,
            "scopes": list(self.scopes),
            "created": to_rfc3339(self.created),
            "expires": _time(self.expires),
            "expired": self.expired(now),
            "last_used": _time(self.used),
        }


class _Row(msgspec.Struct, forbid_unknown_fields=True):
    name: str
    scopes: tuple[Scope, ...]
    sha256: str
    created: str
    expires: str | None = None
    used: str | None = None


class _File(msgspec.Struct, forbid_unknown_fields=True):
    tokens: list[_Row]


def is_name(text: str) -> bool:
    """Whether a token may be called so."""
    return _NAME.fullmatch(text) is not None


def mark_of(file: Path) -> tuple[int, ...]:
    """Changes when the file does."""
    try:
        found = file.stat()
    except OSError:
        return ()
    return found.st_ino, found.st_size, found.st_mtime_ns, found.st_mode


def read_tokens(file: Path) -> list[Token]:
    """The tokens of a file; none where there is no file.

    Raises `UnavailableError` where it cannot be read, `ConfigError` where others may write to it, `CorruptError`."""
    try:
        with file.open("rb") as opened:
            mode = stat.S_IMODE(os.fstat(opened.fileno()).st_mode)
            content = opened.read()
    except FileNotFoundError:
        return []
    except OSError as error:
        raise UnavailableError(f"cannot be read: {error.strerror}", where=str(file), mend="see whose it is") from error
    if mode & 0o022:
        raise ConfigError(f"others may write to it (mode {mode:o})", where=str(file), mend=f"chmod 600 {file}")
    try:
        return [_token(row) for row in msgspec.json.decode(content, type=_File).tokens]
    except (msgspec.MsgspecError, ValueError) as error:
        raise CorruptError(
            f"holds no tokens as they were written: {str(error)[:200]}",
            where=str(file),
            mend="mend it, or remove it and make new ones",
        ) from error


def write_tokens(file: Path, tokens: list[Token]) -> None:
    """Write all of them, durably. Raises `UnavailableError`; the file is as it was then."""
    rows = [
        _Row(token.name, token.scopes, token.sha256, to_rfc3339(token.created), _time(token.expires), _time(token.used))
        for token in tokens
    ]
    content = msgspec.json.format(msgspec.json.encode(_File(rows)), indent=1) + b"\n"
    try:
        replace_synced(file, content)
    except OSError as error:
        raise _unwritable(file, error) from error


@contextmanager
def locked(file: Path) -> Iterator[None]:
    """Alone among all who change the file: a lock on its directory, which leaves no file behind. What was renamed there is durable
    afterwards. Raises `UnavailableError`."""
    try:
        file.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
        descriptor = os.open(file.parent, os.O_RDONLY | os.O_CLOEXEC)
    except OSError as error:
        raise _unwritable(file, error) from error
    try:
        _lock(descriptor, file)
        yield
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def _lock(descriptor: int, file: Path) -> None:
    pause = threading.Event()
    for _ in range(_LOCK_TRIES):
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            pause.wait(_LOCK_PAUSE_S)
        else:
            return
    raise UnavailableError("is being changed by another process", where=str(file), mend="try again")


def _token(row: _Row) -> Token:
    if not is_name(row.name) or _DIGEST.fullmatch(row.sha256) is None or not row.scopes:
        raise ValueError(f"the token {row.name[:64]!r} has a wrong name, sha256 or scopes")
    expires = None if row.expires is None else from_rfc3339(row.expires)
    used = None if row.used is None else from_rfc3339(row.used)
    return Token(row.name, row.scopes, row.sha256, from_rfc3339(row.created), expires, used)


def _time(moment: int | None) -> str | None:
    return None if moment is None else to_rfc3339(moment)


def _unwritable(file: Path, error: OSError) -> UnavailableError:
    mend = "see whose it is, and the room on the disk"
    return UnavailableError(f"cannot be written: {error.strerror}", where=str(file), mend=mend)
