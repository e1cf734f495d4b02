"""The gate of the API: each request is named, judged and counted before it is answered; refusals and changes are noted."""

import asyncio
import socket
from collections import Counter
from collections.abc import AsyncGenerator, AsyncIterator, Callable, Iterable
from contextlib import suppress
from typing import Protocol

import msgspec

from skerry.api.config import ApiConfig
from skerry.api.endpoints import Noted
from skerry.api.guard import SAFE, Policy, bearer_of, check
from skerry.api.limits import Buckets, source_of
from skerry.api.scopes import Scope, covers
from skerry.api.token_file import Token
from skerry.api.tokens import TokenStore
from skerry.core.clock import Clock
from skerry.core.errors import SkerryError
from skerry.core.service import end_chunks
from skerry.http import (
    UNIX,
    RefusedError,
    Request,
    Response,
    Stream,
    TooManyRequestsError,
    UnauthorizedError,
    message,
    problem_of,
)

REFUSED = ("no-token", "wrong-token", "scope", "other-site", "rate")
"""Why requests are refused; the keys of `Gate.refused`."""
WRONG_AT_ONCE, WRONG_A_MINUTE = 20, 20
LEAST_AT_ONCE = 10.0
LOOK_S = 1.0
_SUBJECT = ("id", "name", "version")


class Audit(Protocol):
    """Where it is noted who did what."""

    def note(self, event: str, *, by: str = "", address: str = "", reason: str = "", **fields: object) -> None:
        """Write down one event; never waits, never raises."""
        ...


class Gate:
    """Judges requests by tokens, place and rate.

    A right token is never held up by what others do: it is looked at first, and counted by its own name. Wrong ones are counted by
    the address they come from, and after some are answered 429. Requests over the Unix socket are not counted.

    Attributes:
        refused: how many requests were refused, by reason.
    """

    def __init__(self, config: ApiConfig, tokens: TokenStore, clock: Clock, audit: Audit, names: Iterable[str] = ()) -> None:
        self.refused: Counter[str] = Counter()
        self._tokens = tokens
        self._audit = audit
        self._policy = Policy(
            loopback=config.loopback or "none",
            names=_names(config, names),
            beyond=config.beyond,
            secure=bool(config.tls),
        )
        rate = config.requests_per_s
        self._requests = Buckets(rate, max(LEAST_AT_ONCE, 2 * rate), clock)
        self._wrong = Buckets(WRONG_A_MINUTE / 60, WRONG_AT_ONCE, clock)

    def admit(self, request: Request, scope: Scope | None) -> Request:
        """The request with who asks. Raises `RefusedError`, `UnauthorizedError` or `TooManyRequestsError` unless it is let in."""
        if request.remote == UNIX:
            return request
        source, by, token = source_of(request.remote), "", None
        try:
            token = None if scope is None else self._token(request, source)
            by = f"token:{token.name}" if token is not None else ""
            self._judge(request, scope, token, by or source)
        except (RefusedError, TooManyRequestsError) as error:
            reason = _reason(error)
            self.refused[reason] += 1
            self._audit.note(
                "api request refused",
                by=by,
                address=request.remote,
                reason=reason,
                method=request.method,
                path=request.path,
                why=error.message,
            )
            raise
        return msgspec.structs.replace(request, by=by or "loopback")

    def note(self, request: Request, event: str, answer: Response, noted: Noted | None = None) -> None:
        """Note a change that was made: who made it and from where."""
        if request.method in SAFE or answer.status >= 400:
            return
        given = {**request.params, **_subject(request.body)}
        fields: dict[str, object] = {name: given[name] for name in _SUBJECT if name in given}
        fields |= {} if event else {"method": request.method, "path": request.path}
        fields |= noted(request, answer) if noted is not None else {}
        reason = str(fields.pop("reason", ""))
        address = "" if request.remote == UNIX else request.remote
        self._audit.note(event or "api change", by=request.by, address=address, reason=reason, **fields)

    def while_good(self, request: Request, scope: Scope | None, stream: Stream) -> Stream:
        """The stream; one that was let in by a token ends within seconds after that was revoked or has expired."""
        secret = bearer_of(request.headers)
        if request.remote == UNIX or scope is None or secret is None:
            return stream

        def good() -> bool:
            found = self._tokens.find(secret)
            return found is not None and covers(found.scopes, scope)

        return Stream(_while_good(stream.chunks, good), stream.headers)

    def _token(self, request: Request, source: str) -> Token | None:
        """The token that a request bears, None where it bears none."""
        secret = bearer_of(request.headers)
        if secret is None:
            return None
        found = self._tokens.find(secret)
        if found is None:
            if wait := self._wrong.take(source):
                raise TooManyRequestsError("too many wrong tokens from this address", mend="try again later", wait=wait)
            raise UnauthorizedError(
                "this token is not known here, or no longer", mend="see `skerry token list` on the node", wrong=True
            )
        return found

    def _judge(self, request: Request, scope: Scope | None, token: Token | None, counted: str) -> None:
        refusal: RefusedError | None = None
        try:
            check(request, self._policy, scope, None if token is None else token.scopes)
        except RefusedError as error:
            refusal = error
        # these two have limits of their own: a queue that is full answers 503, and log-ins slow down by device and source
        limited = scope == "infer" or request.path.startswith("/auth/")
        if refusal is not None or not limited:
            wait = self._requests.take(counted)
            if wait:
                raise TooManyRequestsError("too many requests at once (api.rate)", mend="ask less often", wait=wait)
        if refusal is not None:
            raise refusal


def _names(config: ApiConfig, more: Iterable[str]) -> frozenset[str]:
    """Names that mean this node. Of a node that listens on loopback alone those of the machine are none."""
    found = [*config.hosts]
    if config.beyond:
        own = socket.gethostname()
        found += [config.address[0], own, f"{own.partition('.')[0]}.local", *more]
    return frozenset(name.lower().rstrip(".") for name in found if name)


def _reason(error: SkerryError) -> str:
    if isinstance(error, TooManyRequestsError):
        return "rate"
    if isinstance(error, UnauthorizedError):
        return "wrong-token" if error.wrong else "no-token"
    return "scope" if isinstance(error, RefusedError) and error.scope else "other-site"


class _Subject(msgspec.Struct, omit_defaults=True):
    id: str = ""
    name: str = ""
    version: str | None = None


def _subject(body: bytes) -> dict[str, str]:
    """What a body says about whom; nothing else of it is noted, since it may hold a secret."""
    if body:
        with suppress(msgspec.MsgspecError, ValueError):
            found: dict[str, str] = msgspec.to_builtins(msgspec.json.decode(body, type=_Subject))
            return found
    return {}


async def _while_good(chunks: AsyncIterator[bytes], good: Callable[[], bool]) -> AsyncGenerator[bytes, None]:
    following: asyncio.Future[bytes] | None = None
    try:
        while good():
            following = following or asyncio.ensure_future(anext(chunks))
            done, _ = await asyncio.wait((following,), timeout=LOOK_S)
            if done and good():
                chunk, following = following.result(), None
                yield chunk
        yield message(problem_of(UnauthorizedError("the token was revoked, or has expired", wrong=True)).body, event="error")
    except StopAsyncIteration:
        return
    finally:
        await end_chunks(chunks, following)
