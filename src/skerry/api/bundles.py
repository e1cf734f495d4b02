"""`/api/v1/bundles`: signed bundles taken in, applied and taken back."""

import msgspec

from skerry.api import arguments
from skerry.api.endpoints import API, Endpoint
from skerry.api.view import NodeView
from skerry.http import Request, Response, json_response

MOST_BODY = 64 * 1024 * 1024
"""Bytes of a bundle that is sent; a larger one is named as a file on the node's computer."""


class BundleFrom(msgspec.Struct, forbid_unknown_fields=True):
    """Body of `POST /api/v1/bundles` as JSON: `file` is a path on the node's computer."""

    file: str


class Application(msgspec.Struct, forbid_unknown_fields=True):
    """Body of `POST /api/v1/bundles/{id}/apply`: a duration, and how many further dead letters are let pass meanwhile."""

    probation: str = ""
    dead_letters: int = 0


class BundleHandlers:
    """Its endpoints."""

    def __init__(self, view: NodeView) -> None:
        self._view = view

    def endpoints(self) -> list[Endpoint]:
        """All of them, for routes and OpenAPI."""
        at = f"{API}/bundles"
        return [
            Endpoint("GET", at, self.bundles, "The bundles of this node, the one on trial, and what happened to them"),
            Endpoint(
                "POST", at, self.upload, "Take a signed bundle in: its bytes (application/octet-stream), or a file here (JSON)",
                status=201, body=arguments.schema(BundleFrom), max_body=MOST_BODY, event="bundle uploaded",
            ),
            Endpoint(
                "POST", f"{at}/{{id}}/apply", self.apply, "Check it, switch to it, watch it, keep it or take it back",
                body=arguments.schema(Application), event="bundle apply begun",
            ),
            Endpoint("POST", f"{at}/rollback", self.rollback, "Go back to what was active before", event="bundle rollback asked"),
        ]  # fmt: skip

    async def bundles(self, request: Request) -> Response:
        arguments.query(request, ())
        return json_response(await self._view.bundles.shown())

    async def upload(self, request: Request) -> Response:
        if request.headers.get("content-type", "").partition(";")[0].strip() == "application/json":
            return json_response(await self._view.bundles.upload(b"", arguments.body(request, BundleFrom).file), 201)
        return json_response(await self._view.bundles.upload(request.body), 201)

    async def apply(self, request: Request) -> Response:
        given = arguments.body(request, Application)
        most = arguments.whole(str(given.dead_letters), "dead_letters", 0, 10**9) or 0
        return json_response(await self._view.bundles.apply(request.params["id"], given.probation, most))

    async def rollback(self, request: Request) -> Response:
        return json_response(await self._view.bundles.rollback())
