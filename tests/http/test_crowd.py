"""No address takes all connections."""

import asyncio
import ssl
from pathlib import Path

import pytest

from skerry.core.errors import OverloadedError
from skerry.http import AsyncClient, HttpServer, Limits, Request, Response, Route, json_response
from skerry.http.crowd import held_by
from tests.http import issued

pytestmark = pytest.mark.asyncio


async def ok(request: Request) -> Response:
    return json_response("ok")


ROUTES = [Route("GET", "/lib", ok), Route("GET", "/direct/{rest:.*}", ok, direct=True)]
Stream = tuple[asyncio.StreamReader, asyncio.StreamWriter]


async def opened(port: int, path: str) -> Stream:
    """A connection with one request sent."""
    reader, writer = await asyncio.open_connection("127.0.0.1", port)
    writer.write(f"GET {path} HTTP/1.1\r\nHost: x\r\n\r\n".encode())
    return reader, writer


async def status(stream: Stream) -> int:
    head = await asyncio.wait_for(stream[0].readuntil(b"\r\n\r\n"), 5)
    return int(head.split()[1])


@pytest.mark.parametrize("paths", [["/lib"] * 4, ["/direct/x"] * 4, ["/lib", "/direct/x"] * 2], ids=["library", "direct", "both"])
async def test_one_address_is_told_when_it_has_enough(tmp_path: Path, paths: list[str]) -> None:
    async with HttpServer(ROUTES, Limits(connections=100, each=4)) as server:
        port = await server.listen_tcp("127.0.0.1", 0)
        await server.listen_unix(tmp_path / "s.sock")
        held = [await opened(port, path) for path in paths]
        assert [await status(each) for each in held] == [200] * 4
        more = await opened(port, "/lib")
        assert await status(more) == 503
        async with AsyncClient(tmp_path / "s.sock") as client:
            assert await client.get("/lib") == "ok"  # the socket of this machine is no address
        held[0][1].close()
        more[1].close()
        found = 0
        for _ in range(50):
            again = await opened(port, "/direct/x")
            found = await status(again)
            again[1].close()
            if found == 200:
                break
            await asyncio.sleep(0.05)
        assert found == 200
        for _, writer in held:
            writer.close()


async def test_it_is_told_over_tls_too(tmp_path: Path) -> None:
    ca, made, key = issued.authority(tmp_path)
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(issued.server(tmp_path, made, key))
    async with HttpServer(ROUTES, Limits(each=1)) as server:
        url = f"https://127.0.0.1:{await server.listen_tcp('127.0.0.1', 0, context)}"
        async with AsyncClient(url, ca=ca) as first, AsyncClient(url, ca=ca) as second:
            assert await first.get("/lib") == "ok"
            with pytest.raises(OverloadedError, match="no room for another connection"):
                await second.get("/lib")


class _Handed:
    def __init__(self, transport: asyncio.Transport | None) -> None:
        self.transport = transport


class _Transport(asyncio.Transport):
    def __init__(self, peer: object) -> None:
        super().__init__({"peername": peer})


async def test_counting() -> None:
    handed = [_Handed(_Transport(peer)) for peer in (("a", 1), ("b", 2), ("a", 3, 0, 0), "", None)] + [_Handed(None)]
    assert held_by("a", ["a", "b", "unix"], handed) == 3
    assert held_by("c", ["a"], handed) == 0
