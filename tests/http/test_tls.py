"""HTTPS: both of our clients against the server, versions, and new certificates under connections that are up."""

import asyncio
import contextlib
import socket
import ssl
from collections.abc import AsyncIterator
from pathlib import Path

import pytest
import pytest_asyncio

from skerry.core.clock import SystemClock
from skerry.http import AsyncClient, Client, HttpServer, Request, Response, Route, UnreachableError, json_response
from skerry.trust import ServerTls, TlsFiles
from tests.fixtures.certificates import Site

pytestmark = pytest.mark.asyncio


async def _whole(request: Request) -> Response:
    return json_response({"path": request.path, "remote": request.remote, "bytes": len(request.body)})


ROUTES = [Route("GET", "/plain", _whole, direct=True), Route("POST", "/body", _whole), Route("GET", "/by/{name}", _whole)]


class Served:
    """A server with TLS, its port and its site."""

    def __init__(self, site: Site, tls: ServerTls, port: int) -> None:
        self.site = site
        self.tls = tls
        self.port = port
        self.url = f"https://localhost:{port}"


@pytest_asyncio.fixture
async def served(tmp_path: Path) -> AsyncIterator[Served]:
    clock = SystemClock()
    site = Site(tmp_path, clock.now())
    tls = ServerTls(TlsFiles("api.tls", site.cert, site.key), clock)
    async with HttpServer(ROUTES) as server:
        yield Served(site, tls, await server.listen_tcp("127.0.0.1", 0, tls.context))


async def connected(served: Served) -> tuple[asyncio.StreamReader, asyncio.StreamWriter]:
    context = ssl.create_default_context(cafile=str(served.site.ca))
    return await asyncio.open_connection("127.0.0.1", served.port, ssl=context, server_hostname="localhost")


async def ask(reader: asyncio.StreamReader, writer: asyncio.StreamWriter, path: str = "/plain") -> bytes:
    writer.write(f"GET {path} HTTP/1.1\r\nHost: x\r\n\r\n".encode())
    head = await asyncio.wait_for(reader.readuntil(b"\r\n\r\n"), 5)
    length = next(int(line.split(b":")[1]) for line in head.split(b"\r\n") if line.lower().startswith(b"content-length"))
    return head.split(b"\r\n")[0] + b" " + await reader.readexactly(length)


async def test_both_clients(served: Served) -> None:
    def blocking() -> tuple[object, object]:
        with Client(served.url, ca=served.site.ca) as client:
            return client.get("/plain"), client.post("/body", {"x": "y" * 200_000})

    plain, body = await asyncio.to_thread(blocking)
    assert plain == {"path": "/plain", "remote": "127.0.0.1", "bytes": 0}
    assert isinstance(body, dict)
    assert body["bytes"] > 200_000
    async with AsyncClient(served.url, ca=served.site.ca) as client:
        answers = await asyncio.gather(*(client.get(f"/by/{number}") for number in range(20)))
    assert [answer["path"] for answer in answers] == [f"/by/{number}" for number in range(20)]


async def test_a_certificate_that_cannot_be_checked_is_told(served: Served, tmp_path: Path) -> None:
    other = Site(tmp_path / "other", SystemClock().now())
    for ca in ("", other.ca):
        with pytest.raises(UnreachableError, match="the node's certificate is signed by a CA that is not known here"):
            await asyncio.to_thread(Client(served.url, ca=ca).get, "/plain")
    served.site.renew(("box1.example",))
    assert served.tls.refresh()
    with pytest.raises(UnreachableError, match="the node's certificate is for other names; use one of its names in the URL"):
        await asyncio.to_thread(Client(served.url, ca=served.site.ca).get, "/plain")


async def test_plain_http_gets_nothing_there(served: Served) -> None:
    with socket.create_connection(("127.0.0.1", served.port), 5) as peer:
        peer.sendall(b"GET /plain HTTP/1.1\r\nHost: x\r\n\r\n")
        with contextlib.suppress(ConnectionError):
            assert b"HTTP" not in await asyncio.to_thread(peer.recv, 100)


@pytest.mark.parametrize(
    ("version", "works"),
    [(ssl.TLSVersion.TLSv1_1, False), (ssl.TLSVersion.TLSv1_2, True), (ssl.TLSVersion.TLSv1_3, True)],
    ids=["1.1", "1.2", "1.3"],
)
@pytest.mark.filterwarnings("ignore:ssl.TLSVersion")
async def test_versions(served: Served, version: ssl.TLSVersion, works: bool) -> None:
    context = ssl.create_default_context(cafile=str(served.site.ca))
    context.set_ciphers("ALL:@SECLEVEL=0")
    context.minimum_version, context.maximum_version = ssl.TLSVersion.MINIMUM_SUPPORTED, version
    opening = asyncio.open_connection("127.0.0.1", served.port, ssl=context, server_hostname="localhost")
    if works:
        reader, writer = await opening
        assert (await ask(reader, writer)).startswith(b"HTTP/1.1 200")
        writer.transport.abort()
    else:
        with pytest.raises((ssl.SSLError, ConnectionError)):
            await opening


async def test_a_new_certificate_is_for_new_connections_and_cuts_none(served: Served) -> None:
    reader, writer = await connected(served)
    before = writer.get_extra_info("peercert")["serialNumber"]
    assert (await ask(reader, writer)).startswith(b"HTTP/1.1 200")
    served.site.renew()
    assert served.tls.refresh()
    for path in ("/plain", "/by/x"):
        assert (await ask(reader, writer, path)).startswith(b"HTTP/1.1 200")
    _, other = await connected(served)
    assert other.get_extra_info("peercert")["serialNumber"] != before
    for each in (writer, other):
        each.transport.abort()


async def test_it_stops_with_connections_that_are_up(tmp_path: Path) -> None:
    site = Site(tmp_path, SystemClock().now())
    tls = ServerTls(TlsFiles("api.tls", site.cert, site.key), SystemClock())
    async with HttpServer(ROUTES) as server:
        served = Served(site, tls, await server.listen_tcp("127.0.0.1", 0, tls.context))
        reader, writer = await connected(served)
        await ask(reader, writer)
    with contextlib.suppress(ConnectionError, ssl.SSLError):
        assert await asyncio.wait_for(reader.read(), 5) == b""
    writer.transport.abort()
