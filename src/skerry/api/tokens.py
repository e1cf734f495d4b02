"""Bearer tokens (RFC 6750): who may ask the node, and for what. Kept as SHA-256 only, so that what is on the disk opens no door.

A token is `sk_` and 256 random bits. The digest of such a token needs no salt and no slow hash: there is nothing to guess.
"""

import hashlib
import hmac
import secrets
import threading
from collections.abc import Callable, Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any

import msgspec

from skerry.api.scopes import parse_scopes
from skerry.api.token_file import Token, is_name, locked, mark_of, read_tokens, write_tokens
from skerry.core import log
from skerry.core.clock import SECOND, Clock
from skerry.core.errors import CorruptError, RejectedError, SkerryError, suggestion
from skerry.core.units import at_key, parse_duration
from skerry.http import NotFoundError

PREFIX = "sk_"
SECRET_BYTES = 32
MOST_TOKENS = 256
USED_TO = 3_600 * SECOND
"""How exactly the last use is kept."""
_LONGEST = 256
_LONGEST_LIFE = 100 * 31_557_600 * SECOND
_log = log.get("api")


class TokenStore:
    """The tokens of one file, which is made with the first; without a file they live as long as the process.

    Several processes may change the file: each change is made on what is there then, under a lock. `refresh` takes what others
    changed. Calls that write block for as long as the disk takes: in a loop, call them in a thread.

    Attributes:
        trouble: why the file is not as it should be, one sentence; what was read before counts until it is mended.
    """

    def __init__(self, file: Path | None, clock: Clock) -> None:
        self.trouble = ""
        self._file = file
        self._clock = clock
        self._found: dict[str, Token] = {}  # by digest; replaced whole, so that readers need no lock
        self._uses: dict[str, int] = {}  # by digest, not yet in the file
        self._mark: tuple[int, ...] = ()
        self._busy = threading.Lock()
        self.refresh()

    def __len__(self) -> int:
        return len(self._found)

    def find(self, secret: str) -> Token | None:
        """The token that this is, unless it has expired. Its use is remembered, to the hour.

        Looked up by its digest, which tells nothing about other tokens however long it takes; what was found is compared in
        constant time.
        """
        if len(secret) > _LONGEST or not secret.startswith(PREFIX):
            return None
        digest = _digest(secret)
        found, now = self._found.get(digest), self._clock.now()
        if found is None or not hmac.compare_digest(found.sha256, digest) or found.expired(now):
            return None
        hour = now - now % USED_TO
        if found.used is None or hour > found.used:
            self._uses[digest] = hour
        return found

    def rows(self) -> list[dict[str, Any]]:
        """All tokens as they may be shown, by name."""
        now = self._clock.now()
        used = [self._with_use(token) for token in self._found.values()]
        return [token.row(now) for token in sorted(used, key=lambda token: token.name)]

    def create(self, name: str, scopes: Sequence[str], expires_in: str | None = None) -> tuple[dict[str, Any], str]:
        """Make a token; what may be shown of it, and the secret, which is nowhere else from now on.

        Raises `RejectedError` for a name that will not do or is taken, and `ConfigError` for a duration that is none."""
        if not is_name(name):
            mend = "1 to 64 letters, digits and . _ @ -, a letter or digit first"
            raise RejectedError(f"{name!r} will not do as a name", where="name", mend=mend)
        chosen, now, life = parse_scopes(scopes), self._clock.now(), _life(expires_in)
        secret = PREFIX + secrets.token_urlsafe(SECRET_BYTES)
        token = Token(name, chosen, _digest(secret), now, None if life is None else now + life)

        def added(found: list[Token]) -> list[Token]:
            kept = [each for each in found if each.name != name or not each.expired(now)]
            if any(each.name == name for each in kept):
                mend = "revoke it first, or choose another name"
                raise RejectedError(f"there is a token {name!r} already", where="name", mend=mend)
            if len(kept) >= MOST_TOKENS:
                raise RejectedError(f"there are {len(kept)} tokens already", mend="revoke those that nobody uses")
            return [*kept, token]

        self._change(added)
        return token.row(now), secret

    def revoke(self, name: str) -> None:
        """Forget a token: it is refused from now on. Raises `NotFoundError`."""

        def without(found: list[Token]) -> list[Token]:
            kept = [each for each in found if each.name != name]
            if len(kept) == len(found):
                near = suggestion(name, [each.name for each in found])
                raise NotFoundError(f"there is no token {name!r}{near}", mend="see `skerry token list`")
            return kept

        self._change(without)

    def exported(self) -> bytes:
        """All tokens for another node, without their uses."""
        self.refresh()
        rows = [msgspec.structs.replace(token, used=None) for token in self._found.values()]
        return msgspec.json.encode(sorted(rows, key=lambda token: token.name))

    def adopt(self, data: bytes) -> None:
        """Have what another node exported. Raises `CorruptError` for what is none, `UnavailableError` of the disk."""
        try:
            wanted = msgspec.json.decode(data, type=list[Token])
        except msgspec.MsgspecError as error:
            raise CorruptError(f"the tokens of another node cannot be read: {error}") from error

        def taken(found: list[Token]) -> list[Token]:
            used = {token.sha256: token.used for token in found}
            return [msgspec.structs.replace(token, used=used.get(token.sha256)) for token in wanted]

        self._change(taken)

    def flush(self) -> None:
        """Write down the last uses, where there are new ones. A disk that is full costs them, nothing more."""
        if self._uses:
            with suppress(SkerryError):
                self._change(list)

    def refresh(self) -> None:
        """Read the file again if it is another one than was read last. A damaged one changes nothing but `trouble`."""
        if self._file is None:
            return
        with self._busy:
            mark = mark_of(self._file)
            if mark == self._mark:
                return
            self._mark = mark
            try:
                self._take(read_tokens(self._file))
            except SkerryError as error:
                self.trouble = str(error)
                _log.error(f"the tokens were not read: {error}")

    def _take(self, tokens: list[Token]) -> None:
        self._found = {token.sha256: token for token in tokens}
        self.trouble = ""

    def _change(self, change: Callable[[list[Token]], list[Token]]) -> None:
        """Make a change on what the file holds now, write it, and count it from here on."""
        with self._busy:
            if self._file is None:
                self._take(change(list(self._found.values())))
                return
            with locked(self._file):
                uses, self._uses = self._uses, {}
                tokens = [_used(token, uses.get(token.sha256)) for token in change(read_tokens(self._file))]
                write_tokens(self._file, tokens)
                self._mark = mark_of(self._file)
            self._take(tokens)

    def _with_use(self, token: Token) -> Token:
        return _used(token, self._uses.get(token.sha256))


def _used(token: Token, hour: int | None) -> Token:
    return token if hour is None else msgspec.structs.replace(token, used=max(hour, token.used or 0))


def _digest(secret: str) -> str:
    return hashlib.sha256(secret.encode("utf-8", "surrogatepass")).hexdigest()


def _life(text: str | None) -> int | None:
    """Microseconds, None for ever."""
    if not text:
        return None
    life = at_key("expires_in", parse_duration, text)
    if not SECOND <= life <= _LONGEST_LIFE:
        raise RejectedError(f"{text!r} will not do", where="expires_in", mend="1s to 100y")
    return life
