"""`/api/v1/pipelines/{name}/deadletters`: what no event could come of; looked at, processed again, forgotten, each or all."""

from collections.abc import Callable

import msgspec

from skerry.api import arguments
from skerry.api.endpoints import API, Endpoint, Parameter
from skerry.api.view import NodeView
from skerry.core.errors import RejectedError
from skerry.http import Request, Response, json_response
from skerry.pipeline import MOST_IDS, LetterFilter

LONGEST_WHY = 200
SHOWN_IDS = 8
_QUERY = (
    Parameter("limit", "rows of a page, 1 to 1000", "integer"),
    Parameter("after", "the `next` of the page before"),
    Parameter("id", "only this one, with all that is inside"),
    Parameter("reason", "only of this reason, such as late"),
    Parameter("key", "only of this key (device)"),
)


class ChosenLetters(msgspec.Struct, forbid_unknown_fields=True):
    """Body of `…/deadletters/retry`: which; without anything all."""

    ids: list[str] = []
    reason: str = ""
    key: str = ""


class ForgottenLetters(msgspec.Struct, forbid_unknown_fields=True):
    """Body of `…/deadletters/drop`: which, without anything all; and why, for the audit log."""

    ids: list[str] = []
    reason: str = ""
    key: str = ""
    why: str = ""


class DeadLetterHandlers:
    """The three endpoints; `known` gives the pipeline of a request, or refuses it."""

    def __init__(self, view: NodeView, known: Callable[[Request], str]) -> None:
        self._view = view
        self._known = known

    def endpoints(self) -> list[Endpoint]:
        """All of them, for routes and OpenAPI."""
        here = f"{API}/pipelines/{{name}}/deadletters"
        retried, dropped = (arguments.schema(kind) for kind in (ChosenLetters, ForgottenLetters))
        return [
            Endpoint("GET", here, self.deadletters, "Dead letters, oldest first", _QUERY),
            Endpoint(
                "POST", f"{here}/retry", self.retry, "Process dead letters again: those of the body, or all", body=retried,
                event="dead letters retried", noted=_noted,
            ),
            Endpoint(
                "POST", f"{here}/drop", self.drop, "Forget dead letters: those of the body, or all", body=dropped,
                event="dead letters dropped", noted=_noted,
            ),
        ]  # fmt: skip

    async def deadletters(self, request: Request) -> Response:
        name = self._known(request)
        given = arguments.query(request, [each.name for each in _QUERY])
        ids = frozenset({given["id"]}) if given.get("id") else frozenset[str]()
        which = LetterFilter(ids, given.get("reason", ""), given.get("key", ""))
        letters, following = await self._view.deadletters(name, arguments.limit_of(given), given.get("after"), which)
        return json_response({"dead_letters": letters, "next": following})

    async def retry(self, request: Request) -> Response:
        which = _which(arguments.body(request, ChosenLetters))
        return json_response({"retried": await self._view.deadletters_retry(self._known(request), which)})

    async def drop(self, request: Request) -> Response:
        given = arguments.body(request, ForgottenLetters)
        if len(given.why) > LONGEST_WHY:
            raise RejectedError(f"it has {len(given.why)} characters", where="why", mend=f"at most {LONGEST_WHY}")
        return json_response({"dropped": await self._view.deadletters_drop(self._known(request), _which(given))})


def _which(given: ChosenLetters | ForgottenLetters) -> LetterFilter:
    if len(given.ids) > MOST_IDS:
        mend = f"at most {MOST_IDS}; `reason` and `key` take all of a kind"
        raise RejectedError(f"there are {len(given.ids)}", where="ids", mend=mend)
    return LetterFilter(frozenset(given.ids), given.reason, given.key)


def _noted(request: Request, answer: Response) -> dict[str, object]:
    """For the audit log: how many went, which were asked for, and why."""
    given = arguments.body(request, ForgottenLetters)
    more = f" and {len(given.ids) - SHOWN_IDS} more" if len(given.ids) > SHOWN_IDS else ""
    count = next(iter(msgspec.json.decode(answer.body, type=dict[str, int]).values()))
    found: dict[str, object] = {"messages": count, "reason": given.why}
    chosen = {"ids": ", ".join(given.ids[:SHOWN_IDS]) + more, "of_reason": given.reason, "key": given.key}
    return {**found, **{name: value for name, value in chosen.items() if value}}
