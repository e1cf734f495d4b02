"""One connection too many: what it is told, by whatever protocol it speaks, and that it costs the node nothing."""

import asyncio
from contextlib import AsyncExitStack
from pathlib import Path

import msgspec
import pytest

from skerry.core.errors import OverloadedError
from skerry.http import Client, HttpServer, Limits, Request, Response, Route, error_of
from skerry.http.busy import MOST
from tests.http.test_direct import HOST, post, until

pytestmark = pytest.mark.asyncio


async def hello(request: Request) -> Response:
    return Response(200, {"content-type": "application/json"}, b'{"hello":1}')


ROUTES = [
    Route("POST", "/v2/{rest:.*}", hello, plain_errors=True, direct=True), Route("GET", "/v2/{rest:.*}", hello, plain_errors=True),
    Route("GET", "/api", hello),
]  # fmt: skip


async def full(stack: AsyncExitStack, connections: int = 1) -> tuple[HttpServer, int]:
    """A server all of whose connections are taken."""
    server = await stack.enter_async_context(HttpServer(ROUTES, Limits(connections=connections)))
    port = await server.listen_tcp(HOST, 0)
    for _ in range(connections):
        _, writer = await asyncio.open_connection(HOST, port)
        stack.callback(writer.close)
    await asyncio.sleep(0.05)
    return server, port


async def told(port: int, sent: bytes) -> tuple[dict[str, str], dict[str, object]]:
    """Headers and body of a refusal, read to the end of the connection."""
    reader, writer = await asyncio.open_connection(HOST, port)
    writer.write(sent)
    head, _, body = (await asyncio.wait_for(reader.read(), 5)).partition(b"\r\n\r\n")
    writer.close()
    first, *lines = head.decode().split("\r\n")
    assert first == "HTTP/1.1 503 Service Unavailable"
    headers = {name: value for name, _, value in (line.partition(": ") for line in lines)}
    assert int(headers["content-length"]) == len(body)
    return headers, msgspec.json.decode(body)


async def test_both_forms_of_an_error_are_in_the_body() -> None:
    async with AsyncExitStack() as stack:
        _, port = await full(stack)
        headers, body = await told(port, post("/v2/models/a/infer", b"{}"))
        assert (headers["content-type"], headers["retry-after"]) == ("application/problem+json", "1")
        assert headers["connection"] == "close"
        assert (body["status"], body["title"]) == (503, "Overloaded")
        assert "no room" in str(body["detail"])
        assert "again" in str(body["mend"])
        assert body["error"] == f"{body['detail']}; {body['mend']}"


async def test_a_large_request_under_way_does_not_lose_the_answer() -> None:
    async with AsyncExitStack() as stack:
        _, port = await full(stack)
        for _ in range(5):
            _, body = await told(port, post("/v2/models/a/infer", b"x" * 2_000_000))
            assert body["status"] == 503


async def test_our_own_client_reads_it_as_overloaded() -> None:
    async with AsyncExitStack() as stack:
        _, port = await full(stack)

        def ask() -> None:
            with Client(f"http://{HOST}:{port}") as client:
                client.get("/api")

        with pytest.raises(OverloadedError, match="no room"):
            await asyncio.to_thread(ask)
        headers, body = await told(port, b"GET /api HTTP/1.1\r\nhost: x\r\n\r\n")
        assert isinstance(error_of(503, headers["content-type"], msgspec.json.encode(body)), OverloadedError)


async def test_a_crowd_is_turned_away_and_does_not_stay() -> None:
    async with AsyncExitStack() as stack:
        server, port = await full(stack)
        crowd = [await asyncio.open_connection(HOST, port) for _ in range(MOST + 20)]
        await until(lambda: len(server._busy) <= MOST)
        for reader, writer in crowd:
            assert b" 503 " in await asyncio.wait_for(reader.readline(), 5)
            writer.close()
        await until(lambda: not server._busy)
        _, body = await told(port, b"")
        assert body["status"] == 503


async def test_stopping_does_not_wait_for_them(tmp_path: Path) -> None:
    async with AsyncExitStack() as stack:
        server, port = await full(stack)
        reader, writer = await asyncio.open_connection(HOST, port)
        stack.callback(writer.close)
        assert b" 503 " in await asyncio.wait_for(reader.readline(), 5)
        await asyncio.wait_for(server.stop(), 0.9)
        await until(lambda: not server._busy)
