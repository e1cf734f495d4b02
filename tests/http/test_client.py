"""Both clients, against a real server and against what is none. The blocking one runs in a thread beside the server."""

import asyncio
import socket
import threading
from collections.abc import AsyncIterator, Iterator
from contextlib import contextmanager
from pathlib import Path

import msgspec
import pytest

from skerry.core.errors import OverloadedError
from skerry.http import (
    AsyncClient,
    Client,
    HttpServer,
    NotFoundError,
    Request,
    Response,
    Route,
    Stream,
    UnreachableError,
    comment,
    json_response,
    message,
)


async def rows(request: Request) -> Response:
    if request.method == "POST":
        return json_response({"made": msgspec.json.decode(request.body or b"null")}, 201)
    if request.method == "DELETE":
        return Response(204)
    return json_response({"query": dict(request.query)})


async def missing(request: Request) -> Response:
    raise NotFoundError("there is no such row", mend="see the list")


async def full(request: Request) -> Response:
    raise OverloadedError("full")


async def numbers(request: Request) -> Stream:
    start = int(request.headers.get("last-event-id", "0"))

    async def chunks() -> AsyncIterator[bytes]:
        for number in range(start + 1, start + 4):
            yield comment("alive")
            yield message(str(number).encode(), event="event", id=str(number))

    return Stream(chunks(), {"content-type": "text/event-stream"})


async def silent(request: Request) -> Stream:
    async def chunks() -> AsyncIterator[bytes]:
        yield message(b"1")
        await asyncio.sleep(60)

    return Stream(chunks(), {"content-type": "text/event-stream"})


async def late(request: Request) -> Response:
    await asyncio.sleep(60)
    return json_response({})


ROUTES = [
    *[Route(method, "/rows", rows) for method in ("GET", "POST", "DELETE")],
    Route("GET", "/missing", missing),
    Route("GET", "/full", full),
    Route("GET", "/numbers", numbers),
    Route("GET", "/silent", silent),
    Route("GET", "/late", late),
]


@contextmanager
def serving(path: Path) -> Iterator[str]:
    """A server in a thread of its own, on a Unix socket and on the port of the URL given."""
    up: asyncio.Future[tuple[asyncio.AbstractEventLoop, asyncio.Event, int]] = asyncio.Future(
        loop=(own := asyncio.new_event_loop())
    )
    started = threading.Event()

    async def serve() -> None:
        async with HttpServer(ROUTES) as server:
            await server.listen_unix(path)
            end = asyncio.Event()
            up.set_result((own, end, await server.listen_tcp("127.0.0.1", 0)))
            started.set()
            await end.wait()

    thread = threading.Thread(target=lambda: own.run_until_complete(serve()))
    thread.start()
    assert started.wait(5)
    loop, end, port = up.result()
    try:
        yield f"http://127.0.0.1:{port}"
    finally:
        loop.call_soon_threadsafe(end.set)
        thread.join(5)
        own.close()


@pytest.fixture
def server(tmp_path: Path) -> Iterator[tuple[Path, str]]:
    with serving(tmp_path / "s.sock") as url:
        yield tmp_path / "s.sock", url


@pytest.mark.parametrize("which", [0, 1], ids=["unix", "http"])
def test_asking(server: tuple[Path, str], which: int) -> None:
    with Client(server[which]) as client:
        assert client.get("/rows", {"a": 1, "b": "x&y", "c": None}) == {"query": {"a": "1", "b": "x&y"}}
        assert client.post("/rows", {"id": "é"}) == {"made": {"id": "é"}}
        assert client.post("/rows") == {"made": None}
        assert client.delete("/rows") is None
        with pytest.raises(NotFoundError, match="there is no such row; see the list"):
            client.get("/missing")
        with pytest.raises(OverloadedError):
            client.get("/full")
        assert [(m.id, m.event, m.data) for m in client.stream("/numbers", last_id="7")] == [
            (str(n), "event", str(n)) for n in (8, 9, 10)
        ]
        with pytest.raises(NotFoundError):
            list(client.stream("/missing"))
        assert client.get("/rows") == {"query": {}}


def test_a_stream_may_be_left(server: tuple[Path, str]) -> None:
    with Client(server[0]) as client:
        for found in client.stream("/silent"):
            assert found.data == "1"
            break
        assert client.get("/rows") == {"query": {}}


def test_silence_is_noticed(server: tuple[Path, str]) -> None:
    with Client(server[0], timeout=0.2) as client:
        with pytest.raises(UnreachableError, match="does not answer in time"):
            list(client.stream("/silent", silence=0.2))
        with pytest.raises(UnreachableError, match="does not answer in time"):
            client.get("/late")


async def _asking(where: Path | str) -> None:
    async with AsyncClient(where, timeout=0.5) as client:
        assert await client.get("/rows", {"a": 1, "b": "x&y", "c": None}) == {"query": {"a": "1", "b": "x&y"}}
        assert await client.post("/rows", {"id": "é"}) == {"made": {"id": "é"}}
        assert await client.delete("/rows") is None
        with pytest.raises(NotFoundError, match="there is no such row; see the list"):
            await client.get("/missing")
        assert [m.id async for m in client.stream("/numbers", last_id="7")] == ["8", "9", "10"]
        with pytest.raises(OverloadedError):
            [m async for m in client.stream("/full")]
        with pytest.raises(UnreachableError, match="does not answer in time"):
            await client.get("/late")
        with pytest.raises(UnreachableError):
            [m async for m in client.stream("/silent", silence=0.2)]


@pytest.mark.asyncio
@pytest.mark.parametrize("which", [0, 1], ids=["unix", "http"])
async def test_asking_in_asyncio(server: tuple[Path, str], which: int) -> None:
    await _asking(server[which])


def test_nobody_there(tmp_path: Path, free_port: int) -> None:
    with pytest.raises(UnreachableError, match="its socket is not there; start it with `skerry run`"):
        Client(tmp_path / "none.sock").get("/rows")
    with socket.socket(socket.AF_UNIX) as left:
        left.bind(str(tmp_path / "left.sock"))
    with pytest.raises(UnreachableError, match="connection refused"):
        Client(tmp_path / "left.sock").get("/rows")
    with pytest.raises(UnreachableError, match="connection refused"):
        list(Client(f"http://127.0.0.1:{free_port}").stream("/numbers"))


@pytest.mark.asyncio
async def test_nobody_there_in_asyncio(tmp_path: Path, free_port: int) -> None:
    for where in (tmp_path / "none.sock", f"http://127.0.0.1:{free_port}"):
        async with AsyncClient(where) as client:
            with pytest.raises(UnreachableError):
                await client.get("/rows")


@pytest.mark.parametrize(
    "answer",
    [
        b"",
        b"SSH-2.0-x\r\n",
        b"HTTP/1.1 200 OK\r\ncontent-length: 6\r\n\r\n<html>",
        b"HTTP/1.1 200 OK\r\ncontent-length: 9\r\n\r\n{",
    ],
)
def test_something_else_answers(answer: bytes) -> None:
    with socket.socket() as other:
        other.bind(("127.0.0.1", 0))
        other.listen()

        def serve() -> None:
            peer, _ = other.accept()
            with peer:
                peer.recv(1000)
                peer.sendall(answer)

        thread = threading.Thread(target=serve)
        thread.start()
        with pytest.raises(UnreachableError):
            Client(f"http://127.0.0.1:{other.getsockname()[1]}").get("/rows")
        thread.join(5)
