"""The model server as a real child process: the protocol, swaps under load, its death, and the official client."""

import asyncio
import gzip
import json
import os
import signal
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import tritonclient.http as triton
from tritonclient.utils import InferenceServerException, triton_to_np_dtype

from skerry.core.clock import ManualClock, SystemClock
from skerry.core.service import cancel_and_wait
from skerry.serving import Answer, ModelServer, ServingPlan
from tests.serving.conftest import KINDS, adder, adders, identities, over_http, serving


async def ask(server: ModelServer, path: str, value: Any = None, method: str | None = None, **headers: str) -> tuple[int, Any]:
    raw = value if isinstance(value, bytes) else b"" if value is None else json.dumps(value).encode()
    answer = await server.request(method or ("POST" if raw else "GET"), path, headers, raw)
    return answer.status, json.loads(answer.body)


def rows(*values: list[float], name: str = "x", datatype: str = "FP32") -> dict[str, Any]:
    return {"inputs": [{"name": name, "shape": [len(values), len(values[0])], "datatype": datatype, "data": list(values)}]}


@pytest.mark.asyncio
async def test_the_protocol(server: ModelServer) -> None:
    infer = "/v2/models/add/infer"
    assert (await ask(server, "/v2"))[1]["name"] == "skerry"
    assert await ask(server, "/v2/health/live") == (200, {"live": True})
    assert await ask(server, "/v2/health/ready") == (200, {"ready": True})
    assert await ask(server, "/v2/models/add/ready") == (200, {"name": "add", "ready": True})
    status, told = await ask(server, "/v2/models/add")
    assert (status, told["versions"], told["inputs"]) == (200, ["1", "2"], [{"name": "x", "datatype": "FP32", "shape": [-1, 2]}])
    status, told = await ask(server, infer, {**rows([1, 2]), "id": "me", "outputs": [{"name": "y"}]})
    assert (status, told["id"], told["model_version"]) == (200, "me", "1")
    assert told["outputs"] == [{"name": "y", "datatype": "FP32", "shape": [1, 2], "data": [2, 3]}]
    status, told = await ask(server, "/v2/models/add/versions/2/infer", rows([1, 2]))
    assert (told["model_version"], [each["data"] for each in told["outputs"]]) == ("2", [[3, 4], [2, 4]])
    packed = gzip.compress(json.dumps(rows([1, 2])).encode())
    assert (await ask(server, infer, packed, **{"content-encoding": "gzip"}))[0] == 200
    status, told = await ask(server, "/v2/models/add/stats")
    assert told["model_stats"][0]["inference_count"] >= 2
    assert (await ask(server, "/v2/models/add/config"))[1]["max_batch_size"] == 16


@pytest.mark.asyncio
async def test_refusals(server: ModelServer) -> None:
    infer = "/v2/models/add/infer"
    gzipped = {"content-encoding": "gzip"}
    cases: list[tuple[int, str, tuple[int, Any]]] = [
        (404, "no model 'none'", await ask(server, "/v2/models/none/infer", rows([1, 2]))),
        (404, "no version '9'", await ask(server, "/v2/models/add/versions/9/infer", rows([1, 2]))),
        (404, "nothing at", await ask(server, "/v2/models/add/other")),
        (404, "no model 'none'", await ask(server, "/v2/repository/models/none/load", method="POST")),
        (400, "GET is not for", await ask(server, infer)),
        (400, "no inference request", await ask(server, infer, b"{")),
        (400, "x", await ask(server, infer, rows([1, 2, 3]))),
        (400, "x", await ask(server, infer, rows([1, 2], datatype="FP64"))),
        (400, "w", await ask(server, infer, rows([1, 2], name="w"))),
        (400, "no output 'q'", await ask(server, infer, {**rows([1, 2]), "outputs": [{"name": "q"}]})),
        (400, "is not gzip", await ask(server, infer, b"\x1f\x8bno", **gzipped)),
        (400, "cut off", await ask(server, infer, gzip.compress(b"1" * 9000)[:-9], **gzipped)),
        (400, "cut off or over", await ask(server, infer, gzip.compress(b" " * 70_000_000, 1), **gzipped)),
        (400, "'br' is not supported", await ask(server, infer, b"xx", **{"content-encoding": "br"})),
        (400, "are allowed", await ask(server, infer, b" " * (64 * 1024 * 1024 + 1))),
    ]
    for status, told, (got, answer) in cases:
        assert (got, set(answer)) == (status, {"error"}), (told, answer)
        assert told in answer["error"]
    assert (await ask(server, infer, rows([1, 2])))[0] == 200


@pytest.mark.asyncio
async def test_load_and_unload(server: ModelServer) -> None:
    assert (await ask(server, "/v2/repository/models/add/unload", method="POST"))[0] == 200
    assert (await ask(server, "/v2/models/add/ready"))[0] == 503
    status, told = await ask(server, "/v2/models/add/infer", rows([1, 2]))
    assert (status, "not loaded" in told["error"]) == (503, True)
    index = {(row["name"], row["version"]): row["state"] for row in (await ask(server, "/v2/repository/index", method="POST"))[1]}
    assert index["add", "1"] == "UNAVAILABLE"
    assert index["other", "1"] == "READY"
    assert (await ask(server, "/v2/repository/models/add/load", method="POST"))[0] == 200
    assert (await ask(server, "/v2/models/add/infer", rows([1, 2])))[0] == 200


def _talk(address: str) -> None:
    """Everything that the official client does, on a thread of its own."""
    client = triton.InferenceServerClient(address)
    try:
        assert client.is_server_live()
        assert client.is_server_ready()
        assert client.is_model_ready("add")
        assert not client.is_model_ready("none")
        assert client.get_server_metadata()["name"] == "skerry"
        assert client.get_model_metadata("add", "2")["inputs"][0]["name"] == "x"
        assert client.get_model_config("add")["input"][0]["data_type"] == "TYPE_FP32"
        for kind in KINDS:
            _same(client, kind)
        given = triton.InferInput("x", [3, 2], "FP32").set_data_from_numpy(np.ones((3, 2), np.float32))
        wanted = [triton.InferRequestedOutput("y", binary_data=True), triton.InferRequestedOutput("z", binary_data=False)]
        found = client.infer("add", [given], outputs=wanted, request_id="7", request_compression_algorithm="gzip")
        assert found.get_response()["id"] == "7"
        assert found.as_numpy("y").tolist() == [[2, 2]] * 3
        assert found.as_numpy("z").tolist() == [[2, 2]] * 3
        assert client.infer("add", [given], model_version="2").as_numpy("y").tolist() == [[3, 3]] * 3
        assert {row["name"] for row in client.get_model_repository_index()} >= {"add", "same_BYTES"}
        client.unload_model("add")
        assert not client.is_model_ready("add")
        with pytest.raises(InferenceServerException, match="not ready"):
            client.infer("add", [given])
        client.load_model("add")
        assert client.infer("add", [given]).as_numpy("y").shape == (3, 2)
        assert client.get_inference_statistics("add")["model_stats"][0]["name"] == "add"
    finally:
        client.close()


def _same(client: triton.InferenceServerClient, kind: str) -> None:
    """One datatype in and out, binary and JSON."""
    numbers = np.array([[0, 1], [1, 0], [1, 1]])
    array = numbers.astype(str).astype(object) if kind == "BYTES" else numbers.astype(triton_to_np_dtype(kind))
    for binary in (True, False):
        if kind == "FP16" and not binary:
            continue  # the client has no JSON form of it
        given = triton.InferInput("x", [3, 2], kind).set_data_from_numpy(array, binary_data=binary)
        found = client.infer(f"same_{kind}", [given], outputs=[triton.InferRequestedOutput("y", binary_data=binary)])
        value = found.as_numpy("y")
        if kind == "BYTES":
            value = np.array([each.decode() if isinstance(each, bytes) else each for each in value.ravel()], object).reshape(3, 2)
        assert value.tolist() == array.tolist(), kind


@pytest.mark.asyncio
async def test_the_official_client(folder: Path) -> None:
    """Health, metadata, configuration, every datatype, requested outputs, ids, gzip, repository and statistics."""
    async with serving(folder, [*adders(folder), *identities(folder)]) as server, over_http(server) as address:
        await asyncio.to_thread(_talk, address)


@pytest.mark.asyncio
async def test_hot_swaps_under_load(folder: Path) -> None:
    """100 swaps under 16 callers: no error, and every answer is of exactly the version that it names."""
    swaps, callers = 100, 16
    for version in range(1, 5):
        adder(folder / f"{version}.onnx", version)

    def given(version: int) -> list[dict[str, object]]:
        return [
            {"name": "add", "version": str(v), "file": f"{v}.onnx", "active": v == version, "max_batch": 16} for v in range(1, 5)
        ]

    async def call(server: ModelServer, ended: asyncio.Event, seen: set[str]) -> int:
        count = 0
        while not ended.is_set():
            value = float(count % 1000)
            status, told = await ask(server, "/v2/models/add/infer", {**rows([value, value]), "outputs": [{"name": "y"}]})
            assert status == 200, told
            assert told["outputs"][0]["data"] == [value + int(told["model_version"])] * 2
            seen.add(told["model_version"])
            count += 1
        return count

    async with serving(folder, given(1)) as server:
        assert (await ask(server, "/v2/health/ready"))[0] == 200
        ended, seen = asyncio.Event(), set[str]()
        calls = [asyncio.create_task(call(server, ended, seen)) for _ in range(callers)]
        for swap in range(swaps):
            await server.give(given(1 + (swap + 1) % 4))
        ended.set()
        assert min(await asyncio.gather(*calls)) > 0
        assert seen == {"1", "2", "3", "4"}
        assert server.restarts.total == 0


@pytest.mark.asyncio
async def test_a_version_that_does_not_load_leaves_the_one_before(folder: Path) -> None:
    adder(folder / "1.onnx", 1)
    (folder / "2.onnx").write_bytes(b"no model")
    first: dict[str, object] = {"name": "add", "version": "1", "file": "1.onnx", "max_batch": 16}
    async with serving(folder, [first]) as server:
        assert (await ask(server, "/v2/models/add/infer", rows([1, 2])))[1]["model_version"] == "1"
        await server.give([first, {"name": "add", "version": "2", "file": "2.onnx", "active": True}])
        assert (await ask(server, "/v2/models/add/infer", rows([1, 2])))[1]["model_version"] == "1"
        index = {row["version"]: row for row in (await ask(server, "/v2/repository/index", method="POST"))[1]}
        assert (index["2"]["state"], index["1"]["state"]) == ("UNAVAILABLE", "READY")
        assert index["2"]["reason"]


@pytest.mark.asyncio
async def test_death_fails_what_is_under_way_and_is_made_good(folder: Path) -> None:
    adder(folder / "1.onnx", 1)
    async with serving(folder, [{"name": "add", "file": "1.onnx", "max_batch": 16}]) as server:
        assert server.pid is None
        assert (await ask(server, "/v2/models/add/infer", rows([1, 2])))[0] == 200
        pid = server.pid
        assert pid is not None
        os.kill(pid, signal.SIGSTOP)
        calls = [asyncio.create_task(ask(server, "/v2/models/add/infer", rows([1, 2]))) for _ in range(8)]
        await asyncio.sleep(0)
        os.kill(pid, signal.SIGKILL)
        for status, told in await asyncio.gather(*calls):
            assert status in (200, 503)
            assert status == 200 or "ended" in told["error"]
        assert (await ask(server, "/v2/models/add/infer", rows([1, 2])))[0] == 200
        assert server.restarts.total == 1
        assert server.pid not in (None, pid)
        assert "SIGKILL" in server.last_words
    assert server.pid is None
    assert not (folder / "run" / "serving.sock").exists()


@pytest.mark.asyncio
async def test_one_that_hangs_is_noticed_and_started_again(folder: Path) -> None:
    """Stopped, it is alive for the kernel and says nothing: its callers are told 503, and the next one runs."""
    adder(folder / "1.onnx", 1)
    async with serving(folder, [{"name": "add", "file": "1.onnx", "max_batch": 16}], stall_s=2.0) as server:
        assert (await ask(server, "/v2/models/add/infer", rows([1, 2])))[0] == 200
        pid = server.pid
        assert pid is not None
        os.kill(pid, signal.SIGSTOP)
        first = asyncio.create_task(ask(server, "/v2/models/add/infer", rows([1, 2])))
        told: list[tuple[int, Any]] = []
        while server.pid == pid:  # some wait for it to be ended, those who come later are told at once
            if server._silent > 1.0:
                told.append(await ask(server, "/v2/models/add/infer", rows([1, 2])))
            await asyncio.sleep(0.02)
        assert [status for status, _ in [await first, *told]] == [503] * (1 + len(told))
        assert "said nothing for 1.5 s" in told[0][1]["error"]
        assert (await ask(server, "/v2/models/add/infer", rows([1, 2])))[0] == 200
        assert server.pid not in (None, pid)
        assert server.restarts.total == 1
        assert server.last_words == "it hung: it said nothing for 2 s"


@pytest.mark.asyncio
async def test_one_that_is_only_busy_is_left_alone(folder: Path) -> None:
    """Stopped for less than the bound, again and again: each time it has caught up before its time was over."""
    adder(folder / "1.onnx", 1)
    async with serving(folder, [{"name": "add", "file": "1.onnx", "max_batch": 16}], stall_s=2.0) as server:
        assert (await ask(server, "/v2/models/add/infer", rows([1, 2])))[0] == 200
        pid = server.pid
        assert pid is not None
        for _ in range(2):
            os.kill(pid, signal.SIGSTOP)
            asked = asyncio.create_task(ask(server, "/v2/models/add/infer", rows([1, 2])))
            await asyncio.sleep(0.6)
            os.kill(pid, signal.SIGCONT)
            assert (await asked)[0] == 200
        assert (server.pid, server.restarts.total) == (pid, 0)


@pytest.mark.asyncio
async def test_what_waits_too_long_is_answered(folder: Path) -> None:
    adder(folder / "1.onnx", 1)
    clock = ManualClock()
    server = ModelServer(ServingPlan(run_dir=folder / "run", base=folder, stall_s=30.0), clock)
    await server.give([{"name": "add", "file": "1.onnx", "max_batch": 16}])
    running = asyncio.create_task(server.run())
    try:
        assert (await ask(server, "/v2/models/add/infer", rows([1, 2])))[0] == 200
        assert server.pid is not None
        os.kill(server.pid, signal.SIGSTOP)
        asked = asyncio.create_task(ask(server, "/v2/models/add/infer", rows([1, 2])))
        await asyncio.sleep(0)
        clock.advance(61_000_000)
        assert await asyncio.wait_for(asked, 10) == (503, {"error": "no answer within 60 s"})
        os.kill(server.pid, signal.SIGCONT)
        assert (await ask(server, "/v2/models/add/infer", rows([1, 2])))[0] == 200
    finally:
        await cancel_and_wait(running)


@pytest.mark.asyncio
async def test_too_much_under_way_is_refused(folder: Path) -> None:
    server = ModelServer(ServingPlan(run_dir=folder, base=folder, in_flight=2), SystemClock())
    calls = [asyncio.create_task(server.request("GET", "/v2", {}, b"")) for _ in range(3)]
    done, waiting = await asyncio.wait(calls, return_when=asyncio.FIRST_COMPLETED)
    refused: list[Answer] = [each.result() for each in done]
    assert [each.status for each in refused] == [503]
    for each in waiting:
        each.cancel()
    await asyncio.gather(*waiting, return_exceptions=True)
