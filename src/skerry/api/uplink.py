"""`/api/v1/uplink`: the link to the centre, and the centre's own end of it."""

import base64
import binascii

import msgspec

from skerry.api import arguments
from skerry.api.endpoints import API, Endpoint
from skerry.api.view import NodeView
from skerry.core.errors import RejectedError
from skerry.http import NotFoundError, Request, Response, json_response

MOST_BODY = 4 * 1024 * 1024 + 4096


class SignedCommand(msgspec.Struct, forbid_unknown_fields=True):
    """Body of `POST /api/v1/uplink/command`: the signed command, base64."""

    command: str


class UplinkHandlers:
    """Its endpoints."""

    def __init__(self, view: NodeView) -> None:
        self._view = view

    def endpoints(self) -> list[Endpoint]:
        """All of them, for routes and OpenAPI."""
        here = f"{API}/uplink"
        return [
            Endpoint("GET", here, self.status, "The link to the centre: what waits, what was sent, what was saved"),
            Endpoint("POST", f"{here}/pause", self.pause, "Send no more; what is to leave waits", event="uplink paused"),
            Endpoint("POST", f"{here}/resume", self.resume, "Go on sending", event="uplink resumed"),
            Endpoint("POST", f"{here}/test", self.test, "Send an empty envelope; how long that took", event="uplink tested"),
            Endpoint("POST", f"{here}/receive", self.receive, "Take an envelope of another node", max_body=MOST_BODY),
            Endpoint(
                "POST", f"{here}/command", self.command, "Keep a signed command for a node that sends its envelopes here",
                body=arguments.schema(SignedCommand), event="command given",
            ),
            Endpoint("GET", f"{here}/command/{{id}}", self.answer, "Whether a command still waits, and what its node answered"),
        ]  # fmt: skip

    async def status(self, request: Request) -> Response:
        return json_response(self._view.uplink.shown())

    async def pause(self, request: Request) -> Response:
        await self._view.uplink.hold(True)
        return json_response({"paused": True})

    async def resume(self, request: Request) -> Response:
        await self._view.uplink.hold(False)
        return json_response({"paused": False})

    async def test(self, request: Request) -> Response:
        return json_response(await self._view.uplink.test())

    async def receive(self, request: Request) -> Response:
        return json_response(await self._view.uplink.receive(request.body, request.by))

    async def command(self, request: Request) -> Response:
        given = arguments.body(request, SignedCommand)
        try:
            frame = base64.b64decode(given.command, validate=True)
        except binascii.Error as error:
            raise RejectedError(f"that is not base64: {error}", where="command") from error
        return json_response(await self._view.uplink.command(frame))

    async def answer(self, request: Request) -> Response:
        identity = request.params["id"]
        found = self._view.uplink.answer(identity)
        if found is None:
            raise NotFoundError(f"no command {identity[:80]!r} waits", mend="it has expired, or was answered before this start")
        return json_response(found)
