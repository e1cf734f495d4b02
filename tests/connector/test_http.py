"""HTTP in: what a request becomes, all of it or nothing. HTTP out: a real endpoint that dies, refuses, and is slow down."""

from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest
import pytest_asyncio

from skerry.connector import parse_connector
from skerry.core.errors import ConfigError, RejectedError, UnavailableError
from skerry.http import HttpServer, Request, Response, Route
from tests.connector.contract import check_sink, opened, outgoing
from tests.connector.rig import begun, prepared, put_event, working
from tests.fixtures.nats import NatsServer, until

pytestmark = pytest.mark.asyncio
JSON, LINES = {"content-type": "application/json; charset=utf-8"}, {"content-type": "application/x-ndjson"}


class Endpoint:
    """Somebody's endpoint; keeps what it has answered with 2xx.

    Attributes:
        answers: statuses of the next requests; after them 204.
    """

    def __init__(self, port: int) -> None:
        self.url = f"http://127.0.0.1:{port}/hook?site=sea"
        self.requests: list[Request] = []
        self.answers: list[int] = []
        self.refused = b"\0"
        self._port = port
        self._server: HttpServer | None = None

    async def start(self) -> None:
        self._server = await HttpServer([Route("POST", "/hook", self._take)]).__aenter__()
        await self._server.listen_tcp("127.0.0.1", self._port)

    async def stop(self) -> None:
        if self._server is not None:
            await self._server.__aexit__(None, None, None)
            self._server = None

    async def _take(self, request: Request) -> Response:
        status = self.answers.pop(0) if self.answers else 204
        if self.refused in request.body:
            status = 422
        if status < 300:
            self.requests.append(request)
        return Response(status, {"retry-after": "0"})

    def bodies(self) -> list[bytes]:
        return [request.body for request in self.requests]


@pytest_asyncio.fixture
async def endpoint(free_port: int) -> AsyncIterator[Endpoint]:
    made = Endpoint(free_port)
    await made.start()
    yield made
    await made.stop()


def posts(endpoint: Endpoint, **more: Any) -> dict[str, Any]:
    return {"name": "hook", "kind": "http", "direction": "out", "url": endpoint.url, **more}


def takes(topic: str = "devices/{.device}/readings", **more: Any) -> Any:
    return opened({"name": "push", "kind": "http", "direction": "in", "topic": topic, **more}, Path())


async def test_a_sink_by_the_contract(endpoint: Endpoint, tmp_path: Path) -> None:
    await check_sink(posts(endpoint), tmp_path, endpoint.bodies, endpoint.stop, endpoint.start)


async def test_ids_are_in_headers_and_batches_are_bounded(endpoint: Endpoint, tmp_path: Path) -> None:
    (tmp_path / "token").write_text("abc\n")
    sink = opened(posts(endpoint, batch=2, token_file="token"), tmp_path)
    await sink.send([outgoing(number) for number in range(1, 4)])
    first, second = endpoint.requests
    assert first.body == b"[" + outgoing(1).payload + b"," + outgoing(2).payload + b"]"
    assert (first.headers["skerry-event-ids"], first.headers["idempotency-key"]) == ("e1,e2", "e1-e2-2")
    assert (second.headers["skerry-event-ids"], second.headers["idempotency-key"]) == ("e3", "e3")
    assert (first.headers["authorization"], first.query) == ("Bearer abc", {"site": "sea"})
    await sink.close()
    for more, body, kind in (
        ({"batch": 1}, outgoing(1).payload, "application/json"),
        ({"format": "ndjson"}, outgoing(1).payload + b"\n", "application/x-ndjson"),
    ):
        sink = opened(posts(endpoint, **more), tmp_path)
        await sink.send([outgoing(1)])
        assert (endpoint.requests[-1].body, endpoint.requests[-1].headers["content-type"]) == (body, kind)
        await sink.close()


@pytest.mark.parametrize("status", [408, 425, 429, 500, 503, 302, 401, 403, 404])
async def test_what_may_pass_is_tried_again(endpoint: Endpoint, tmp_path: Path, status: int) -> None:
    sink = opened(posts(endpoint), tmp_path)
    endpoint.answers = [status]
    with pytest.raises(UnavailableError, match=f"it answers {status}"):
        await sink.send([outgoing(1)])
    await sink.send([outgoing(1)])
    assert endpoint.bodies() == [b"[" + outgoing(1).payload + b"]"]
    await sink.close()


async def test_an_event_that_is_never_taken_does_not_hold_the_others(
    endpoint: Endpoint, server: NatsServer, tmp_path: Path
) -> None:
    client = await prepared(server)
    endpoint.refused = b'"e2"'
    async with working([posts(endpoint)], server, tmp_path) as engine:
        await until(lambda: begun(client, "hook"), 20)
        for number in range(1, 5):
            await put_event(client, number)
        await until(lambda: all(any(b'"e%d"' % each in body for body in endpoint.bodies()) for each in (1, 3, 4)), 30)
        await until(lambda: engine.report().connectors["hook"].refused, 20)
        report = engine.report().connectors["hook"]
    assert report.refused == {"refused by the other side: it answers 422": 1}
    assert not any(b'"e2"' in body for body in endpoint.bodies())
    client.close()


async def test_json_and_lines_become_messages() -> None:
    source = takes()
    assert [(each.topic, each.payload) for each in source.messages(b'{"device": "a/b", "x": 1}', JSON)] == [
        ("devices/a_b/readings", b'{"device": "a/b", "x": 1}')
    ]
    found = source.messages(b'[{"device": 7, "x": 1.50}, {"device":"b"}]', {**JSON, "idempotency-key": "k1"})
    assert [(each.topic, each.payload, each.id) for each in found] == [
        ("devices/7/readings", b'{"device": 7, "x": 1.50}', "k1/0"), ("devices/b/readings", b'{"device":"b"}', "k1/1"),
    ]  # fmt: skip
    assert [each.payload for each in source.messages(b'{"device":"a"}\r\n\n{"device":"b"}\n', LINES)] == [
        b'{"device":"a"}', b'{"device":"b"}',
    ]  # fmt: skip
    assert [each.topic for each in takes("devices/{name}/x").messages(b"[1, 2.5]", {})] == ["devices/push/x"] * 2
    assert "POST /api/v1/ingest/push" in await source.test()


@pytest.mark.parametrize(
    ("body", "headers", "complaint"),
    [
        (b"", JSON, "the body is no JSON"),
        (b"<html>", JSON, "the body is no JSON"),
        (b'{"device":"a"}\n{"device":"b"}', JSON, "the body is no JSON.*NDJSON with its content type"),
        (b'{"device":"a"}\n{', LINES, "line 2 is no JSON"),
        (b"\xff", LINES, "line 1 is no JSON"),
        (b'[{"device":"a"}, {}]', JSON, r"item 1 lacks .device for the topic"),
        (b'{"device": [1]}', JSON, r"item 0 lacks .device"),
        (b'{"device": true}', JSON, r"item 0 lacks .device"),
        (b"[" * 5000, JSON, "the body is no JSON"),
        (b"[" + b"1," * 1000 + b"1]", JSON, "1001 items in one request"),
        (b'{"device":"a"}', {"idempotency-key": "k" * 129}, "Idempotency-Key"),
        (b'{"device":"a"}', {"idempotency-key": "k\r\nX: y"}, "Idempotency-Key"),
    ],
)
async def test_a_wrong_request_is_refused_whole(body: bytes, headers: dict[str, str], complaint: str) -> None:
    with pytest.raises(RejectedError, match=complaint):
        takes().messages(body, headers)


async def test_what_is_wrong_in_the_configuration_is_named() -> None:
    base = {"name": "c", "kind": "http"}
    for table, complaint in (
        ({"direction": "in", "topic": "devices/{device}"}, r"c.topic: \{device\} is not known"),
        ({"direction": "in"}, "needs the key 'topic'"),
        ({"direction": "out", "url": "ftp://x"}, "c.url: 'ftp://x' is no such address"),
        ({"direction": "out", "url": "http://x", "batch": 0}, "c.batch: 0 is out of range"),
        ({"direction": "out", "url": "http://x", "format": "xml"}, "c.format: 'xml' is not known"),
    ):
        with pytest.raises(ConfigError, match=complaint):
            parse_connector({**base, **table}, "c")


async def test_test_posts_nothing(endpoint: Endpoint, tmp_path: Path) -> None:
    assert await opened(posts(endpoint), tmp_path).test() == f"{endpoint.url.partition('/hook')[0]} takes connections"
    assert endpoint.requests == []
