"""Connections that nobody uses: which those are, and that the server closes them."""

import asyncio
import contextlib
from collections.abc import AsyncIterator

import pytest

from skerry.http import HttpServer, Limits, Request, Response, Route, Stream
from skerry.http.idle import Idle


class Peer:
    """Stands for a connection."""


def test_a_connection_has_its_time_from_when_it_is_seen_first() -> None:
    idle, one, other = Idle(10.0), Peer(), Peer()
    assert idle.look([one], 0.0) == []
    assert idle.look([one, other], 9.0) == []
    assert idle.look([one, other], 10.0) == [one]
    assert idle.look([other], 18.0) == []
    assert idle.look([other], 19.0) == [other]


def test_what_is_asked_takes_as_long_as_it_takes() -> None:
    idle, one = Idle(10.0), Peer()
    assert idle.look([one], 0.0) == []
    idle.begin(one)
    assert idle.look([one], 100.0) == []
    idle.end(one)
    assert idle.look([one], 101.0) == []
    assert idle.look([one], 110.0) == []
    assert idle.look([one], 111.0) == [one]


def test_each_request_begins_the_time_anew() -> None:
    idle, one = Idle(10.0), Peer()
    for second in range(0, 100, 9):
        assert idle.look([one], float(second)) == []
        idle.begin(one)
        idle.end(one)
    idle.begin(one)
    idle.begin(one)
    idle.end(one)
    assert idle.look([one], 500.0) == []


def test_nothing_is_kept_of_those_that_went() -> None:
    idle = Idle(10.0)
    for second in range(100):
        assert idle.look([Peer()], float(second)) == []
    assert len(idle._since) == 1
    assert idle.look([], 200.0) == []
    assert not idle._since


@pytest.mark.parametrize(("most", "every"), [(75.0, 5.0), (1.0, 0.25)])
def test_how_often_it_looks(most: float, every: float) -> None:
    assert Idle(most).every == every


async def hello(request: Request) -> Response:
    return Response(200, {}, b"hello")


async def slow(request: Request) -> Response:
    await asyncio.sleep(1.2)
    return Response(200, {}, b"at last")


async def events(request: Request) -> Stream:
    async def chunks() -> AsyncIterator[bytes]:
        for number in range(6):
            await asyncio.sleep(0.2)
            yield b"%d" % number

    return Stream(chunks())


ROUTES = [Route("GET", "/hello", hello), Route("GET", "/slow", slow), Route("GET", "/events", events)]
DIRECT = [*ROUTES, Route("POST", "/direct/{rest:.*}", hello, direct=True)]
HEAD = b" HTTP/1.1\r\nHost: localhost\r\n"


@pytest.mark.asyncio
@pytest.mark.parametrize("routes", [ROUTES, DIRECT], ids=["library", "direct"])
@pytest.mark.parametrize("sent", [b"", b"GET /hello" + HEAD + b"X-Slow: ", b"GET /hello" + HEAD + b"\r\n", b"PO"])
async def test_who_says_nothing_more_is_cut(routes: list[Route], sent: bytes) -> None:
    """Also in the middle of a head, where one byte now and then would hold a connection for ever."""
    async with HttpServer(routes, Limits(idle_time=0.4)) as server:
        port = await server.listen_tcp("127.0.0.1", 0)
        reader, writer = await asyncio.open_connection("127.0.0.1", port)
        writer.write(sent)

        async def drip() -> None:
            while sent.endswith(b": "):
                await asyncio.sleep(0.05)
                writer.write(b"x")

        dripping = asyncio.create_task(drip())
        told = b""
        async with asyncio.timeout(5):
            with contextlib.suppress(ConnectionResetError):  # of a byte that was on its way
                told = await reader.read()
        dripping.cancel()
        assert told.endswith(b"hello") == sent.endswith(b"\r\n\r\n")
        writer.transport.abort()


@pytest.mark.asyncio
@pytest.mark.parametrize(("path", "last"), [(b"/slow", b"at last"), (b"/events", b"5")])
async def test_who_waits_for_an_answer_is_not(path: bytes, last: bytes) -> None:
    async with HttpServer(ROUTES, Limits(idle_time=0.2)) as server:
        port = await server.listen_tcp("127.0.0.1", 0)
        reader, writer = await asyncio.open_connection("127.0.0.1", port)
        writer.write(b"GET " + path + HEAD + b"\r\n")
        async with asyncio.timeout(5):
            assert last in await reader.read()
        writer.transport.abort()
