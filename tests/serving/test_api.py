"""The protocol through the node's own API shell, over real HTTP: large tensors, refusals, slow clients and vanished ones."""

import asyncio
import json
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any, cast

import numpy as np
import pytest

from skerry.api import Api, ApiConfig
from skerry.api.view import NodeView
from skerry.core.service import cancel_and_wait
from skerry.http import Request, Response
from skerry.serving import ModelServer
from tests.serving.conftest import adder, identity, serving
from tests.serving.test_server import rows

pytestmark = pytest.mark.asyncio
INFER = "/v2/models/add/infer"
JSON_BODY = json.dumps(rows([1, 2])).encode()


class View:
    """What inference needs."""

    def __init__(self, server: ModelServer) -> None:
        self._server = server

    async def model_server(self, request: Request) -> Response:
        answer = await self._server.request(request.method, request.raw_path or request.path, request.headers, request.body)
        return Response(answer.status, answer.headers, answer.body)

    def stale(self) -> str:
        return ""


@asynccontextmanager
async def node(folder: Path, loopback: str = "all") -> AsyncIterator[int]:
    """The port of an API in front of a model server with `add` and `same`."""
    adder(folder / "add.onnx", 1)
    identity(folder / "same.onnx", "FP32")
    models = (("add", 16), ("same", 65_536))
    config = ApiConfig(listen="127.0.0.1:0", loopback=cast(Any, loopback))
    async with serving(folder, [{"name": name, "file": f"{name}.onnx", "max_batch": most} for name, most in models]) as server:
        api = Api(cast(NodeView, View(server)), config, folder / "api.sock", "1")
        running = asyncio.create_task(api.run())
        try:
            await asyncio.wait_for(api.listening.wait(), 10)
            yield api.port
        finally:
            await cancel_and_wait(running)


async def asked(port: int, raw: bytes) -> tuple[int, dict[str, str], bytes]:
    """The answer to one request as it stands on the wire."""
    reader, writer = await asyncio.open_connection("127.0.0.1", port)
    try:
        writer.write(raw)
        head = (await asyncio.wait_for(reader.readuntil(b"\r\n\r\n"), 15)).decode()
        first, *lines = head.strip().split("\r\n")
        headers = {name.lower(): value for name, _, value in (line.partition(": ") for line in lines)}
        return int(first.split()[1]), headers, await asyncio.wait_for(reader.readexactly(int(headers["content-length"])), 15)
    finally:
        writer.close()
        await writer.wait_closed()


def post(path: str, body: bytes, size: int | None = None, host: str = "127.0.0.1", **more: str) -> bytes:
    headers = {"Host": host, "Content-Length": str(len(body) if size is None else size), **more}
    lines = "\r\n".join(f"{name}: {value}" for name, value in headers.items())
    return f"POST {path} HTTP/1.1\r\n{lines}\r\n\r\n".encode() + body


async def test_a_tensor_of_five_megabytes(folder: Path) -> None:
    given = np.random.default_rng(1).normal(0, 1, (655_360, 2)).astype(np.float32)
    raw = given.tobytes()
    tensor = {"name": "x", "shape": [655_360, 2], "datatype": "FP32", "parameters": {"binary_data_size": len(raw)}}
    head = json.dumps({"inputs": [tensor], "parameters": {"binary_data_output": True}}).encode()
    assert len(raw) == 5 * 1024 * 1024
    size = {"Inference-Header-Content-Length": str(len(head))}
    async with node(folder) as port:
        # the short way, and the library's
        for more in ({}, {"X-A": "é"}):
            status, headers, body = await asked(port, post("/v2/models/same/infer", head + raw, **size, **more))
            assert status == 200, body[:200]
            at = int(headers["inference-header-content-length"])
            assert json.loads(body[:at])["outputs"][0]["shape"] == [655_360, 2]
            assert body[at:] == raw


async def test_refusals_have_the_protocols_form(folder: Path) -> None:
    async with node(folder) as port:
        cases = [
            (413, "the body is larger than 67108864 bytes", post(INFER, b"", size=64 * 1024 * 1024 + 1)),
            (403, "not for this node", post(INFER, JSON_BODY, host="evil.example")),
            (403, "may not ask this node", post(INFER, JSON_BODY, Origin="http://evil.example")),
            (403, "may not ask this node", post(INFER, JSON_BODY, **{"Sec-Fetch-Site": "cross-site"})),
            (405, "PUT is not for", post(INFER, JSON_BODY).replace(b"POST", b"PUT", 1)),
            (404, "there is nothing at", post("/v2/nowhere", b"").replace(b"POST", b"GET", 1)),
            (404, "no model 'none'", post("/v2/models/none/infer", JSON_BODY)),
            (400, "no inference request", post(INFER, b"{")),
        ]
        for status, sentence, raw in cases:
            got, headers, body = await asked(port, raw)
            assert (got, headers["content-type"]) == (status, "application/json"), body
            told = json.loads(body)
            assert set(told) == {"error"}
            assert sentence in told["error"]
        for raw in (post("/api/v1/config/reload", b"", host="evil.example"), post("/api/v1/devices", b"", size=1024 * 1024 + 1)):
            assert (await asked(port, raw))[1]["content-type"] == "application/problem+json"
        assert (await asked(port, post(INFER, JSON_BODY)))[0] == 200


@pytest.mark.parametrize("loopback", ["read", "none"])
async def test_a_closed_port_stays_closed(folder: Path, loopback: str) -> None:
    async with node(folder, loopback) as port:
        status, _, body = await asked(port, post(INFER, JSON_BODY))
        assert (status, set(json.loads(body))) == (401, {"error"})


async def test_slow_and_vanished_clients_hold_nobody_up(folder: Path) -> None:
    async with node(folder) as port:
        assert (await asked(port, post(INFER, JSON_BODY)))[0] == 200
        half = post(INFER, JSON_BODY[:20], size=len(JSON_BODY))
        slow = [await asyncio.open_connection("127.0.0.1", port) for _ in range(4)]
        for _, writer in slow:
            writer.write(half)
        for begin in (half, post(INFER, JSON_BODY), half[:30]):
            for _ in range(4):
                _, writer = await asyncio.open_connection("127.0.0.1", port)
                writer.write(begin)
                await asyncio.sleep(0.005)
                writer.transport.abort()
        found = await asyncio.gather(*(asked(port, post(INFER, JSON_BODY)) for _ in range(32)))
        assert {status for status, _, _ in found} == {200}
        for reader, writer in slow:
            writer.write(JSON_BODY[20:])
            assert b" 200 " in await asyncio.wait_for(reader.readline(), 5)
            writer.close()
