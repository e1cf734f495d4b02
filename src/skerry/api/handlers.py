"""What the API answers, on a `NodeView`."""

from collections.abc import AsyncIterator
from typing import Any

import msgspec

from skerry.api import arguments
from skerry.api.alarms import AlarmHandlers
from skerry.api.auth import AuthHandlers
from skerry.api.backup_handlers import BackupHandlers
from skerry.api.bundles import BundleHandlers
from skerry.api.cluster import ClusterHandlers
from skerry.api.connectors import ConnectorHandlers
from skerry.api.deadletters import DeadLetterHandlers
from skerry.api.endpoints import API, Endpoint, Parameter, openapi
from skerry.api.journal import JournalHandlers
from skerry.api.kv_handlers import KvHandlers
from skerry.api.messages import MessageHandlers
from skerry.api.series import SeriesHandlers
from skerry.api.stream import EventStreams
from skerry.api.token_handlers import TokenHandlers
from skerry.api.tokens import TokenStore
from skerry.api.uplink import UplinkHandlers
from skerry.api.view import NodeView, Row
from skerry.core.clock import SECOND, SystemClock
from skerry.core.errors import RejectedError, suggestion
from skerry.http import NotFoundError, Request, Response, Route, Stream, json_response

_METRICS = "text/plain; version=0.0.4; charset=utf-8"
_SEQUENCES = 2**63 - 1
INFERENCE_BODY = 64 * 1024 * 1024  # bytes: tensors are larger than anything else that is sent
MODEL_BODY = 64 * 1024 * 1024
_VERSION = Parameter("version", "what the version is called; the next number by default")
_PIPELINE = Parameter("pipeline", "only of this pipeline")
_KEY = Parameter("key", "only of this key (device)")
_OVER = Parameter("over", "the last so long, such as 30d; without it all that is known")
_TIMEOUT = Parameter("timeout", "how long to wait for it and for its window, such as 1m; 30 s by default, 5 minutes at most")
_LIMIT = Parameter("limit", "rows of a page, 1 to 1000", "integer")
_AFTER = Parameter("after", "the `next` of the page before")
_SINCE = Parameter("since", "not before this time: RFC 3339, or Unix seconds or milliseconds")
_LAST = Parameter("last", "the newest rows instead of a page, 1 to 1000", "integer")
_FROM = Parameter("after", "a sequence; `Last-Event-ID` goes before it", "integer")


class NewDevice(msgspec.Struct, forbid_unknown_fields=True):
    """Body of `POST /api/v1/devices`: at most one of password, key and certificate; with none a password is made."""

    id: str
    topics: list[str] = []
    password: str | None = None
    key: str = ""
    certificate: str = ""


class NewCredential(msgspec.Struct, forbid_unknown_fields=True):
    """Body of `POST /api/v1/devices/{id}/rotate`: as of a new device."""

    password: str | None = None
    key: str = ""
    certificate: str = ""


class NewModel(msgspec.Struct, forbid_unknown_fields=True):
    """Body of `POST /api/v1/models`: `file` is a path on the node's computer."""

    name: str
    file: str
    version: str | None = None
    labels: list[str] = []
    threshold: float | None = None
    features: list[str] = []
    convert: bool = False


class ModelVersion(msgspec.Struct, forbid_unknown_fields=True):
    """Body of `POST /api/v1/models/{name}/activate`."""

    version: str


class ShadowVersion(msgspec.Struct, forbid_unknown_fields=True):
    """Body of `POST /api/v1/models/{name}/shadow`; null ends the shadow."""

    version: str | None


class Handlers:
    """One method an endpoint; `endpoints` is the table of all."""

    def __init__(
        self, view: NodeView, version: str, streams: EventStreams | None = None, *, tokens: TokenStore | None = None
    ) -> None:
        self._view = view
        self._version = version
        self._streams = streams or EventStreams()
        self._tokens = TokenHandlers(tokens if tokens is not None else TokenStore(None, SystemClock()))

    def endpoints(self) -> list[Endpoint]:
        """All endpoints, for routes and OpenAPI."""
        one = f"{API}/pipelines/{{name}}"
        return [
            Endpoint("GET", "/healthz", self.healthz, "The process lives and answers"),
            Endpoint("GET", "/readyz", self.readyz, "200 when the node does its work, else 503; the reason in both cases"),
            Endpoint("GET", "/metrics", self.metrics, "Prometheus metrics", answer="text/plain"),
            Endpoint("GET", f"{API}/node", self.node, "The node's status as a whole"),
            Endpoint("GET", f"{API}/node/uptime", self.uptime, "When the node was up; each gap with its reason", (_OVER,)),
            Endpoint("GET", f"{API}/pipelines", self.pipelines, "All pipelines"),
            Endpoint("GET", one, self.pipeline, "One pipeline"),
            Endpoint("POST", f"{one}/pause", self.pause, "Take no more messages; they wait in the log", event="pipeline paused"),
            Endpoint("POST", f"{one}/resume", self.resume, "Go on where it paused", event="pipeline resumed"),
            Endpoint("GET", f"{one}/windows", self.windows, "The last windows that were scored, oldest first: key, end and score"),
            Endpoint(
                "POST", f"{one}/trace", self.trace, "Follow its next message: where it spent its time", (_KEY, _TIMEOUT),
                event="pipeline traced",
            ),
            *DeadLetterHandlers(self._view, self._known).endpoints(),
            Endpoint(
                "GET", f"{API}/events", self.events, "Events in the log's order",
                (_PIPELINE, _KEY, _SINCE, _LIMIT, _AFTER, _LAST),
            ),
            Endpoint(
                "GET", f"{API}/events/stream", self.events_stream, "Events as they come, as server-sent events",
                (_PIPELINE, _KEY, _FROM), answer="text/event-stream",
            ),
            *self._model_endpoints(),
            Endpoint("GET", f"{API}/devices", self.devices, "All devices"),
            Endpoint(
                "POST", f"{API}/devices", self.device_add, "Add a device; the answer shows its password, if it has one, this once",
                status=201, body=arguments.schema(NewDevice), event="device added",
            ),
            Endpoint("GET", f"{API}/devices/{{id}}", self.device, "One device"),
            Endpoint("DELETE", f"{API}/devices/{{id}}", self.device_remove, "Forget a device", event="device removed"),
            Endpoint(
                "POST", f"{API}/devices/{{id}}/revoke", self.device_revoke, "Refuse a device from now on", event="device revoked"
            ),
            *self._tokens.endpoints(),
            Endpoint(
                "POST", f"{API}/devices/{{id}}/rotate", self.device_rotate, "Give a device another credential; the old one is out",
                body=arguments.schema(NewCredential), event="device rotated",
            ),
            *AuthHandlers(self._view).endpoints(),
            *KvHandlers(self._view).endpoints(),
            *BackupHandlers(self._view).endpoints(),
            *BundleHandlers(self._view).endpoints(),
            *SeriesHandlers(self._view).endpoints(),
            *MessageHandlers(self._view).endpoints(),
            *UplinkHandlers(self._view).endpoints(),
            *AlarmHandlers(self._view).endpoints(),
            *ConnectorHandlers(self._view).endpoints(),
            *JournalHandlers(self._view).endpoints(),
            *ClusterHandlers(self._view).endpoints(),
            Endpoint("GET", f"{API}/config", self.config, "Every setting, its value and where that comes from"),
            Endpoint("POST", f"{API}/config/reload", self.reload, "Read the configuration again", event="configuration reloaded"),
            Endpoint("GET", f"{API}/openapi.json", self.openapi, "This document"),
        ]  # fmt: skip

    def inference_routes(self) -> list[Route]:
        """Everything under /v2: passed whole to the model server, which answers by the protocol's own rules."""
        return [
            Route(method, at, self.inference, max_body=INFERENCE_BODY, plain_errors=True, direct="{" in at)
            for at in ("/v2", "/v2/{rest:.*}")
            for method in ("GET", "POST")
        ]

    async def inference(self, request: Request) -> Response:
        return await self._view.model_server(request)

    def _model_endpoints(self) -> list[Endpoint]:
        one = f"{API}/models/{{name}}"
        return [
            Endpoint("GET", f"{API}/models", self.models, "All models, a row a version"),
            Endpoint(
                "POST", f"{API}/models", self.model_add, "Add a version from a file on this computer; it is tried and left staged",
                status=201, body=arguments.schema(NewModel), event="model added",
            ),
            Endpoint(
                "POST", f"{one}/upload", self.model_upload, "Add a version: the body is the ONNX file; it is tried and left staged",
                (_VERSION,), status=201, max_body=MODEL_BODY, event="model added",
            ),
            Endpoint("GET", one, self.model, "One model: its versions, what they do, and what happened to them"),
            Endpoint(
                "POST", f"{one}/activate", self.model_activate, "Switch to a version",
                body=arguments.schema(ModelVersion), event="model activated",
            ),
            Endpoint("POST", f"{one}/rollback", self.model_rollback, "Go back to the version before", event="model rolled back"),
            Endpoint(
                "POST", f"{one}/shadow", self.model_shadow, "Run a version beside the active one, compared and never emitted",
                body=arguments.schema(ShadowVersion), event="model shadow set",
            ),
            Endpoint(
                "DELETE", f"{one}/versions/{{version}}", self.model_remove, "Remove a version that is not active",
                event="model removed",
            ),
        ]  # fmt: skip

    async def healthz(self, request: Request) -> Response:
        return json_response({"status": "ok"})

    async def readyz(self, request: Request) -> Response:
        ready, reason = self._view.ready()
        return json_response({"ready": ready, "reason": reason}, 200 if ready else 503)

    async def metrics(self, request: Request) -> Response:
        return Response(200, {"content-type": _METRICS}, self._view.metrics().encode())

    async def node(self, request: Request) -> Response:
        arguments.query(request, ())
        return json_response(await self._view.status())

    async def uptime(self, request: Request) -> Response:
        given = arguments.query(request, ("over",))
        return json_response(self._view.uptime(arguments.duration_of(given.get("over"), "over")))

    async def pipelines(self, request: Request) -> Response:
        arguments.query(request, ())
        return json_response({"pipelines": self._view.pipelines()})

    async def pipeline(self, request: Request) -> Response:
        arguments.query(request, ())
        return json_response(self._pipeline(request.params["name"]))

    async def pause(self, request: Request) -> Response:
        name = self._known(request)
        await self._view.pause(name)
        return json_response(self._pipeline(name))

    async def trace(self, request: Request) -> Response:
        given = arguments.query(request, ("key", "timeout"))
        seconds = arguments.duration_of(given.get("timeout"), "timeout") / SECOND or 30.0
        return json_response(await self._view.trace(self._known(request), given.get("key", ""), seconds))

    async def resume(self, request: Request) -> Response:
        name = self._known(request)
        await self._view.resume(name)
        return json_response(self._pipeline(name))

    async def windows(self, request: Request) -> Response:
        arguments.query(request, ())
        return json_response({"windows": self._view.windows(self._known(request))})

    async def events(self, request: Request) -> Response:
        given = arguments.query(request, ("pipeline", "key", "since", "limit", "after", "last"))
        pipeline, key = given.get("pipeline"), given.get("key")
        last = arguments.whole(given.get("last"), "last", 1, arguments.MOST_LIMIT)
        if last is not None:
            newest, sequence = await self._view.last_events(pipeline, key, last)
            return json_response({"events": newest, "next": None, "sequence": sequence})
        since = arguments.moment_of(given.get("since"), "since")
        page, following = await self._view.events(pipeline, key, since, arguments.limit_of(given), given.get("after"))
        return json_response({"events": page, "next": following})

    async def events_stream(self, request: Request) -> Stream:
        given = arguments.query(request, ("pipeline", "key", "after"))
        after = arguments.whole(request.headers.get("last-event-id") or given.get("after"), "Last-Event-ID", 0, _SEQUENCES)
        self._streams.admit()
        events: AsyncIterator[tuple[int, Row]] = self._view.event_stream(after, given.get("pipeline"), given.get("key"))
        headers = {"content-type": "text/event-stream", "cache-control": "no-store", "x-accel-buffering": "no"}
        return Stream(self._streams.chunks(events), headers)

    async def models(self, request: Request) -> Response:
        return json_response({"models": self._view.models()})

    async def model(self, request: Request) -> Response:
        arguments.query(request, ())
        return json_response(self._model(request))

    async def model_add(self, request: Request) -> Response:
        new = arguments.body(request, NewModel)
        return json_response(await self._view.model_add(**msgspec.structs.asdict(new)), 201)

    async def model_upload(self, request: Request) -> Response:
        given = arguments.query(request, ("version",))
        if not request.body:
            raise RejectedError("the body is empty", where=request.path, mend="send the ONNX file as it is")
        return json_response(await self._view.model_upload(request.params["name"], request.body, given.get("version") or None), 201)

    async def model_activate(self, request: Request) -> Response:
        name = self._model(request)["name"]
        await self._view.model_activate(name, arguments.body(request, ModelVersion).version)
        return json_response(self._model(request))

    async def model_rollback(self, request: Request) -> Response:
        await self._view.model_rollback(self._model(request)["name"])
        return json_response(self._model(request))

    async def model_shadow(self, request: Request) -> Response:
        name = self._model(request)["name"]
        await self._view.model_shadow(name, arguments.body(request, ShadowVersion).version)
        return json_response(self._model(request))

    async def model_remove(self, request: Request) -> Response:
        name, version = self._model(request)["name"], request.params["version"]
        await self._view.model_remove(name, version)
        return json_response({"removed": f"{name}@{version}"})

    async def devices(self, request: Request) -> Response:
        return json_response(self._with_nodes({"devices": await self._view.devices()}))

    async def device(self, request: Request) -> Response:
        return json_response(await self._device(request))

    async def device_add(self, request: Request) -> Response:
        new = arguments.body(request, NewDevice)
        row = await self._view.device_add(new.id, new.topics, new.password, new.key, new.certificate)
        return json_response(self._with_nodes(row), 201)

    def _with_nodes(self, row: dict[str, Any]) -> dict[str, Any]:
        """With where devices reach the nodes of the cluster, if there is one."""
        nodes = self._view.device_nodes()
        return {**row, "nodes": nodes} if nodes else row

    async def device_rotate(self, request: Request) -> Response:
        await self._device(request)
        new = arguments.body(request, NewCredential)
        return json_response(await self._view.device_rotate(request.params["id"], new.password, new.key, new.certificate))

    async def device_revoke(self, request: Request) -> Response:
        await self._device(request)
        await self._view.device_revoke(request.params["id"])
        return json_response(await self._device(request))

    async def device_remove(self, request: Request) -> Response:
        await self._device(request)
        await self._view.device_remove(request.params["id"])
        return json_response({"removed": request.params["id"]})

    async def config(self, request: Request) -> Response:
        return json_response({"config": self._view.config()})

    async def reload(self, request: Request) -> Response:
        return json_response(await self._view.reload())

    async def openapi(self, request: Request) -> Response:
        return json_response(openapi(self.endpoints(), self._version))

    def _known(self, request: Request) -> str:
        name = request.params["name"]
        self._pipeline(name)
        return name

    def _pipeline(self, name: str) -> Row:
        found = self._view.pipeline(name)
        if found is None:
            known = [str(row["name"]) for row in self._view.pipelines()]
            raise NotFoundError(f"there is no pipeline {name!r}{suggestion(name, known)}", mend=_those(known))
        return found

    def _model(self, request: Request) -> Row:
        name = request.params["name"]
        found = self._view.model(name)
        if found is None:
            known = sorted({str(row["name"]) for row in self._view.models()})
            mend = f"there are {', '.join(known)}" if known else "`skerry model add NAME FILE` adds one"
            raise NotFoundError(f"there is no model {name!r}{suggestion(name, known)}", mend=mend)
        return found

    async def _device(self, request: Request) -> dict[str, Any]:
        wanted = request.params["id"]
        found = await self._view.device(wanted)
        if found is None:
            known = [str(row["id"]) for row in await self._view.devices()]
            raise NotFoundError(f"there is no device {wanted!r}{suggestion(wanted, known)}", mend="see `skerry device list`")
        return found


def _those(known: list[str]) -> str:
    return f"there are {', '.join(known)}" if known else "the configuration names none"
