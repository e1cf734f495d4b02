"""The model servers that skerry's is measured beside: they answer what the network says, and their rows stand beside skerry's."""

import asyncio
import http.client
import json
from pathlib import Path
from typing import Any

import numpy as np
import onnxruntime
import psutil
import pytest

from bench import servers
from bench.callers import request_bytes
from bench.model import write_mlp
from bench.rows import Options
from bench.servers import ALL, FastApi, Server
from bench.serving import WIDTH, beside

needs_peers = pytest.mark.skipif(not servers.installed(), reason="optional: .venv/peers is not there, `make bench` makes it")
VALUES = [round(0.1 * at - 1, 3) for at in range(WIDTH)]


def expected(path: Path) -> float:
    session = onnxruntime.InferenceSession(str(path), providers=["CPUExecutionProvider"])
    (score,) = session.run(None, {"features": np.array([VALUES], np.float32)})
    return float(score[0, 0])


def answer_of(server: Server) -> tuple[int, Any]:
    connection = http.client.HTTPConnection("127.0.0.1", server.port, timeout=10)
    try:
        body = request_bytes("x", "mlp", VALUES).partition(b"\r\n\r\n")[2]
        connection.request("POST", "/v2/models/mlp/infer", body, {"content-type": "application/json"})
        answer = connection.getresponse()
        return answer.status, json.loads(answer.read())
    finally:
        connection.close()


@needs_peers
@pytest.mark.asyncio
async def test_all_say_the_same(tmp_path: Path) -> None:
    """The same request, the same form of answer, the same number: what is compared is the same work."""
    running = []
    for at, make in enumerate(ALL):
        folder = tmp_path / str(at)
        folder.mkdir()
        running.append(make(folder, WIDTH))
    try:
        await asyncio.gather(*(server.start() for server in running))
        for server in running:
            for _ in range(50):  # LitServe answers 503 until its worker is there
                status, told = await asyncio.to_thread(answer_of, server)
                if status == 200:
                    break
                await asyncio.sleep(0.1)
            assert status == 200, server.name
            assert (told["model_name"], told["model_version"]) == ("mlp", "1")
            (output,) = told["outputs"]
            assert (output["name"], output["datatype"], output["shape"]) == ("score", "FP32", [1, 1])
            assert output["data"] == [pytest.approx(expected(server.folder / "mlp.onnx"), abs=1e-6)], server.name
    finally:
        family = [psutil.Process(pid) for server in running for pid in server.pids()]
        for server in running:
            await server.stop()
    _, alive = await asyncio.to_thread(psutil.wait_procs, family, 5)
    assert len(family) >= 6, "mosec and LitServe have processes of their own"
    assert not alive


@needs_peers
def test_their_row_stands_beside_skerrys() -> None:
    said: list[str] = []
    rows = asyncio.run(beside((FastApi,), Options(rounds=1, seconds=0.2), said.append))
    assert len(said) == 4
    assert [row.peer is not None for row in rows] == [True, True, True, True, False]
    for row in rows[:4]:
        assert row.skerry is not None
        assert row.peer is not None
        assert row.ratio == pytest.approx(row.skerry / row.peer)
    assert f"FastAPI {servers.versions()['fastapi']}" in rows[0].figure


def test_where_they_are_not_installed_nothing_is_said_of_them(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(servers, "PYTHON", tmp_path / "python")
    assert not servers.installed()
    assert servers.versions() == {}


def test_one_that_does_not_start_says_why(tmp_path: Path) -> None:
    class Broken(Server):
        name, package = "Broken", "nothing"

    async def start() -> None:
        server = Broken(tmp_path, WIDTH)
        try:
            await server.start()
        finally:
            await server.stop()

    with pytest.raises(SystemExit, match="Broken: server ended with"):
        asyncio.run(start())


def test_each_has_a_network_and_a_port_of_its_own(tmp_path: Path) -> None:
    made = []
    for at, make in enumerate(ALL):
        (tmp_path / str(at)).mkdir()
        made.append(make(tmp_path / str(at), WIDTH))
    write_mlp(tmp_path / "same.onnx", WIDTH)
    assert len({server.port for server in made}) == len(ALL)
    assert {(server.folder / "mlp.onnx").read_bytes() for server in made} == {(tmp_path / "same.onnx").read_bytes()}
    for server in made:
        server.log.close()
