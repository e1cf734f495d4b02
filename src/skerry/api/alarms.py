"""`/api/v1/alarms`: which alarms fire, and what people did about them: acknowledged, shelved, commented on; who, and when."""

import msgspec

from skerry.api import arguments
from skerry.api.endpoints import API, Endpoint
from skerry.api.view import NodeView
from skerry.core.errors import RejectedError, suggestion
from skerry.http import NotFoundError, Request, Response, json_response

MOST_COMMENT = 2000
LONGEST_SHELF = 30 * 86_400_000_000


class Comment(msgspec.Struct, forbid_unknown_fields=True):
    """Body of `POST /api/v1/alarms/{id}/acknowledge` and `…/comment`."""

    comment: str = ""


class Shelf(msgspec.Struct, forbid_unknown_fields=True):
    """Body of `POST /api/v1/alarms/{id}/shelve`: for how long it is put out of sight, such as `2h`."""

    duration: str
    comment: str = ""


class AlarmHandlers:
    """Its endpoints."""

    def __init__(self, view: NodeView) -> None:
        self._view = view

    def endpoints(self) -> list[Endpoint]:
        """All of them, for routes and OpenAPI."""
        one = f"{API}/alarms/{{id}}"
        return [
            Endpoint("GET", f"{API}/alarms", self.alarms, "Alarms that fire, the newest first, then those that ended last"),
            Endpoint(
                "POST", f"{one}/acknowledge", self.acknowledge, "Say that somebody has seen it",
                body=arguments.schema(Comment), event="alarm acknowledged",
            ),
            Endpoint(
                "POST", f"{one}/shelve", self.shelve, "Put it out of sight for a time", body=arguments.schema(Shelf),
                event="alarm shelved",
            ),
            Endpoint("POST", f"{one}/unshelve", self.unshelve, "Have it in sight again", event="alarm unshelved"),
            Endpoint(
                "POST", f"{one}/comment", self.comment, "Write something beside it", body=arguments.schema(Comment),
                event="alarm commented on",
            ),
        ]  # fmt: skip

    async def alarms(self, request: Request) -> Response:
        arguments.query(request, ())
        return json_response(await self._view.alarms.shown())

    async def acknowledge(self, request: Request) -> Response:
        given = arguments.body(request, Comment)
        return await self._noted(request, "acknowledge", given.comment)

    async def shelve(self, request: Request) -> Response:
        given = arguments.body(request, Shelf)
        wanted = arguments.duration_of(given.duration, "duration")
        if not 0 < wanted <= LONGEST_SHELF:
            raise RejectedError(f"{given.duration[:40]!r} will not do", where="duration", mend="a duration up to 30d, such as 2h")
        return await self._noted(request, "shelve", given.comment, wanted)

    async def unshelve(self, request: Request) -> Response:
        return await self._noted(request, "unshelve", "")

    async def comment(self, request: Request) -> Response:
        given = arguments.body(request, Comment)
        if not given.comment.strip():
            raise RejectedError("the comment is empty", where="comment", mend="write something")
        return await self._noted(request, "comment", given.comment)

    async def _noted(self, request: Request, what: str, comment: str, duration: int = 0) -> Response:
        if len(comment) > MOST_COMMENT:
            raise RejectedError(f"the comment has {len(comment)} characters", where="comment", mend=f"at most {MOST_COMMENT}")
        wanted = request.params["id"]
        row = await self._view.alarms.note(wanted, what, request.by or "unix", comment, duration)
        if row is None:
            known = [str(each["alarm_id"]) for each in (await self._view.alarms.shown())["alarms"]]
            raise NotFoundError(f"there is no alarm {wanted[:80]!r}{suggestion(wanted, known)}", mend=f"see {API}/alarms")
        return json_response(row)
