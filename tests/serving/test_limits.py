"""The bounds of the agent's side: what is too much is told so at once, and nothing of it stays behind."""

import asyncio
import json
import os
import signal
from collections.abc import AsyncIterator, Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import pytest_asyncio

from skerry.serving import ModelServer
from skerry.serving.frames import BODY
from tests.serving.conftest import adders, over_http, serving
from tests.serving.test_server import ask, rows

pytestmark = pytest.mark.asyncio
INFER = "/v2/models/add/infer"
MOST, BYTES = 8, 40_000


@pytest_asyncio.fixture
async def server(tmp_path: Path) -> AsyncIterator[ModelServer]:
    """One that takes 8 requests and 40,000 bytes of bodies at a time, started."""
    async with serving(tmp_path, adders(tmp_path), in_flight=MOST, in_flight_bytes=BYTES) as found:
        assert (await ask(found, INFER, rows([1, 2])))[0] == 200
        yield found


def free(server: ModelServer) -> bool:
    """Whether nothing is held for anybody."""
    return (server._under_way, server._bytes, len(server._waiting)) == (0, 0, 0)


async def until(check: Callable[[], object]) -> None:
    for _ in range(1000):
        if check():
            return
        await asyncio.sleep(0.01)
    raise AssertionError("it did not come")


async def stopped(server: ModelServer, *calls: Any) -> list[asyncio.Task[tuple[int, Any]]]:
    """Calls that wait, since the server is stopped. Wake it with SIGCONT."""
    assert server.pid is not None
    os.kill(server.pid, signal.SIGSTOP)
    tasks = [asyncio.create_task(call) for call in calls]
    await asyncio.sleep(0)
    return tasks


async def test_so_many_requests_and_no_more(server: ModelServer) -> None:
    waiting = await stopped(server, *(ask(server, INFER, rows([at, at])) for at in range(MOST)))
    for _ in range(3):
        status, told = await ask(server, INFER, rows([1, 2]))
        assert (status, told) == (503, {"error": "too many requests are under way; try again in a moment"})
    assert server.pid is not None
    os.kill(server.pid, signal.SIGCONT)
    assert [status for status, _ in await asyncio.gather(*waiting)] == [200] * MOST
    assert free(server)
    assert (await ask(server, INFER, rows([1, 2])))[0] == 200


async def test_so_many_bytes_and_no_more(server: ModelServer) -> None:
    half = json.dumps(rows([1, 2])).encode().ljust(BYTES // 2)
    waiting = await stopped(server, *(ask(server, INFER, half) for _ in range(2)))
    assert (await ask(server, INFER, b" "))[0] == 503
    assert server.pid is not None
    os.kill(server.pid, signal.SIGCONT)
    assert [status for status, _ in await asyncio.gather(*waiting)] == [200, 200]
    assert free(server)
    status, told = await ask(server, INFER, b" " * (BODY + 1))
    assert (status, "are allowed" in told["error"]) == (400, True)
    assert (await ask(server, INFER, half.ljust(BYTES + 1)))[0] == 503
    assert free(server)


async def test_a_crowd_is_served_or_told(server: ModelServer) -> None:
    """Ten times as many as fit, again and again: each has an answer, those that were served have the right one."""

    async def one(at: int) -> int:
        while True:
            status, told = await ask(server, INFER, {**rows([at, at]), "outputs": [{"name": "y"}]})
            if status == 200:
                assert told["outputs"][0]["data"] == [at + 1, at + 1]
                return at
            assert status == 503
            await asyncio.sleep(0.002)

    assert sorted(await asyncio.gather(*(one(at) for at in range(10 * MOST)))) == list(range(10 * MOST))
    assert free(server)


async def test_whoever_goes_away_leaves_nothing(server: ModelServer) -> None:
    """Callers that are cancelled while they wait: their places are free at once, and late answers go nowhere."""
    for _ in range(3):
        waiting = await stopped(server, *(ask(server, INFER, rows([1, 2])) for _ in range(MOST)))
        for task in waiting:
            task.cancel()
        await asyncio.gather(*waiting, return_exceptions=True)
        assert free(server)
        assert server.pid is not None
        os.kill(server.pid, signal.SIGCONT)
        assert (await ask(server, INFER, rows([1, 2])))[0] == 200
    assert free(server)


async def test_vanished_clients_over_http_free_their_places(server: ModelServer) -> None:
    body = json.dumps(rows([1, 2])).encode()
    request = f"POST {INFER} HTTP/1.1\r\nHost: x\r\nContent-Length: {len(body)}\r\n\r\n".encode() + body
    async with over_http(server) as address:
        host, _, port = address.partition(":")
        for _ in range(5):
            for _ in range(MOST):
                _, writer = await asyncio.open_connection(host, int(port))
                writer.write(request)
                await writer.drain()
                writer.transport.abort()
        await until(lambda: free(server))
        reader, writer = await asyncio.open_connection(host, int(port))
        writer.write(request)
        assert b" 200 " in await asyncio.wait_for(reader.readline(), 5)
        writer.close()


async def test_one_who_does_not_read_holds_up_nobody(server: ModelServer) -> None:
    """Answers of half a megabyte that nobody takes, beside small ones."""
    many = np.ones((1500, 2), np.float32)
    tensor = {"name": "x", "shape": [1500, 2], "datatype": "FP32", "parameters": {"binary_data_size": many.nbytes}}
    head = json.dumps({"inputs": [tensor]}).encode()
    lines = f"POST {INFER} HTTP/1.1\r\nHost: x\r\nInference-Header-Content-Length: {len(head)}\r\n"
    large = f"{lines}Content-Length: {len(head) + many.nbytes}\r\n\r\n".encode() + head + many.tobytes()
    async with over_http(server) as address:
        host, _, port = address.partition(":")
        deaf = [await asyncio.open_connection(host, int(port), limit=1024) for _ in range(2)]
        for _, writer in deaf:
            writer.write(large * 30)
        for _ in range(30):
            assert (await ask(server, INFER, rows([1, 2])))[0] in (200, 503)
            await asyncio.sleep(0.005)
        for _, writer in deaf:
            writer.transport.abort()
        await until(lambda: free(server))
        assert (await ask(server, INFER, rows([1, 2])))[0] == 200
