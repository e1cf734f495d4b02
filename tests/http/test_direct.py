"""The short way in: what takes it, what does not, bounds, and clients that are slow, vanish or ask for too much."""

import asyncio
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager

import msgspec
import pytest

from skerry.core.errors import OverloadedError, RejectedError
from skerry.http import UNIX, HttpServer, Limits, RefusedError, Request, Response, Route

pytestmark = pytest.mark.asyncio
HOST = "127.0.0.1"
MOST = 6_000_000


class Place:
    """Says what came; holds answers back while `go_on` is not set."""

    def __init__(self) -> None:
        self.entered = asyncio.Event()
        self.go_on = asyncio.Event()
        self.finished = 0

    async def echo(self, request: Request) -> Response:
        told = {"path": request.path, "size": len(request.body), "headers": dict(request.headers), "remote": request.remote}
        return Response(200, {"content-type": "application/json"}, msgspec.json.encode({**told, "params": dict(request.params)}))

    async def slow(self, request: Request) -> Response:
        self.entered.set()
        await self.go_on.wait()
        self.finished += 1
        return Response(200, {}, request.body)

    async def large(self, request: Request) -> Response:
        return Response(200, {}, b"x" * 4_000_000)

    async def fails(self, request: Request) -> Response:
        raise {
            "refused": RefusedError("this is not open"), "overloaded": OverloadedError("too much", mend="wait"),
            "rejected": RejectedError("no", where="here", mend="go"), "broken": ZeroDivisionError("a secret"),
        }[request.path.rpartition("/")[2]]  # fmt: skip

    def routes(self) -> list[Route]:
        def direct(at: str, handler: object) -> list[Route]:
            return [
                Route(method, f"/v2{at}/{{rest:.*}}", handler, max_body=MOST, plain_errors=True, direct=True)  # type: ignore[arg-type]  # handlers of two kinds
                for method in ("GET", "POST")
            ]

        return [
            *direct("/slow", self.slow), *direct("/large", self.large), *direct("/fails", self.fails), *direct("", self.echo),
            Route("POST", "/other", self.echo),
        ]  # fmt: skip


@asynccontextmanager
async def serving(limits: Limits = Limits()) -> AsyncIterator[tuple[HttpServer, Place, int]]:  # noqa: B008 - limits are frozen
    place = Place()
    async with HttpServer(place.routes(), limits) as server:
        yield server, place, await server.listen_tcp(HOST, 0)


def post(path: str, body: bytes = b"", more: str = "", size: int | None = None) -> bytes:
    length = len(body) if size is None else size
    return f"POST {path} HTTP/1.1\r\nHost: x\r\n{more}Content-Length: {length}\r\n\r\n".encode() + body


async def answer(reader: asyncio.StreamReader) -> tuple[int, dict[str, str], bytes]:
    """One answer of a connection that stays open."""
    head = (await asyncio.wait_for(reader.readuntil(b"\r\n\r\n"), 5)).decode()
    first, *lines = head.strip().split("\r\n")
    headers = {name.lower(): value for name, _, value in (line.partition(": ") for line in lines)}
    return int(first.split()[1]), headers, await asyncio.wait_for(reader.readexactly(int(headers["content-length"])), 5)


async def asked(port: int, *requests: bytes) -> list[tuple[int, dict[str, str], bytes]]:
    """The answers of requests over one connection, each written once the one before is answered."""
    reader, writer = await asyncio.open_connection(HOST, port)
    try:
        found = []
        for request in requests:
            writer.write(request)
            found.append(await answer(reader))
        return found
    finally:
        writer.close()
        await writer.wait_closed()


async def until(check: Callable[[], bool]) -> None:
    for _ in range(1000):
        if check():
            return
        await asyncio.sleep(0.01)
    raise AssertionError("it did not come")


async def test_a_plain_request_and_the_next_on_its_connection() -> None:
    async with serving() as (_, _, port):
        odd = "Content-Type: a/b\r\nX-Odd:  spaced out \r\n"
        first, second = await asked(port, post("/v2/a/b", b"hello", odd), post("/v2/", b""))
    told = msgspec.json.decode(first[2])
    assert (first[0], told["path"], told["size"], told["remote"]) == (200, "/v2/a/b", 5, HOST)
    assert told["params"] == {}
    assert told["headers"] == {"host": "x", "content-type": "a/b", "x-odd": "spaced out", "content-length": "5"}
    assert first[1]["content-type"] == "application/json"
    assert "GMT" in first[1]["date"]
    assert msgspec.json.decode(second[2])["size"] == 0


@pytest.mark.parametrize(
    ("request_", "path"),
    [
        (post("/v2/a%20b", b"hi"), "/v2/a b"),
        (post("/v2/a?x=1", b"hi"), "/v2/a"),
        (b"POST /v2/a HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\n2\r\nhi\r\n0\r\n\r\n", "/v2/a"),
        (post("/v2/a", b"hi", "X: 1\r\nX: 2\r\n"), "/v2/a"),
        (post("/v2/a", b"hi", "X: \xe9\r\n"), "/v2/a"),
        (post("/v2/a", b"hi", "Connection: close\r\n"), "/v2/a"),
        (post("/other", b"hi"), "/other"),
        (post("/v2/a", b"hi", f"X-A: {'x' * 5000}\r\nX-B: {'x' * 5000}\r\n"), "/v2/a"),
    ],
)
async def test_what_is_not_plain_is_the_librarys(request_: bytes, path: str) -> None:
    """Also as the second request of a connection."""
    async with serving() as (_, _, port):
        for before in ((), (post("/v2/first", b"1"),)):
            status, headers, body = (await asked(port, *before, request_))[-1]
            assert (status, msgspec.json.decode(body)["path"], msgspec.json.decode(body)["size"]) == (200, path, 2)
            assert "aiohttp" in headers["server"]


async def test_a_request_that_comes_in_pieces_and_two_that_come_together() -> None:
    async with serving() as (_, _, port):
        reader, writer = await asyncio.open_connection(HOST, port)
        for byte in post("/v2/a", b"hello"):
            writer.write(bytes([byte]))
            await asyncio.sleep(0)
        assert msgspec.json.decode((await answer(reader))[2])["size"] == 5
        writer.write(post("/v2/one", b"1") + post("/v2/two", b"22") + post("/other", b"333"))
        told = [msgspec.json.decode((await answer(reader))[2]) for _ in range(3)]
        assert [(each["path"], each["size"]) for each in told] == [("/v2/one", 1), ("/v2/two", 2), ("/other", 3)]
        writer.close()
        await writer.wait_closed()


@pytest.mark.parametrize(
    "head",
    [
        b"POST /v2/a HTTP/1.1\r\nHost: x\r\nContent-Length: -1\r\n\r\n",
        b"POST /v2/a HTTP/1.1\r\nHost: x\r\nContent-Length: 1\r\nContent-Length: 2\r\n\r\nab",
        b"POST /v2/a HTTP/1.1\r\nHost: x\r\nBad Name: 1\r\nContent-Length: 0\r\n\r\n",
        b"POST /v2/a HTTP/1.1\r\nHost: x\r\nno colon\r\n\r\n",
        b"POST /v2/a HTTP/9.9\r\n\r\n",
        b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03" + b"\x00" * 40 + b"\r\n\r\n",
    ],
)
async def test_what_is_no_http_is_refused(head: bytes) -> None:
    async with serving() as (server, _, port):
        reader, writer = await asyncio.open_connection(HOST, port)
        writer.write(head)
        assert (await asyncio.wait_for(reader.read(), 5)).startswith(b"HTTP/1.")
        writer.close()
        await writer.wait_closed()
        assert (await asked(port, post("/v2/a")))[0][0] == 200
        assert server.held == 0


@pytest.mark.parametrize(
    ("request_", "status", "sentence"),
    [
        (post("/v2/fails/refused"), 403, "this is not open"),
        (post("/v2/fails/overloaded"), 503, "too much; wait"),
        (post("/v2/fails/rejected"), 400, "here: no; go"),
        (post("/v2/fails/broken"), 500, "it did not work; see the node's log"),
        (post("/v2/a", size=MOST + 1), 413, f"the body is larger than {MOST} bytes; send less at a time"),
        (b"DELETE /v2/a HTTP/1.1\r\nHost: x\r\n\r\n", 405, "DELETE is not for /v2/a; allowed: GET,HEAD,POST"),
    ],
)
async def test_refusals_are_the_protocols(request_: bytes, status: int, sentence: str) -> None:
    async with serving() as (_, _, port):
        got, headers, body = (await asked(port, request_))[0]
    assert (got, headers["content-type"]) == (status, "application/json")
    assert msgspec.json.decode(body) == {"error": sentence}


async def test_elsewhere_refusals_stay_problem_details() -> None:
    async with serving() as (_, _, port):
        for path in ("/elsewhere", "/v2x", "/"):
            ((status, headers, _),) = await asked(port, post(path))
            assert (status, headers["content-type"]) == (404, "application/problem+json")


async def test_each_route_has_its_bound() -> None:
    async with serving(Limits(body=100)) as (_, _, port):
        ((status, _, body),) = await asked(port, post("/v2/a", b"x" * 5_000_000))
        assert (status, msgspec.json.decode(body)["size"]) == (200, 5_000_000)
        ((status, headers, _),) = await asked(port, post("/other", b"x" * 101))
        assert (status, headers["content-type"]) == (413, "application/problem+json")
        chunked = (
            b"POST /v2/a HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\n" + b"100000\r\n" + b"x" * 0x100000 + b"\r\n"
        )
        ((status, _, body),) = await asked(port, chunked + b"0\r\n\r\n")
        assert (status, msgspec.json.decode(body)["size"]) == (200, 0x100000)


async def test_a_slow_client_holds_nobody_up_and_is_given_up() -> None:
    async with serving(Limits(body_time=0.3)) as (server, _, port):
        reader, writer = await asyncio.open_connection(HOST, port)
        writer.write(post("/v2/a", b"half" * 1000, size=8000))
        for _ in range(20):
            ((status, _, _),) = await asked(port, post("/v2/a", b"quick"))
            assert status == 200
        status, headers, body = await answer(reader)
        assert (status, msgspec.json.decode(body)) == (408, {"error": "the request took too long"})
        assert headers["connection"] == "close"
        assert server.held == 0
        assert await asyncio.wait_for(reader.read(), 5) == b""
        writer.close()


async def test_bytes_in_flight_are_bounded_and_given_back() -> None:
    async with serving(Limits(bodies=100_000)) as (server, place, port):
        _, held = await asyncio.open_connection(HOST, port)
        held.write(post("/v2/slow/", b"x" * 60_000))
        await asyncio.wait_for(place.entered.wait(), 5)
        assert server.held == 60_000
        for path, kind in (("/v2/a", "application/json"), ("/other", "application/problem+json")):
            ((status, headers, body),) = await asked(port, post(path, b"x" * 50_000))
            assert (status, headers["content-type"]) == (503, kind)
            assert b"too many bytes are under way" in body
        assert (await asked(port, post("/v2/a", b"x" * 30_000)))[0][0] == 200
        place.go_on.set()
        held.close()
        await held.wait_closed()
        await until(lambda: server.held == 0)
        assert (await asked(port, post("/v2/a", b"x" * 50_000)))[0][0] == 200


async def test_a_client_that_vanishes_leaves_nothing() -> None:
    async with serving() as (server, place, port):
        for request in (post("/v2/a", b"half", size=5_000_000), post("/v2/slow/", b"whole")):
            _, writer = await asyncio.open_connection(HOST, port)
            writer.write(request)
            await asyncio.sleep(0.02)
            writer.transport.abort()
        await asyncio.wait_for(place.entered.wait(), 5)
        assert (await asked(port, post("/v2/a", b"next")))[0][0] == 200
        place.go_on.set()
        await until(lambda: server.held == 0 and place.finished == 1)


async def test_a_client_that_does_not_read_is_cut_off() -> None:
    async with serving(Limits(write_time=0.2)) as (server, _, port):
        reader, writer = await asyncio.open_connection(HOST, port, limit=1024)
        writer.write(post("/v2/large/"))
        await until(lambda: server.held > 0)
        await until(lambda: server.held == 0)
        assert (await asked(port, post("/v2/a")))[0][0] == 200
        writer.transport.abort()
        with pytest.raises((ConnectionError, asyncio.IncompleteReadError)):
            await reader.readexactly(4_000_000)


async def test_what_comes_while_one_is_in_work_is_bounded() -> None:
    async with serving() as (_, place, port):
        reader, writer = await asyncio.open_connection(HOST, port)
        writer.write(post("/v2/slow/", b"first"))
        await asyncio.wait_for(place.entered.wait(), 5)
        writer.write(post("/v2/a", b"x" * 5_000_000))
        await asyncio.sleep(0.05)
        assert writer.transport.get_write_buffer_size() > 0
        place.go_on.set()
        assert (await answer(reader))[2] == b"first"
        assert msgspec.json.decode((await answer(reader))[2])["size"] == 5_000_000
        writer.close()
        await writer.wait_closed()


async def test_connections_that_nobody_uses_are_closed() -> None:
    async with serving(Limits(idle_time=0.2)) as (_, _, port):
        readers = []
        for begin in (b"", b"POST /v2", post("/v2/a", b"x")):
            reader, writer = await asyncio.open_connection(HOST, port)
            writer.write(begin)
            readers.append((reader, writer))
        assert (await answer(readers[2][0]))[0] == 200
        for reader, writer in readers:
            assert await asyncio.wait_for(reader.read(), 10) == b""
            writer.close()


async def test_connections_are_bounded_together() -> None:
    async with serving(Limits(connections=3)) as (_, _, port):
        held = [await asyncio.open_connection(HOST, port) for _ in range(3)]
        for at, (reader, writer) in enumerate(held):
            writer.write(post("/other" if at else "/v2/a"))
            assert (await answer(reader))[0] == 200
        reader, writer = await asyncio.open_connection(HOST, port)
        assert b" 503 " in (await asyncio.wait_for(reader.read(), 5)).partition(b"\r\n")[0]
        for _, each in [*held, (reader, writer)]:
            each.close()


async def test_stopping_answers_what_is_in_work_and_ends_the_rest() -> None:
    async with serving(Limits(stop_time=0.5)) as (server, place, port):
        idle, idle_writer = await asyncio.open_connection(HOST, port)
        idle_writer.write(post("/v2/a", b"half", size=10))
        reader, writer = await asyncio.open_connection(HOST, port)
        writer.write(post("/v2/slow/", b"first"))
        await asyncio.wait_for(place.entered.wait(), 5)
        stopping = asyncio.create_task(server.stop())
        await asyncio.sleep(0.05)
        place.go_on.set()
        assert (await answer(reader))[2] == b"first"
        await stopping
        assert await asyncio.wait_for(idle.read(), 5) == b""
        assert await asyncio.wait_for(reader.read(), 5) == b""
        for each in (writer, idle_writer):
            each.close()


async def test_over_the_unix_socket(tmp_path_factory: pytest.TempPathFactory) -> None:
    path = tmp_path_factory.mktemp("s") / "s.sock"
    async with serving() as (server, _, _):
        await server.listen_unix(path)
        reader, writer = await asyncio.open_unix_connection(str(path))
        writer.write(post("/v2/a"))
        assert msgspec.json.decode((await answer(reader))[2])["remote"] == UNIX
        writer.close()
        await writer.wait_closed()
