"""What a witness answers: how it is, and all that has to do with its cluster."""

from typing import Protocol

from skerry.api import arguments
from skerry.api.cluster import ClusterHandlers
from skerry.api.endpoints import API, Endpoint
from skerry.api.view import ClusterView, Row
from skerry.http import Request, Response, Route, json_response


class WitnessView(Protocol):
    """A witness as its API sees it."""

    @property
    def cluster(self) -> ClusterView:
        """Who is in the cluster, and what people have it do."""
        ...

    def ready(self) -> tuple[bool, str]:
        """Whether it keeps what the others keep, and why not, in one sentence."""
        ...

    async def status(self) -> Row:
        """`{node, site, version, ready, reason, broker, cluster, processes, warnings}`."""
        ...


class WitnessHandlers:
    """Its endpoints: a part of those of a node."""

    def __init__(self, view: WitnessView) -> None:
        self._view = view

    def endpoints(self) -> list[Endpoint]:
        """All of them."""
        return [
            Endpoint("GET", "/healthz", self.healthz, "The process lives and answers"),
            Endpoint("GET", "/readyz", self.readyz, "200 when it keeps what the others keep, else 503; the reason in both cases"),
            Endpoint("GET", f"{API}/node", self.node, "Its status as a whole"),
            *ClusterHandlers(self._view).endpoints(),
        ]

    def inference_routes(self) -> list[Route]:
        """None: there are no models."""
        return []

    async def healthz(self, request: Request) -> Response:
        return json_response({"status": "ok"})

    async def readyz(self, request: Request) -> Response:
        ready, reason = self._view.ready()
        return json_response({"ready": ready, "reason": reason}, 200 if ready else 503)

    async def node(self, request: Request) -> Response:
        arguments.query(request, ())
        return json_response(await self._view.status())
