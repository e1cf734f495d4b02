"""What a route's `before` refuses is answered before its body is read; what it lets in goes on as it says."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import msgspec
import pytest

from skerry.http import HttpServer, RefusedError, Request, Response, Route, json_response

pytestmark = pytest.mark.asyncio
PATHS = pytest.mark.parametrize("path", ["/lib", "/direct/x"], ids=["library", "direct"])


async def echo(request: Request) -> Response:
    return json_response({"by": request.by, "bytes": len(request.body)})


def before(request: Request) -> Request:
    assert request.body == b""
    assert request.remote == "127.0.0.1"
    if "let-in" not in request.headers:
        raise RefusedError("not you")
    if request.headers["let-in"] == "broken":
        raise ValueError("a fault inside")
    return msgspec.structs.replace(request, by=request.headers["let-in"])


@asynccontextmanager
async def connected() -> AsyncIterator[tuple[asyncio.StreamReader, asyncio.StreamWriter, HttpServer]]:
    routes = [Route("POST", "/lib", echo, before=before), Route("POST", "/direct/{rest:.*}", echo, direct=True, before=before)]
    async with HttpServer(routes) as server:
        port = await server.listen_tcp("127.0.0.1", 0)
        reader, writer = await asyncio.open_connection("127.0.0.1", port)
        yield reader, writer, server
        writer.close()


def head(path: str, length: int, *more: str) -> bytes:
    lines = [f"POST {path} HTTP/1.1", "Host: x", f"Content-Length: {length}", *more]
    return "\r\n".join(lines).encode() + b"\r\n\r\n"


async def answer(reader: asyncio.StreamReader) -> tuple[int, bytes]:
    got = (await asyncio.wait_for(reader.readuntil(b"\r\n\r\n"), 5)).lower()
    length = int(got.partition(b"content-length: ")[2].split(b"\r\n")[0])
    return int(got.split()[1]), await reader.readexactly(length)


@PATHS
async def test_what_is_let_in_is_what_it_says(path: str) -> None:
    async with connected() as (reader, writer, _):
        for _ in range(2):
            writer.write(head(path, 3, "Let-In: me") + b"abc")
            assert await answer(reader) == (200, b'{"by":"me","bytes":3}')


@PATHS
async def test_a_refused_body_is_not_waited_for(path: str) -> None:
    async with connected() as (reader, writer, server):
        writer.write(head(path, 1_000_000) + bytes(10))
        status, body = await answer(reader)
        assert (status, msgspec.json.decode(body)["detail"]) == (403, "not you")
        assert server.held == 0
        writer.write(bytes(100_000))
        assert await asyncio.wait_for(reader.read(), 5) == b""  # closed: what follows is the body


@PATHS
async def test_a_connection_goes_on_after_a_refusal_without_more_body(path: str) -> None:
    async with connected() as (reader, writer, server):
        writer.write(head(path, 0))
        assert (await answer(reader))[0] == 403
        writer.write(head(path, 0, "Let-In: me"))
        assert (await answer(reader))[0] == 200
        assert server.held == 0


@PATHS
async def test_a_fault_inside_says_nothing_of_it(path: str) -> None:
    async with connected() as (reader, writer, _):
        writer.write(head(path, 0, "Let-In: broken"))
        status, body = await answer(reader)
        assert status == 500
        assert b"fault" not in body
