"""Errors over HTTP: problem details (RFC 9457) from an error of skerry, and the error back from them."""

import math
from collections.abc import Mapping
from http import HTTPStatus

import msgspec

from skerry.core.errors import (
    ConfigError,
    CorruptError,
    FencedError,
    InsufficientResources,
    OverloadedError,
    RejectedError,
    SkerryError,
    UnavailableError,
)  # fmt: skip
from skerry.http.messages import Response

PROBLEM_TYPE = "application/problem+json"
_RETRY_AFTER_S = "1"
_BEARER = 'Bearer realm="skerry"'


class NotFoundError(RejectedError):
    """What the path names is not there."""


class RefusedError(RejectedError):
    """This caller may not do that. `scope`: what its token lacks, where that is why."""

    def __init__(self, message: str, *, where: str = "", mend: str = "", scope: str = "") -> None:
        super().__init__(message, where=where, mend=mend)
        self.scope = scope


class UnauthorizedError(RefusedError):
    """Nobody knows who asks. `wrong`: a token was given, and it is not (or no longer) known."""

    def __init__(self, message: str, *, where: str = "", mend: str = "", wrong: bool = False) -> None:
        super().__init__(message, where=where, mend=mend)
        self.wrong = wrong


class TooManyRequestsError(OverloadedError):
    """This source asks too often. `wait`: seconds after which it may ask again."""

    def __init__(self, message: str, *, where: str = "", mend: str = "", wait: float = 1.0) -> None:
        super().__init__(message, where=where, mend=mend)
        self.wait = wait


class UnreachableError(UnavailableError):
    """Nobody answers at the address."""


class _Kind(msgspec.Struct, frozen=True):
    name: str
    error: type[SkerryError]
    status: int
    title: str


# the first that fits counts, so subclasses stand before their base
_KINDS = (
    _Kind("not-found", NotFoundError, 404, "Not found"),
    _Kind("unauthorized", UnauthorizedError, 401, "Not authorised"),
    _Kind("refused", RefusedError, 403, "Refused"),
    _Kind("config", ConfigError, 400, "Wrong configuration"),
    _Kind("rejected", RejectedError, 400, "Wrong request"),
    _Kind("too-many-requests", TooManyRequestsError, 429, "Too many requests"),
    _Kind("overloaded", OverloadedError, 503, "Overloaded"),
    _Kind("unavailable", UnavailableError, 503, "Not available now"),
    _Kind("insufficient-resources", InsufficientResources, 503, "Not enough resources"),
    _Kind("fenced", FencedError, 409, "Another owner has taken over"),
    _Kind("corrupt", CorruptError, 500, "Damaged data"),
    _Kind("error", SkerryError, 500, "It did not work"),
)
_PREFIX = "urn:skerry:"


class _Problem(msgspec.Struct):
    type: str = "about:blank"
    title: str = ""
    status: int = 0
    detail: str = ""
    where: str = ""
    mend: str = ""


def problem(
    status: int, detail: str, mend: str = "", *, title: str = "", where: str = "", kind: str = "",
    headers: Mapping[str, str] | None = None,
) -> Response:  # fmt: skip
    """A problem answer: `{type, title, status, detail, where, mend}`; the title of a bare status is HTTP's own phrase."""
    body = _Problem(
        type=_PREFIX + kind if kind else "about:blank",
        title=title or HTTPStatus(status).phrase,
        status=status,
        detail=detail,
        where=where,
        mend=mend,
    )
    return Response(status, {"content-type": PROBLEM_TYPE, **(headers or {})}, msgspec.json.encode(body))


def problem_of(error: SkerryError) -> Response:
    """The answer that tells an error: 400 for a wrong configuration or request, 401 and 403 with what is asked for in
    WWW-Authenticate, 404, 409 for a fenced owner, 429 and 503 with Retry-After, else 500."""
    kind = next(kind for kind in _KINDS if isinstance(error, kind.error))
    headers = _headers_of(error)
    return problem(kind.status, error.message, error.mend, title=kind.title, where=error.where, kind=kind.name, headers=headers)


def _headers_of(error: SkerryError) -> dict[str, str]:
    """RFC 6750, section 3: without a token there is no error code; RFC 9110, section 10.2.3: whole seconds."""
    if isinstance(error, UnauthorizedError):
        return {"www-authenticate": _BEARER + (', error="invalid_token"' if error.wrong else "")}
    if isinstance(error, RefusedError) and error.scope:
        return {"www-authenticate": f'{_BEARER}, error="insufficient_scope", scope="{error.scope}"'}
    if isinstance(error, TooManyRequestsError):
        return {"retry-after": str(max(1, math.ceil(error.wait)))}
    return {"retry-after": _RETRY_AFTER_S} if isinstance(error, OverloadedError | UnavailableError) else {}


def error_of(status: int, content_type: str, body: bytes) -> SkerryError:
    """The error that an answer of 400 or more tells; without problem details its kind is guessed from the status."""
    found = _Problem(status=status)
    if content_type.partition(";")[0].strip() == PROBLEM_TYPE:
        try:
            found = msgspec.json.decode(body, type=_Problem)
        except msgspec.MsgspecError:
            found = _Problem(status=status)
    named = found.type.removeprefix(_PREFIX)
    for kind in _KINDS:
        if kind.name == named:
            return kind.error(found.detail, where=found.where, mend=found.mend)
    detail = found.detail or f"the answer was {status} {_phrase(status)}".rstrip()
    guess: type[SkerryError] = SkerryError
    if status == HTTPStatus.NOT_FOUND:
        guess = NotFoundError
    elif status == HTTPStatus.UNAUTHORIZED:
        guess = UnauthorizedError
    elif status == HTTPStatus.FORBIDDEN:
        guess = RefusedError
    elif status == HTTPStatus.TOO_MANY_REQUESTS:
        guess = TooManyRequestsError
    elif status < HTTPStatus.INTERNAL_SERVER_ERROR:
        guess = RejectedError
    elif status in (HTTPStatus.BAD_GATEWAY, HTTPStatus.SERVICE_UNAVAILABLE, HTTPStatus.GATEWAY_TIMEOUT):
        guess = UnavailableError
    return guess(detail, where=found.where, mend=found.mend)


def _phrase(status: int) -> str:
    try:
        return HTTPStatus(status).phrase
    except ValueError:
        return ""
