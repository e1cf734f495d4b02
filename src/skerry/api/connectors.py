"""`/api/v1/connectors` and `/api/v1/ingest`: what is brought in and out, and what others post."""

from skerry.api.endpoints import API, Endpoint
from skerry.api.view import NodeView
from skerry.http import Request, Response, json_response

MOST_BODY = 4 * 1024 * 1024


class ConnectorHandlers:
    """Its endpoints."""

    def __init__(self, view: NodeView) -> None:
        self._view = view

    def endpoints(self) -> list[Endpoint]:
        """All of them, for routes and OpenAPI."""
        return [
            Endpoint("GET", f"{API}/connectors", self.connectors, "All connectors: how they stand, what they moved and refused"),
            Endpoint(
                "POST", f"{API}/ingest/{{name}}", self.ingest, "Take items for a connector of kind http: JSON or NDJSON",
                max_body=MOST_BODY,
            ),
        ]  # fmt: skip

    async def connectors(self, request: Request) -> Response:
        return json_response(self._view.connectors.shown())

    async def ingest(self, request: Request) -> Response:
        name = request.params["name"]
        return json_response(await self._view.connectors.ingest(name, request.body, request.headers, request.by))
