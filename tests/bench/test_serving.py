"""The rows "serving": the callers count what a server really answers, and the rows tell what a real node does."""

import asyncio
import json
import socket
import threading
from collections.abc import Iterator
from contextlib import contextmanager

import pytest

from bench.callers import Called, call, request_bytes
from bench.rows import Options
from bench.serving import SWAPPED, beside, serving, swapped

BODY = b'{"model_name":"m","model_version":"7","outputs":[]}'
GOOD = b"HTTP/1.1 200 OK\r\ncontent-type: application/json\r\ncontent-length: %d\r\n\r\n" % len(BODY) + BODY
BAD = b"HTTP/1.1 503 Service Unavailable\r\nContent-Length: 2\r\n\r\n{}"


@contextmanager
def answering(*answers: bytes) -> Iterator[tuple[str, int]]:
    """A server that gives each connection these answers in turn, in two pieces each; an empty one ends the connection."""
    with socket.create_server(("127.0.0.1", 0)) as listener:

        def serve(connection: socket.socket) -> None:
            with connection:
                at = 0
                while connection.recv(65_536):
                    answer = answers[at % len(answers)]
                    at += 1
                    if not answer:
                        return
                    connection.sendall(answer[:20])
                    connection.sendall(answer[20:])

        def accept() -> None:
            try:
                while True:
                    threading.Thread(target=serve, args=(listener.accept()[0],), daemon=True).start()
            except OSError:
                return

        threading.Thread(target=accept, daemon=True).start()
        yield listener.getsockname()
        listener.shutdown(socket.SHUT_RDWR)


def test_the_request_is_whole() -> None:
    head, _, body = request_bytes("127.0.0.1:1", "mlp", [0.5, 1.0]).partition(b"\r\n\r\n")
    assert head.startswith(b"POST /v2/models/mlp/infer HTTP/1.1\r\nHost: 127.0.0.1:1\r\n")
    assert f"Content-Length: {len(body)}".encode() in head
    assert json.loads(body)["inputs"][0] == {"name": "features", "shape": [1, 2], "datatype": "FP32", "data": [0.5, 1.0]}


def test_callers_count_answers_versions_and_failures() -> None:
    with answering(GOOD, GOOD, BAD) as address:
        found = call(address, b"x", 3, 0.1)
    assert found.answered + found.failed == len(found.latencies)
    assert found.versions == {"7": found.answered}
    assert abs(found.answered - 2 * found.failed) <= 6
    assert 0 < found.quantile(0.5) <= found.quantile(0.99) <= found.quantile(1.0)


def test_a_connection_that_ends_is_a_failure_and_ends_its_caller() -> None:
    with answering(GOOD, b"") as address:
        found = call(address, b"x", 2, 5.0)
    assert (found.answered, found.failed) == (2, 2)


def test_callers_stop_when_they_are_told() -> None:
    with answering(GOOD) as address:
        told, tell = socket.socketpair()
        threading.Timer(0.1, tell.sendall, (b"\n",)).start()
        found = call(address, b"x", 2, 60.0, told.fileno())
        assert found.stopped
        assert found.answered > 0
        told.close()
        tell.close()


def test_two_calls_together() -> None:
    both = Called(2, 0, 1.0, [0.1, 0.3], {"1": 2}, 0.5).and_of(Called(1, 1, 2.0, [0.2], {"1": 1, "2": 1}, 0.25))
    assert (both.answered, both.failed, both.seconds, both.cpu_s) == (3, 1, 3.0, 0.75)
    assert (both.quantile(0.5), both.versions, both.rate) == (200.0, {"1": 3, "2": 1}, 1.0)


def test_quantiles_of_nothing() -> None:
    assert Called(0, 0, 1.0, [], {}, 0.0).quantile(0.99) == float("inf")


def test_the_row_of_a_real_node() -> None:
    said: list[str] = []
    rows = asyncio.run(beside((), Options(rounds=1, seconds=0.2), said.append))
    assert [row.row for row in rows] == ["v2"] * 5
    assert len(said) == 3
    assert "not measured" in said[0]
    assert all(row.skerry is not None and row.skerry > 0 for row in rows[:4])
    assert rows[4].skerry == 0.0


@pytest.mark.asyncio
async def test_swaps_of_a_real_node_fail_nobody() -> None:
    async with serving(SWAPPED) as (system, callers):
        for version in ("1", "2"):
            await system.activate(version)
        quiet, found, each_ms = await swapped(system, callers, 0.1, 3)
    assert (quiet.failed, found.failed) == (0, 0)
    assert quiet.versions.keys() == {"1", "2"}, "three swaps: it is the other one afterwards"
    assert set(found.versions) == {"1", "2"}
    assert each_ms > 0
