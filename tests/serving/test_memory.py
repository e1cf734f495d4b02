"""The memory of a model server: what each loaded model took is told, and one that takes too much is ended and started again."""

import asyncio
import time
from collections.abc import Callable
from pathlib import Path

import msgspec
import pytest

from skerry.core.clock import SystemClock
from skerry.runtime import memory_of
from skerry.serving import ModelServer, ServingPlan
from tests.fixtures.models import heavy
from tests.serving.conftest import adder, serving

MIB = 1 << 20


async def until(condition: Callable[[], object], seconds: float = 20.0) -> None:
    give_up = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < give_up
        await asyncio.sleep(0.02)


def loaded(server: ModelServer) -> set[str]:
    return {f"{held.name}@{held.version}" for held in server.loaded}


@pytest.mark.asyncio
async def test_what_is_loaded_is_told_with_its_memory_until_it_is_let_go(tmp_path: Path) -> None:
    heavy(tmp_path / "1.onnx", 32)
    adder(tmp_path / "2.onnx", 1)
    one = {"name": "m", "version": "1", "file": "1.onnx", "active": True, "max_batch": 1}
    two = {"name": "m", "version": "2", "file": "2.onnx", "max_batch": 1}
    async with serving(tmp_path, [one, two]) as server:
        assert server.loaded == [], "it has not been asked for"
        assert (await server.request("GET", "/v2/models/m/ready", {}, b"")).status == 200
        assert loaded(server) == {"m@1"}
        held = server.loaded[0]
        assert 28 * MIB < held.memory < 120 * MIB
        assert held.load_seconds > 0
        body = msgspec.json.encode({"inputs": [{"name": "x", "datatype": "FP32", "shape": [1, 2], "data": [1, 2]}]})
        assert (await server.request("POST", "/v2/models/m/versions/2/infer", {}, body)).status == 200
        await until(lambda: loaded(server) == {"m@1", "m@2"})
        await server.give([{**one, "active": False}, {**two, "active": True}])
        await until(lambda: loaded(server) == {"m@2"})
        assert next(held for held in server.loaded if held.version == "2").memory < 28 * MIB
        assert (await server.request("POST", "/v2/repository/models/m/unload", {}, b"{}")).status == 200
        await until(lambda: server.loaded == [])
    assert server.loaded == []


@pytest.mark.asyncio
async def test_a_server_over_its_memory_is_ended_and_started_again_with_the_reason(tmp_path: Path) -> None:
    adder(tmp_path / "1.onnx", 1)
    row: dict[str, object] = {"name": "m", "file": "1.onnx", "active": True, "memory": "4MiB", "max_batch": 1}
    async with serving(tmp_path, [row], memory=8 * MIB) as server:
        assert server.memory_limit == 16 * MIB
        asked = asyncio.create_task(server.request("GET", "/v2/models/m/ready", {}, b""))
        await until(lambda: server.restarts.total >= 1)
        used, allowed = (int(word.rstrip(",")) for word in server.last_words.split() if word.rstrip(",").isdecimal())
        assert server.last_words == f"it used {used} MiB, allowed are 16 MiB"
        assert used > allowed == 16
        await server.give([{**row, "memory": "1GiB"}])
        assert (await asked).status == 200, "who waits is served by the next one, which may take more"
        assert server.pid is not None
        assert memory_of(server.pid) > 16 * MIB


@pytest.mark.parametrize(
    ("memory", "most", "rows", "limit"),
    [
        (0, 0, [("64MiB", True)], 0),
        (100, 0, [], 100),
        (100, 0, [("64MiB", True), ("32MiB", True), ("1GiB", False)], 100 + 160),
        (100, 200, [("64MiB", True), ("32MiB", True)], 200),
        (100, 0, [("", True)], 100),
    ],
)
@pytest.mark.asyncio
async def test_what_it_may_take_follows_its_models(
    tmp_path: Path, memory: int, most: int, rows: list[tuple[str, bool]], limit: int
) -> None:
    server = ModelServer(ServingPlan(tmp_path, tmp_path, memory=memory * MIB, most_memory=most * MIB), SystemClock())
    await server.give([{"name": f"m{at}", "file": "m.onnx", "memory": may, "active": on} for at, (may, on) in enumerate(rows)])
    assert server.memory_limit == limit * MIB


@pytest.mark.asyncio
async def test_a_server_in_quarantine_is_said_at_once(tmp_path: Path) -> None:
    server = ModelServer(ServingPlan(tmp_path, tmp_path), SystemClock())
    server.last_words = "ended by SIGSEGV"
    server.restarts.quarantined = True
    async with asyncio.timeout(2):
        answer = await server.request("GET", "/v2/health/live", {}, b"")
    assert answer.status == 503
    assert b"the model server is quarantined for 5 minutes, since it ended 10 times within 10: ended by SIGSEGV" in answer.body
