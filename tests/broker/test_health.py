"""What the health page says."""

import asyncio
import contextlib

import pytest
from hypothesis import given
from hypothesis import strategies as st

from skerry.broker.health import listens, look, read_page

OK = b'HTTP/1.0 200 OK\r\nContent-Length: 15\r\n\r\n{"status":"ok"}'
LOST = (
    b'HTTP/1.0 503 Service Unavailable\r\n\r\n{"status":"unavailable","status_code":503,'
    b'"error":"JetStream stream \'AGENT \\u003e $MQTT_msgs\' could not be recovered"}'
)
STARTING = (
    b'HTTP/1.0 503 Service Unavailable\r\n\r\n{"status":"error","error":"failed to be ready for connections after 1ms: mqtt"}'
)


def test_pages() -> None:
    assert read_page(OK).ok
    lost = read_page(LOST)
    assert (lost.answered, lost.ok, lost.lost_stream) == (True, False, "AGENT > $MQTT_msgs")
    starting = read_page(STARTING)
    assert (starting.answered, starting.ok, starting.lost_stream) == (True, False, "")


@given(st.binary())
def test_no_answer_makes_rubbish_healthy(answer: bytes) -> None:
    assert not read_page(answer).ok


@pytest.mark.asyncio
async def test_a_server_is_asked_for_what_it_can_answer_quickly() -> None:
    asked: list[bytes] = []

    async def answer(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        asked.append(await reader.readline())
        writer.write(OK if b"server-only" in asked[-1] else LOST)
        writer.close()
        with contextlib.suppress(ConnectionError):
            await writer.wait_closed()
        ended.release()

    ended = asyncio.Semaphore(0)
    server = await asyncio.start_server(answer, "127.0.0.1", 0)
    async with server:
        port = server.sockets[0].getsockname()[1]
        assert not (await look(port)).ok
        assert (await look(port, server_only=True)).ok
        assert await listens("127.0.0.1", port)
        for _ in range(3):
            await ended.acquire()
    assert asked[:2] == [b"GET /healthz HTTP/1.0\r\n", b"GET /healthz?js-server-only=true HTTP/1.0\r\n"]


@pytest.mark.asyncio
async def test_nobody_there(free_port: int) -> None:
    assert not (await look(free_port)).answered
    assert not await listens("127.0.0.1", free_port)


@pytest.mark.asyncio
async def test_one_that_takes_the_connection_and_says_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("skerry.broker.health.PATIENCE_S", 0.1)
    held: list[asyncio.StreamWriter] = []
    server = await asyncio.start_server(lambda _, writer: held.append(writer), "127.0.0.1", 0)
    port = server.sockets[0].getsockname()[1]
    assert not (await look(port)).answered
    for writer in held:
        writer.transport.abort()
        with contextlib.suppress(ConnectionError):
            await writer.wait_closed()
    server.close()
    await server.wait_closed()
