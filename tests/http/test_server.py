"""The server shell on real sockets."""

import asyncio
import os
import socket
import stat
from collections.abc import AsyncIterator
from pathlib import Path

import msgspec
import pytest
from psutil import Process

from skerry.core.errors import RejectedError, UnavailableError
from skerry.http import AsyncClient, HttpServer, Limits, Request, Response, Route, Stream, json_response, message
from tests.fixtures.nats import until

pytestmark = pytest.mark.asyncio
HOST = "127.0.0.1"


class Place:
    """Handlers that show what they were given and what became of them."""

    def __init__(self) -> None:
        self.entered = asyncio.Event()
        self.go_on = asyncio.Event()
        self.finished = 0
        self.closed = asyncio.Event()
        self.sent = 0

    async def echo(self, request: Request) -> Response:
        return json_response(msgspec.to_builtins(request) | {"body": request.body.decode()})

    async def slow(self, request: Request) -> Response:
        self.entered.set()
        await self.go_on.wait()
        self.finished += 1
        return json_response({})

    async def rejects(self, request: Request) -> Response:
        raise RejectedError("no", where="here", mend="go away")

    async def breaks(self, request: Request) -> Response:
        raise ZeroDivisionError("a secret of the inside")

    async def ticks(self, request: Request) -> Stream:
        return Stream(self._ticks(request.query.get("flood") == "1"), {"content-type": "text/event-stream"})

    async def _ticks(self, flood: bool) -> AsyncIterator[bytes]:
        try:
            while True:
                self.sent += 1
                self.entered.set()
                yield message(b"x" * 60_000 if flood else b"1", id=str(self.sent))
                await asyncio.sleep(0 if flood else 0.01)
        finally:
            self.closed.set()

    async def three(self, request: Request) -> Stream:
        async def chunks() -> AsyncIterator[bytes]:
            for number in range(3):
                yield message(str(number).encode())

        return Stream(chunks(), {"content-type": "text/event-stream"})

    @property
    def routes(self) -> list[Route]:
        return [
            Route("GET", "/echo/{name}", self.echo),
            Route("POST", "/echo/{name}", self.echo),
            Route("GET", "/slow", self.slow),
            Route("GET", "/rejects", self.rejects),
            Route("GET", "/breaks", self.breaks),
            Route("GET", "/ticks", self.ticks),
            Route("GET", "/three", self.three),
        ]


async def raw(port: int, text: str, body: bytes = b"") -> tuple[int, dict[str, str], bytes]:
    """Status, headers and body of one request as it stands on the wire."""
    reader, writer = await asyncio.open_connection(HOST, port)
    writer.write(text.replace("\n", "\r\n").encode() + b"\r\n\r\n" + body)
    answer = await asyncio.wait_for(reader.read(), 5)
    writer.close()
    await writer.wait_closed()
    head, _, content = answer.partition(b"\r\n\r\n")
    first, *rest = head.decode().split("\r\n")
    headers = {name.lower(): value for name, _, value in (line.partition(": ") for line in rest)}
    return int(first.split()[1]), headers, content


GET = "GET {} HTTP/1.1\nHost: x\nConnection: close"


async def test_a_request_as_a_handler_sees_it() -> None:
    async with HttpServer(Place().routes) as server:
        port = await server.listen_tcp(HOST, 0)
        ask = "POST /echo/a%20b?x=1&x=2&y=%C3%A9 HTTP/1.1\nHost: me:1\nX-Odd: A\nConnection: close\nContent-Length: 2"
        status, headers, body = await raw(port, ask, b"hi")
    assert status == 200
    assert headers["content-type"] == "application/json"
    seen = msgspec.json.decode(body)
    assert (seen["method"], seen["path"], seen["params"]) == ("POST", "/echo/a b", {"name": "a b"})
    assert seen["query"] == {"x": "1", "y": "é"}
    assert seen["headers"]["host"] == "me:1"
    assert seen["headers"]["x-odd"] == "A"
    assert (seen["body"], seen["remote"]) == ("hi", HOST)


async def test_head_answers_without_a_body() -> None:
    async with HttpServer(Place().routes) as server:
        port = await server.listen_tcp(HOST, 0)
        status, headers, body = await raw(port, GET.format("/echo/x").replace("GET", "HEAD"))
        assert (status, body) == (200, b"")
        assert int(headers["content-length"]) > 0
        status, headers, body = await raw(port, GET.format("/ticks").replace("GET", "HEAD"))
        assert (status, headers["content-type"], body) == (200, "text/event-stream", b"")


@pytest.mark.parametrize(
    ("ask", "status", "detail"),
    [
        (GET.format("/nowhere"), 404, "there is nothing at /nowhere"),
        (GET.format("/slow").replace("GET", "DELETE"), 405, "DELETE is not for /slow"),
        (GET.format("/rejects"), 400, "no"),
        (GET.format("/breaks"), 500, "it did not work"),
        ("POST /echo/x HTTP/1.1\nHost: x\nConnection: close\nContent-Length: 101", 413, "the body is larger than 100 bytes"),
    ],
)
async def test_what_goes_wrong_is_a_problem(ask: str, status: int, detail: str) -> None:
    async with HttpServer(Place().routes, Limits(body=100)) as server:
        port = await server.listen_tcp(HOST, 0)
        got, headers, body = await raw(port, ask)
    assert (got, headers["content-type"]) == (status, "application/problem+json")
    told = msgspec.json.decode(body)
    assert (told["status"], told["detail"]) == (status, detail)
    assert b"secret" not in body


async def test_a_chunked_body_is_bounded_too() -> None:
    async with HttpServer(Place().routes, Limits(body=100)) as server:
        port = await server.listen_tcp(HOST, 0)
        ask = "POST /echo/x HTTP/1.1\nHost: x\nConnection: close\nTransfer-Encoding: chunked"
        status, _, body = await raw(port, ask, b"80\r\n" + b"a" * 128 + b"\r\n0\r\n\r\n")
        assert (status, msgspec.json.decode(body)["status"]) == (413, 413)
        status, _, _ = await raw(port, ask, b"40\r\n" + b"a" * 64 + b"\r\n0\r\n\r\n")
        assert status == 200


async def test_a_body_that_does_not_come_is_given_up() -> None:
    async with HttpServer(Place().routes, Limits(body_time=0.1)) as server:
        port = await server.listen_tcp(HOST, 0)
        status, _, body = await raw(port, "POST /echo/x HTTP/1.1\nHost: x\nConnection: close\nContent-Length: 10", b"a")
    assert (status, msgspec.json.decode(body)["detail"]) == (408, "the request took too long")


async def test_both_listeners_at_once_and_the_sockets_permissions(tmp_path: Path) -> None:
    path = tmp_path / "s.sock"
    async with HttpServer(Place().routes) as server:
        await server.listen_unix(path)
        port = await server.listen_tcp(HOST, 0)
        assert stat.S_IMODE(path.stat().st_mode) == 0o600
        async with AsyncClient(path) as client:
            assert (await client.get("/echo/x"))["remote"] == "unix"
        async with AsyncClient(f"http://{HOST}:{port}") as client:
            assert (await client.get("/echo/x"))["remote"] == HOST
    assert not path.exists()
    with pytest.raises(OSError, match="Connect"):
        await asyncio.open_connection(HOST, port)


async def test_a_socket_left_over_is_replaced_and_one_in_use_is_not(tmp_path: Path) -> None:
    path = tmp_path / "s.sock"
    with socket.socket(socket.AF_UNIX) as left:
        left.bind(str(path))
    async with HttpServer(Place().routes) as server, HttpServer(Place().routes) as second:
        await server.listen_unix(path)
        with pytest.raises(UnavailableError, match=r"another node answers on this socket; stop it first"):
            await second.listen_unix(path)
        async with AsyncClient(path) as client:
            assert await client.get("/echo/x")


@pytest.mark.parametrize("name", ["file", "no/such/place", "x" * 120])
async def test_a_socket_that_cannot_be_made(tmp_path: Path, name: str) -> None:
    (tmp_path / "file").write_text("precious")
    async with HttpServer(Place().routes) as server:
        with pytest.raises(UnavailableError, match="cannot listen on this socket"):
            await server.listen_unix(tmp_path / name)
    assert (tmp_path / "file").read_text() == "precious"


async def test_a_taken_port_is_one_sentence() -> None:
    with socket.socket() as taken:
        taken.bind((HOST, 0))
        taken.listen()
        port = taken.getsockname()[1]
        async with HttpServer(Place().routes) as server:
            with pytest.raises(UnavailableError) as caught:
                await server.listen_tcp(HOST, port)
    assert str(caught.value) == (
        f"{HOST}:{port}: cannot listen for HTTP: address already in use by {Process().name()} (pid {os.getpid()}); "
        "stop what listens there or choose another port"
    )


async def test_an_address_of_another_machine_is_one_sentence() -> None:
    async with HttpServer(Place().routes) as server:
        with pytest.raises(UnavailableError, match="cannot listen for HTTP: cannot assign requested address"):
            await server.listen_tcp("192.0.2.1", 0)


async def test_connections_are_bounded_and_the_socket_stays_open(tmp_path: Path) -> None:
    async with HttpServer(Place().routes, Limits(connections=2)) as server:
        port = await server.listen_tcp(HOST, 0)
        await server.listen_unix(tmp_path / "s.sock")
        held = [await asyncio.open_connection(HOST, port) for _ in range(2)]
        await asyncio.sleep(0.05)
        status, headers, _ = await raw(port, GET.format("/echo/x"))
        assert (status, headers["retry-after"], headers["content-type"]) == (503, "1", "application/problem+json")
        async with AsyncClient(tmp_path / "s.sock") as client:
            assert await client.get("/echo/x")
        for _, writer in held:
            writer.close()
            await writer.wait_closed()
        await asyncio.sleep(0.05)
        status, _, _ = await raw(port, GET.format("/echo/x"))
        assert status == 200


async def test_a_stream_that_ends() -> None:
    async with HttpServer(Place().routes) as server:
        port = await server.listen_tcp(HOST, 0)
        async with AsyncClient(f"http://{HOST}:{port}") as client:
            assert [each.data async for each in client.stream("/three")] == ["0", "1", "2"]


async def test_stopping_ends_open_streams_and_gives_work_its_time() -> None:
    place = Place()
    loop = asyncio.get_running_loop()
    async with HttpServer(place.routes) as server:
        port = await server.listen_tcp(HOST, 0)
        async with AsyncClient(f"http://{HOST}:{port}") as client:
            stream = client.stream("/ticks")
            await anext(stream)
            place.entered.clear()
            asked = asyncio.create_task(client.get("/slow"))
            await place.entered.wait()
            began = loop.time()
            stopping = asyncio.create_task(server.stop())
            loop.call_later(0.2, place.go_on.set)
            assert await asked == {}
            await stopping
            assert loop.time() - began < 1.0
            assert len([each async for each in stream]) < 50
    assert place.closed.is_set()


async def test_stopping_does_not_wait_for_ever() -> None:
    place = Place()
    async with HttpServer(place.routes, Limits(stop_time=0.2)) as server:
        port = await server.listen_tcp(HOST, 0)
        reader, writer = await asyncio.open_connection(HOST, port)
        writer.write(b"GET /slow HTTP/1.1\r\nHost: x\r\n\r\n")
        await place.entered.wait()
        began = asyncio.get_running_loop().time()
        await server.stop()
        assert asyncio.get_running_loop().time() - began < 2.0
        assert place.finished == 0
        await reader.read()
        writer.close()


async def test_a_stream_is_closed_when_its_reader_leaves() -> None:
    place = Place()
    async with HttpServer(place.routes) as server:
        port = await server.listen_tcp(HOST, 0)
        _, writer = await asyncio.open_connection(HOST, port)
        writer.write(b"GET /ticks HTTP/1.1\r\nHost: x\r\n\r\n")
        await place.entered.wait()
        writer.transport.abort()
        await asyncio.wait_for(place.closed.wait(), 2)


async def test_what_was_begun_is_finished_when_the_asker_leaves() -> None:
    place = Place()
    async with HttpServer(place.routes) as server:
        port = await server.listen_tcp(HOST, 0)
        _, writer = await asyncio.open_connection(HOST, port)
        writer.write(b"GET /slow HTTP/1.1\r\nHost: x\r\n\r\n")
        await place.entered.wait()
        writer.transport.abort()
        await asyncio.sleep(0.05)
        place.go_on.set()
        await asyncio.sleep(0.05)
        assert place.finished == 1


async def test_a_slow_reader_holds_little_and_is_cut_off() -> None:
    place = Place()
    async with HttpServer(place.routes, Limits(write_time=0.3)) as server:
        port = await server.listen_tcp(HOST, 0)
        _, writer = await asyncio.open_connection(HOST, port, limit=1024)
        writer.write(b"GET /ticks?flood=1 HTTP/1.1\r\nHost: x\r\n\r\n")
        await asyncio.wait_for(place.closed.wait(), 5)
        # what the kernel's two buffers took, and no more
        assert place.sent * 60_000 < 32 * 1024 * 1024
        writer.close()


def descriptors() -> int:
    return len(list(Path("/proc/self/fd").iterdir()))


async def test_no_descriptor_is_left(tmp_path: Path) -> None:
    before = 0
    for round_ in range(4):
        # what the loop opens on first use stays open with it
        before = descriptors() if round_ == 1 else before
        async with HttpServer(Place().routes) as server:
            await server.listen_unix(tmp_path / "s.sock")
            await server.listen_tcp(HOST, 0)
            async with AsyncClient(tmp_path / "s.sock") as client:
                await client.get("/echo/x")
    await asyncio.sleep(0.05)
    assert descriptors() <= before


async def test_a_body_is_held_until_its_handler_has_ended_also_when_its_client_has_left() -> None:
    """Else clients that come, give and leave would have it hold more than its bound."""
    place = Place()
    async with HttpServer([Route("POST", "/slow", place.slow)], Limits(bodies=100_000)) as server:
        port = await server.listen_tcp(HOST, 0)
        _, writer = await asyncio.open_connection(HOST, port)
        writer.write(b"POST /slow HTTP/1.1\r\nHost: x\r\nContent-Length: 60000\r\n\r\n" + b"x" * 60_000)
        await asyncio.wait_for(place.entered.wait(), 30)
        writer.transport.abort()
        await asyncio.sleep(0.3)  # the server has seen that it left
        assert server.held == 60_000
        place.go_on.set()
        await until(lambda: server.held == 0, 30)
        assert place.finished == 1
