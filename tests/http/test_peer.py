"""Who is at the other end of a connection."""

import asyncio
import os
import socket
import struct
from pathlib import Path

import pytest

from skerry.http import AsyncClient, HttpServer, Request, Response, Route, json_response
from skerry.http.peer import remote_of, user_of

pytestmark = pytest.mark.asyncio
ME = f"unix:{os.getuid()}"


async def who(request: Request) -> Response:
    return json_response({"by": request.by, "remote": request.remote})


async def test_the_user_of_a_process_is_known_over_the_socket_alone(tmp_path: Path) -> None:
    routes = [Route("GET", "/who", who), Route("POST", "/direct/{rest:.*}", who, direct=True)]
    async with HttpServer(routes) as server:
        await server.listen_unix(tmp_path / "s.sock")
        port = await server.listen_tcp("127.0.0.1", 0)
        async with AsyncClient(tmp_path / "s.sock") as client:
            assert await client.get("/who") == {"by": ME, "remote": "unix"}
            assert await client.post("/direct/x") == {"by": ME, "remote": "unix"}
        async with AsyncClient(f"http://127.0.0.1:{port}") as client:
            assert await client.get("/who") == {"by": "", "remote": "127.0.0.1"}
            assert await client.post("/direct/x") == {"by": "", "remote": "127.0.0.1"}


class _Without(asyncio.BaseTransport):
    """A transport of a system that does not tell."""

    def __init__(self, peer: socket.socket | None) -> None:
        super().__init__({"socket": peer})


async def test_where_it_is_not_told() -> None:
    assert user_of(_Without(None)) == "unix"
    closed = socket.socket(socket.AF_UNIX)
    closed.close()
    assert user_of(_Without(closed)) == "unix"


async def test_nothing_passes_as_the_socket_but_the_socket() -> None:
    """`unix` may do all: where it cannot be told who is there, it is nobody."""
    assert remote_of(None) == ""
    assert remote_of(_Without(None)) == ""
    one, other = socket.socketpair(socket.AF_UNIX)
    with one, other, socket.socket(socket.AF_INET) as tcp:
        assert remote_of(_Without(one)) == "unix"
        assert remote_of(_Without(tcp)) == "", "not connected"


async def test_a_peer_that_has_reset_its_connection_before_it_was_taken() -> None:
    """A scan of ports does that thousands of times: no line in the log, and nothing that passes as the socket."""
    wrong: list[object] = []
    asyncio.get_running_loop().set_exception_handler(lambda _, context: wrong.append(context))
    seen: list[str] = []

    async def note(request: Request) -> Response:
        seen.append(request.remote)
        return Response()

    asked = b"POST /direct/x HTTP/1.1\r\nHost: localhost\r\nContent-Length: 0\r\n\r\n"
    async with HttpServer([Route("POST", "/direct/{rest:.*}", note, direct=True), Route("GET", "/other", note)]) as server:
        port = await server.listen_tcp("127.0.0.1", 0)
        for number in range(60):
            with socket.create_connection(("127.0.0.1", port)) as peer:
                peer.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
                peer.sendall(asked if number % 2 else asked.replace(b"POST /direct/x", b"GET /other"))
        async with AsyncClient(f"http://127.0.0.1:{port}") as client:
            await client.get("/other")
    assert wrong == []
    assert set(seen) <= {"127.0.0.1", ""}
    assert seen[-1] == "127.0.0.1"
