"""What the API answers, on a `NodeView`."""

from collections.abc import AsyncIterator
from typing import Any

import msgspec

from skerry.api import arguments
from skerry.api.endpoints import API, Endpoint, Parameter, openapi
from skerry.api.stream import EventStreams
from skerry.api.view import NodeView, Row
from skerry.core.errors import suggestion
from skerry.http import NotFoundError, Request, Response, Stream, json_response

_METRICS = "text/plain; version=0.0.4; charset=utf-8"
_SEQUENCES = 2**63 - 1
_PIPELINE = Parameter("pipeline", "only of this pipeline")
_KEY = Parameter("key", "only of this key (device)")
_LIMIT = Parameter("limit", "rows of a page, 1 to 1000", "integer")
_AFTER = Parameter("after", "the `next` of the page before")
_SINCE = Parameter("since", "not before this time: RFC 3339, or Unix seconds or milliseconds")
_LAST = Parameter("last", "the newest rows instead of a page, 1 to 1000", "integer")
_FROM = Parameter("after", "a sequence; `Last-Event-ID` goes before it", "integer")


class NewDevice(msgspec.Struct, forbid_unknown_fields=True):
    """Body of `POST /api/v1/devices`."""

    id: str
    password: str | None = None
    topics: list[str] = []


class Handlers:
    """One method an endpoint; `endpoints` is the table of all."""

    def __init__(self, view: NodeView, version: str, streams: EventStreams | None = None) -> None:
        self._view = view
        self._version = version
        self._streams = streams or EventStreams()

    def endpoints(self) -> list[Endpoint]:
        """All endpoints, for routes and OpenAPI."""
        one = f"{API}/pipelines/{{name}}"
        return [
            Endpoint("GET", "/healthz", self.healthz, "The process lives and answers"),
            Endpoint("GET", "/readyz", self.readyz, "200 when the node does its work, else 503; the reason in both cases"),
            Endpoint("GET", "/metrics", self.metrics, "Prometheus metrics", answer="text/plain"),
            Endpoint("GET", f"{API}/node", self.node, "The node's status as a whole"),
            Endpoint("GET", f"{API}/pipelines", self.pipelines, "All pipelines"),
            Endpoint("GET", one, self.pipeline, "One pipeline"),
            Endpoint("POST", f"{one}/pause", self.pause, "Take no more messages; they wait in the log"),
            Endpoint("POST", f"{one}/resume", self.resume, "Go on where it paused"),
            Endpoint("GET", f"{one}/deadletters", self.deadletters, "Dead letters, oldest first", (_LIMIT, _AFTER)),
            Endpoint("POST", f"{one}/deadletters/retry", self.deadletters_retry, "Process all dead letters again"),
            Endpoint("POST", f"{one}/deadletters/drop", self.deadletters_drop, "Forget all dead letters"),
            Endpoint(
                "GET", f"{API}/events", self.events, "Events in the log's order",
                (_PIPELINE, _KEY, _SINCE, _LIMIT, _AFTER, _LAST),
            ),
            Endpoint(
                "GET", f"{API}/events/stream", self.events_stream, "Events as they come, as server-sent events",
                (_PIPELINE, _KEY, _FROM), answer="text/event-stream",
            ),
            Endpoint("GET", f"{API}/models", self.models, "All models"),
            Endpoint("GET", f"{API}/devices", self.devices, "All devices"),
            Endpoint(
                "POST", f"{API}/devices", self.device_add, "Add a device; the answer shows its password this once",
                status=201, body=msgspec.json.schema(NewDevice)["$defs"]["NewDevice"],
            ),
            Endpoint("GET", f"{API}/devices/{{id}}", self.device, "One device"),
            Endpoint("DELETE", f"{API}/devices/{{id}}", self.device_remove, "Forget a device"),
            Endpoint("POST", f"{API}/devices/{{id}}/revoke", self.device_revoke, "Refuse a device from now on"),
            Endpoint("GET", f"{API}/config", self.config, "Every setting, its value and where that comes from"),
            Endpoint("POST", f"{API}/config/reload", self.reload, "Read the configuration again"),
            Endpoint("GET", f"{API}/openapi.json", self.openapi, "This document"),
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

    async def resume(self, request: Request) -> Response:
        name = self._known(request)
        await self._view.resume(name)
        return json_response(self._pipeline(name))

    async def deadletters(self, request: Request) -> Response:
        name = self._known(request)
        given = arguments.query(request, ("limit", "after"))
        letters, following = await self._view.deadletters(name, arguments.limit_of(given), given.get("after"))
        return json_response({"dead_letters": letters, "next": following})

    async def deadletters_retry(self, request: Request) -> Response:
        return json_response({"retried": await self._view.deadletters_retry(self._known(request))})

    async def deadletters_drop(self, request: Request) -> Response:
        return json_response({"dropped": await self._view.deadletters_drop(self._known(request))})

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

    async def devices(self, request: Request) -> Response:
        return json_response({"devices": await self._view.devices()})

    async def device(self, request: Request) -> Response:
        return json_response(await self._device(request))

    async def device_add(self, request: Request) -> Response:
        new = arguments.body(request, NewDevice)
        return json_response(await self._view.device_add(new.id, new.password, new.topics), 201)

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

    async def _device(self, request: Request) -> dict[str, Any]:
        wanted = request.params["id"]
        found = await self._view.device(wanted)
        if found is None:
            known = [str(row["id"]) for row in await self._view.devices()]
            raise NotFoundError(f"there is no device {wanted!r}{suggestion(wanted, known)}", mend="see `skerry device list`")
        return found


def _those(known: list[str]) -> str:
    return f"there are {', '.join(known)}" if known else "the configuration names none"
