"""`/api/v1/cluster`: who is in the cluster, who leads it, whom it lets in, and what a person has it do."""

from typing import Protocol

import msgspec

from skerry.api import arguments
from skerry.api.endpoints import API, Endpoint, Parameter
from skerry.api.view import ClusterView
from skerry.core.clock import SECOND
from skerry.http import Request, Response, json_response

_NO_STORE = {"cache-control": "no-store"}
_AFTER = Parameter("after", "only changes after this sequence; without it those that are still known", "integer")


class NewJoinToken(msgspec.Struct, forbid_unknown_fields=True):
    """Body of `POST /api/v1/cluster/tokens`: a duration such as `1h`."""

    expires_in: str = "1h"


class Approval(msgspec.Struct, forbid_unknown_fields=True):
    """Body of `POST /api/v1/cluster/approve`: a node that waits, and the code that it shows."""

    node: str
    code: str


class Clustered(Protocol):
    """What is asked of a node, or of a witness."""

    @property
    def cluster(self) -> ClusterView:
        """Who is in the cluster, and what people have it do."""
        ...


class ClusterHandlers:
    """Its endpoints. All but the first answer 400 on a node that is in no cluster."""

    def __init__(self, view: Clustered) -> None:
        self._view = view

    def endpoints(self) -> list[Endpoint]:
        """All of them, for routes and OpenAPI."""
        here = f"{API}/cluster"
        one = f"{here}/members/{{id}}"
        return [
            Endpoint("GET", here, self.cluster, "The cluster in short, as `status` has it"),
            Endpoint("GET", f"{here}/members", self.members, "All members as this node knows them"),
            Endpoint("GET", f"{here}/leader", self.leader, "Who leads, and in which epoch; null where nobody is known to"),
            Endpoint("GET", f"{here}/changes", self.changes, "The last changes of members and leader, oldest first", (_AFTER,)),
            Endpoint("GET", f"{here}/pending", self.pending, "Nodes that wait at this one to be let in, with their codes"),
            Endpoint(
                "POST", f"{here}/tokens", self.token, "Make a token with which one node may join once; it is shown this once",
                status=201, body=arguments.schema(NewJoinToken), event="join token created",
            ),
            Endpoint(
                "POST", f"{here}/approve", self.approve, "Let a node in that waits, by the code that it shows",
                body=arguments.schema(Approval), event="node approved",
            ),
            Endpoint("POST", f"{here}/step-down", self.step_down, "Give the leader's office up", event="leader stepped down"),
            Endpoint("POST", f"{one}/drain", self.drain, "Have a node's work go elsewhere", event="node drained"),
            Endpoint("POST", f"{one}/resume", self.resume, "Put a drained node back to work", event="node resumed"),
            Endpoint(
                "POST", f"{here}/promote", self.promote, "Have this node, which stands by, go on with its copy of the log",
                event="standby promoted",
            ),
            Endpoint(
                "DELETE", one, self.remove, "Take a node out for good; one that is there gives its work away first",
                event="node removed",
            ),
        ]  # fmt: skip

    async def cluster(self, request: Request) -> Response:
        arguments.query(request, ())
        return json_response(self._view.cluster.shown())

    async def members(self, request: Request) -> Response:
        arguments.query(request, ())
        return json_response({"members": self._view.cluster.members()})

    async def leader(self, request: Request) -> Response:
        arguments.query(request, ())
        return json_response(self._view.cluster.leader())

    async def changes(self, request: Request) -> Response:
        after = arguments.whole(arguments.query(request, ("after",)).get("after"), "after", 0, 2**63 - 1)
        return json_response(self._view.cluster.changes(after or 0))

    async def pending(self, request: Request) -> Response:
        arguments.query(request, ())
        return json_response({"pending": self._view.cluster.pending()})

    async def token(self, request: Request) -> Response:
        given = arguments.body(request, NewJoinToken)
        seconds = arguments.duration_of(given.expires_in, "expires_in") / SECOND
        return json_response(await self._view.cluster.token(seconds), 201, _NO_STORE)

    async def approve(self, request: Request) -> Response:
        given = arguments.body(request, Approval)
        self._view.cluster.approve(given.node, given.code)
        return json_response({"approved": given.node})

    async def step_down(self, request: Request) -> Response:
        return json_response(await self._view.cluster.step_down())

    async def promote(self, request: Request) -> Response:
        return json_response(self._view.cluster.promote())

    async def drain(self, request: Request) -> Response:
        await self._view.cluster.drain(request.params["id"])
        return json_response({"drained": request.params["id"]})

    async def resume(self, request: Request) -> Response:
        await self._view.cluster.resume(request.params["id"])
        return json_response({"resumed": request.params["id"]})

    async def remove(self, request: Request) -> Response:
        await self._view.cluster.remove(request.params["id"])
        return json_response({"removed": request.params["id"]})
