"""Query parameters and bodies of requests, checked. Pure; everything wrong is a `RejectedError` that names it."""

import math
from collections.abc import Mapping, Sequence
from typing import Any, TypeVar

import msgspec

from skerry.core.clock import from_number, from_rfc3339, in_calendar
from skerry.core.errors import ConfigError, RejectedError, suggestion
from skerry.core.units import parse_duration
from skerry.http import Request

DEFAULT_LIMIT = 100
MOST_LIMIT = 1000
S = TypeVar("S", bound=msgspec.Struct)


def query(request: Request, known: Sequence[str]) -> Mapping[str, str]:
    """The query, whose names must all be known ones."""
    for name in request.query:
        if name not in known:
            raise RejectedError(f"unknown parameter {name!r}{suggestion(name, known)}", where=request.path, mend=_allowed(known))
    return request.query


def _allowed(known: Sequence[str]) -> str:
    return f"allowed: {', '.join(known)}" if known else "this takes none"


def limit_of(given: Mapping[str, str], name: str = "limit") -> int:
    """How many rows a page has, 1 to 1000; 100 by default."""
    return whole(given.get(name), name, 1, MOST_LIMIT) or DEFAULT_LIMIT


def whole(text: str | None, name: str, least: int, most: int) -> int | None:
    """A whole number within bounds, or None where there is none."""
    if text is None or text == "":
        return None
    number = int(text) if text.isascii() and text.isdigit() and len(text) <= 20 else -1
    if not least <= number <= most:
        raise RejectedError(f"{text!r} will not do", where=name, mend=f"a whole number from {least} to {most}")
    return number


def duration_of(text: str | None, name: str) -> int:
    """Microseconds of a duration such as `30d`; 0 where there is none."""
    try:
        return parse_duration(text) if text else 0
    except ConfigError as error:
        raise RejectedError(f"{text!r} is not a duration", where=name, mend='such as "30d" or "12h"') from error


def moment_of(text: str | None, name: str) -> int | None:
    """Microseconds of RFC 3339, or of Unix seconds or milliseconds."""
    if not text:
        return None
    try:
        number = float(text)
    except ValueError:
        number = math.nan
    try:
        # a `+` that the caller did not encode arrives as a space
        return in_calendar(from_rfc3339(text.replace(" ", "+")) if math.isnan(number) else from_number(number))
    except (ValueError, OverflowError) as error:
        raise RejectedError(f"{text!r} is not a time", where=name, mend="RFC 3339, or Unix seconds or milliseconds") from error


def schema(kind: type[msgspec.Struct]) -> dict[str, Any]:
    """JSON Schema of a body."""
    found: dict[str, Any] = msgspec.json.schema(kind)["$defs"][kind.__name__]
    return found


def body(request: Request, kind: type[S]) -> S:
    """The body as a struct."""
    try:
        return msgspec.json.decode(request.body or b"{}", type=kind)
    except (msgspec.MsgspecError, UnicodeDecodeError, RecursionError) as error:
        raise RejectedError(f"the body will not do: {str(error)[:200]}", where=request.path, mend="send a JSON object") from error
