"""What a peer is told where no handler has answered: the error as problem details, or in the form that goes with its path."""

from collections.abc import Sequence
from typing import TYPE_CHECKING

import msgspec

from skerry.core.errors import SkerryError
from skerry.http.messages import Response, Route
from skerry.http.problem import error_of, problem, problem_of

if TYPE_CHECKING:
    from aiohttp import web


class TooLargeError(Exception):
    """A body of more bytes than its route takes."""

    def __init__(self, most: int) -> None:
        super().__init__(most)
        self.most = most


class Failures:
    """The answers that tell of failures, for the routes of one server."""

    def __init__(self, routes: Sequence[Route]) -> None:
        from skerry.core.log import get  # late: clients go without

        self._log = get("http")
        self._plain = tuple(dict.fromkeys(route.fixed for route in routes if route.plain_errors))

    def of(self, method: str, path: str, error: Exception) -> Response:
        """The answer that tells what a handler raised."""
        return self._in_form(path, self._told(method, path, error))

    def _told(self, method: str, path: str, error: Exception) -> Response:
        if isinstance(error, SkerryError):
            return problem_of(error)
        if isinstance(error, TooLargeError):
            return problem(413, f"the body is larger than {error.most} bytes", "send less at a time")
        if isinstance(error, TimeoutError):
            return problem(408, "the request took too long")
        self._log.error(f"{method} {path} failed: {error!r}", exc_info=error)
        return problem(500, "it did not work", "see the node's log")

    def refused(self, path: str, status: int, sentence: str) -> Response:
        """The answer of a status and a sentence."""
        return self._in_form(path, problem(status, sentence))

    def of_library(self, request: "web.Request", error: "web.HTTPException") -> Response:
        """The answer to what the library refuses by itself."""
        return self._in_form(request.path, _explain(request, error))

    def _in_form(self, path: str, given: Response) -> Response:
        """A problem in the form that goes with the path."""
        if not any(path == fixed.rstrip("/") or path.startswith(fixed.rstrip("/") + "/") for fixed in self._plain):
            return given
        error = error_of(given.status, given.headers["content-type"], given.body)
        kept = {**given.headers, "content-type": "application/json"}
        return Response(given.status, kept, msgspec.json.encode({"error": str(error)}))


def _explain(request: "web.Request", error: "web.HTTPException") -> Response:
    if error.status == 405:
        allowed = error.headers.get("allow", "")
        return problem(405, f"{request.method} is not for {request.path}", f"allowed: {allowed}", headers={"allow": allowed})
    if error.status == 404:
        return problem(404, f"there is nothing at {request.path}", "see /api/v1/openapi.json")
    return problem(error.status, error.reason)
