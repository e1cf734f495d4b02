"""`/api/v1/log` and `/api/v1/audit`: what the node wrote down of itself, and who got in and changed what."""

from skerry.api import arguments
from skerry.api.endpoints import API, Endpoint, Parameter
from skerry.api.view import NodeView
from skerry.core.clock import to_rfc3339
from skerry.core.errors import RejectedError, suggestion
from skerry.core.journal import LEVELS, Sieve
from skerry.http import Request, Response, json_response

MOST_LAST, DEFAULT_LAST = 1000, 100
LONGEST_WORD = 200
_COMMON = (
    Parameter("name", "only what names this device, token or address"),
    Parameter("text", "only what holds this text, in upper or lower case"),
    Parameter("since", "not before this time: RFC 3339, or Unix seconds or milliseconds"),
    Parameter("last", f"how many of the newest, 1 to {MOST_LAST}; {DEFAULT_LAST} by default", "integer"),
)
_LOG = (
    Parameter("level", f"of at least this weight: {', '.join(LEVELS)}"),
    Parameter("part", "only of this part of the node, such as broker, node or worker"),
    *_COMMON,
)


class JournalHandlers:
    """The two endpoints."""

    def __init__(self, view: NodeView) -> None:
        self._view = view

    def endpoints(self) -> list[Endpoint]:
        """Both, for routes and OpenAPI."""
        return [
            Endpoint("GET", f"{API}/log", self.log, "The newest lines of the node's log that fit, oldest first", _LOG),
            Endpoint("GET", f"{API}/audit", self.audit, "The newest lines of the audit log that fit, oldest first", _COMMON),
        ]

    async def log(self, request: Request) -> Response:
        return json_response(await self._view.journal.log(*_wanted(request, _LOG)))

    async def audit(self, request: Request) -> Response:
        return json_response(await self._view.journal.audit(*_wanted(request, _COMMON)))


def _wanted(request: Request, known: tuple[Parameter, ...]) -> tuple[Sieve, int]:
    given = arguments.query(request, [each.name for each in known])
    level = given.get("level", "")
    if level and level not in LEVELS:
        raise RejectedError(
            f"{level[:40]!r} is no level{suggestion(level, LEVELS)}", where="level", mend=f"allowed: {', '.join(LEVELS)}"
        )
    words = {name: given.get(name, "") for name in ("part", "name", "text")}
    for name, word in words.items():
        if len(word) > LONGEST_WORD:
            raise RejectedError(f"it has {len(word)} characters", where=name, mend=f"at most {LONGEST_WORD}")
    since = arguments.moment_of(given.get("since"), "since")
    sieve = Sieve(level, **words, since="" if since is None else to_rfc3339(since))
    return sieve, arguments.whole(given.get("last"), "last", 1, MOST_LAST) or DEFAULT_LAST
