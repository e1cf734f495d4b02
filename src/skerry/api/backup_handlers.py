"""`/api/v1/backup`: the node's part while a backup is made of it, by who can read its data directory."""

from skerry.api.endpoints import API, Endpoint
from skerry.api.view import NodeView
from skerry.http import Request, Response, json_response


class BackupHandlers:
    """Begin and end."""

    def __init__(self, view: NodeView) -> None:
        self._view = view

    def endpoints(self) -> list[Endpoint]:
        """All of them, for routes and OpenAPI."""
        at = f"{API}/backup"
        return [
            Endpoint("POST", at, self.begin, "Hold the log and copy store and history for a backup", event="backup begun"),
            Endpoint("DELETE", at, self.end, "The backup is made, or given up", event="backup ended"),
        ]

    async def begin(self, request: Request) -> Response:
        return json_response(await self._view.backup_begin())

    async def end(self, request: Request) -> Response:
        await self._view.backup_end()
        return json_response({"ended": True})
