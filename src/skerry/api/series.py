"""`/api/v1/series`: the history's series, and their samples or what is made of them."""

from collections.abc import Mapping

from skerry.api import arguments
from skerry.api.endpoints import API, Endpoint, Parameter
from skerry.api.view import NodeView
from skerry.core.clock import Clock, SystemClock
from skerry.core.errors import ConfigError, RejectedError
from skerry.core.units import parse_duration
from skerry.http import NotFoundError, Request, Response, json_response

MOST_POINTS, DEFAULT_POINTS = 20_000, 10_000
_HOUR = 3_600_000_000
_PREFIX = Parameter("prefix", "only series whose names begin so")
_LIMIT = Parameter("limit", "rows of a page, 1 to 1000", "integer")
_AFTER = Parameter("after", "the `next` of the page before")
_FROM = Parameter("from", "not before this time: RFC 3339, or Unix seconds or milliseconds; an hour ago by default")
_TO = Parameter("to", "before this time; now by default")
_EVERY = Parameter("every", "one number for each stretch of this length, such as 1m; without it the samples")
_AGG = Parameter("agg", "mean, min, max, sum, last, count or a quantile such as p99; mean by default")
_POINTS = Parameter("limit", f"samples (or stretches) of a page, 1 to {MOST_POINTS}; {DEFAULT_POINTS} by default", "integer")


class SeriesHandlers:
    """The two endpoints."""

    def __init__(self, view: NodeView, clock: Clock | None = None) -> None:
        self._view = view
        self._clock = clock or SystemClock()

    def endpoints(self) -> list[Endpoint]:
        """Both, for routes and OpenAPI."""
        return [
            Endpoint("GET", f"{API}/series", self.series, "Series of the history, in order", (_PREFIX, _LIMIT, _AFTER)),
            Endpoint(
                "GET", f"{API}/series/{{name}}", self.points, "Samples of a series, or one number for each stretch of time",
                (_FROM, _TO, _EVERY, _AGG, _POINTS),
            ),
        ]  # fmt: skip

    async def series(self, request: Request) -> Response:
        given = arguments.query(request, ("prefix", "limit", "after"))
        limit = arguments.limit_of(given)
        names = await self._view.series(given.get("prefix", ""), given.get("after", ""), limit + 1)
        following = names[limit - 1] if len(names) > limit else None
        return json_response({"series": [{"name": name} for name in names[:limit]], "next": following})

    async def points(self, request: Request) -> Response:
        given = arguments.query(request, ("from", "to", "every", "agg", "limit"))
        name, now = request.params["name"], self._clock.now()
        end = arguments.moment_of(given.get("to"), "to")
        end = now + 1 if end is None else end  # the moment that is now is part of it
        start = arguments.moment_of(given.get("from"), "from")
        start = end - _HOUR if start is None else start
        if start > end:
            raise RejectedError("the stretch ends before it begins", where="from", mend="give `from` before `to`")
        limit = arguments.whole(given.get("limit"), "limit", 1, MOST_POINTS) or DEFAULT_POINTS
        every, aggregate = _every(given), given.get("agg") or "mean"
        page = await self._view.series_page(name, start, end, every, aggregate, limit)
        if page is None:
            raise NotFoundError(f"there is no series {name[:200]!r}", mend="see `skerry data series`")
        return json_response({"name": name, "every": given.get("every") or None, "agg": aggregate if every else None, **page})


def _every(given: Mapping[str, str]) -> int | None:
    text = given.get("every")
    if not text:
        return None
    try:
        found = parse_duration(text)
    except ConfigError as error:
        raise RejectedError(f"{text[:80]!r} will not do", where="every", mend="give a duration such as 1m") from error
    if found < 1:
        raise RejectedError(f"{text[:80]!r} will not do", where="every", mend="give a duration above 0")
    return found
