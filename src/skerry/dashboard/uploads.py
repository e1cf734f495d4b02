"""Files on their way from the browser to the API: one at a time, bounded, with the visitor's own token."""

import asyncio
from urllib.parse import quote, urlencode

from starlette.requests import ClientDisconnect, Request
from starlette.responses import JSONResponse, Response

from skerry.core.errors import SkerryError
from skerry.core.units import show_size
from skerry.dashboard.sessions import Session
from skerry.dashboard.watch import Watches

MOST = 64 * 1024 * 1024
PATIENCE_S, TRIAL_S = 120.0, 180.0
"""Seconds for the file to come, and for the node to try it."""


class Uploads:
    """`POST /upload/models/{name}`: the body is the file."""

    def __init__(self, watches: Watches, key: str) -> None:
        self._watches = watches
        self._key = key
        self._one = asyncio.Lock()

    async def take(self, request: Request) -> Response:
        """Take a model and give it to the node: `{row}`, or why not as `{error}`, which is an answer and no fault of the page."""
        if self._one.locked():
            return _not("another file is under way; try again")
        session: Session = request.scope[self._key]
        async with self._one:
            try:
                async with asyncio.timeout(PATIENCE_S):
                    file = await _whole(request)
            except (TimeoutError, ClientDisconnect):
                return _not("the file did not come whole")
            if file is None:
                return _not(f"the file is larger than {show_size(MOST)}: use `skerry model add` on the node")
            version = request.query_params.get("version", "")
            path = f"/api/v1/models/{quote(request.path_params['name'], safe='')}/upload"
            asked = f"{path}?{urlencode({'version': version})}" if version else path
            client = (await self._watches.of(session.token)).client
            try:
                row = await client.upload(asked, file, "application/octet-stream", timeout=TRIAL_S)
            except SkerryError as error:
                return _not(str(error))
            return JSONResponse({"row": row})


def _not(why: str) -> Response:
    return JSONResponse({"error": why})


async def _whole(request: Request) -> bytes | None:
    """The body; None where it is too large."""
    found = bytearray()
    async for part in request.stream():
        found += part
        if len(found) > MOST:
            return None
    return bytes(found)
