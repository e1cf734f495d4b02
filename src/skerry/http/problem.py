"""Errors over HTTP: problem details (RFC 9457) from an error of skerry, and the error back from them."""

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


class NotFoundError(RejectedError):
    """What the path names is not there."""


class RefusedError(RejectedError):
    """This caller may not do that."""


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
    _Kind("refused", RefusedError, 403, "Refused"),
    _Kind("config", ConfigError, 400, "Wrong configuration"),
    _Kind("rejected", RejectedError, 400, "Wrong request"),
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
    """The answer that tells an error: 400 for a wrong configuration or request, 403, 404, 409 for a fenced owner, 503 with
    Retry-After where a later try may work, else 500."""
    kind = next(kind for kind in _KINDS if isinstance(error, kind.error))
    headers = {"retry-after": _RETRY_AFTER_S} if isinstance(error, OverloadedError | UnavailableError) else {}
    return problem(kind.status, error.message, error.mend, title=kind.title, where=error.where, kind=kind.name, headers=headers)


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
    elif status in (HTTPStatus.UNAUTHORIZED, HTTPStatus.FORBIDDEN):
        guess = RefusedError
    elif status == HTTPStatus.TOO_MANY_REQUESTS:
        guess = OverloadedError
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
