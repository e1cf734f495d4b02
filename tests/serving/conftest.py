"""Real model servers for the tests: a child process each, and an HTTP shell in front of it."""

import asyncio
import contextlib
from collections.abc import AsyncIterator
from pathlib import Path

import numpy as np
import onnx
import pytest
import pytest_asyncio
from onnx import TensorProto, helper

from skerry.core.clock import SystemClock
from skerry.core.service import cancel_and_wait
from skerry.http import HttpServer, Request, Response, Route
from skerry.serving import ModelServer, ServingPlan

KINDS = {
    "BOOL": TensorProto.BOOL, "UINT8": TensorProto.UINT8, "UINT16": TensorProto.UINT16, "UINT32": TensorProto.UINT32,
    "UINT64": TensorProto.UINT64, "INT8": TensorProto.INT8, "INT16": TensorProto.INT16, "INT32": TensorProto.INT32,
    "INT64": TensorProto.INT64, "FP16": TensorProto.FLOAT16, "FP32": TensorProto.FLOAT, "FP64": TensorProto.DOUBLE,
    "BYTES": TensorProto.STRING,
}  # fmt: skip


def save(path: Path, nodes: list[onnx.NodeProto], inputs: list[onnx.ValueInfoProto], outputs: list[onnx.ValueInfoProto],
         constants: list[onnx.TensorProto] | None = None) -> Path:  # fmt: skip
    """Write a model of opset 17."""
    graph = helper.make_graph(nodes, "g", inputs, outputs, constants or [])
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)
    onnx.checker.check_model(model)
    onnx.save(model, path)
    return path


def adder(path: Path, number: float) -> Path:
    """`y = x + number`, x: float32 [N, 2]; and `z = 2 x`."""
    x = helper.make_tensor_value_info("x", TensorProto.FLOAT, ["n", 2])
    outputs = [helper.make_tensor_value_info(name, TensorProto.FLOAT, ["n", 2]) for name in "yz"]
    constants = [onnx.numpy_helper.from_array(np.array(value, np.float32), name) for name, value in (("c", number), ("two", 2))]
    nodes = [helper.make_node("Add", ["x", "c"], ["y"]), helper.make_node("Mul", ["x", "two"], ["z"])]
    return save(path, nodes, [x], outputs, constants)


def identity(path: Path, kind: str) -> Path:
    """`y = x` of one datatype, [N, 2]."""
    x, y = (helper.make_tensor_value_info(name, KINDS[kind], ["n", 2]) for name in "xy")
    return save(path, [helper.make_node("Identity", ["x"], ["y"])], [x], [y])


@contextlib.asynccontextmanager
async def serving(folder: Path, rows: list[dict[str, object]], **plan: object) -> AsyncIterator[ModelServer]:
    """A model server that ends with the block."""
    server = ModelServer(ServingPlan(run_dir=folder / "run", base=folder, **plan), SystemClock())  # type: ignore[arg-type]  # fields of all types by name
    await server.give(rows)
    running = asyncio.create_task(server.run())
    try:
        yield server
    finally:
        await cancel_and_wait(running)


@contextlib.asynccontextmanager
async def over_http(server: ModelServer) -> AsyncIterator[str]:
    """`host:port` of an HTTP shell that passes everything under /v2 on."""

    async def pass_on(request: Request) -> Response:
        answer = await server.request(request.method, request.raw_path or request.path, request.headers, request.body)
        return Response(answer.status, answer.headers, answer.body)

    patterns = ("/v2", "/v2/{rest:.*}")
    async with HttpServer([Route(method, pattern, pass_on) for pattern in patterns for method in ("GET", "POST")]) as http:
        yield f"127.0.0.1:{await http.listen_tcp('127.0.0.1', 0)}"


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    return tmp_path


def adders(folder: Path) -> list[dict[str, object]]:
    """`add`, versions 1 (active) and 2, each adding its version."""
    for version in (1, 2):
        adder(folder / f"add{version}.onnx", version)
    return [{"name": "add", "version": str(v), "file": f"add{v}.onnx", "active": v == 1, "max_batch": 16} for v in (1, 2)]


def identities(folder: Path) -> list[dict[str, object]]:
    """`same_<datatype>` for each datatype."""
    for kind in KINDS:
        identity(folder / f"{kind}.onnx", kind)
    return [{"name": f"same_{kind}", "file": f"{kind}.onnx", "max_batch": 16} for kind in KINDS]


@pytest_asyncio.fixture
async def server(folder: Path) -> AsyncIterator[ModelServer]:
    """One that serves `add` and `other`."""
    identity(folder / "other.onnx", "FP32")
    async with serving(folder, [*adders(folder), {"name": "other", "file": "other.onnx", "max_batch": 16}]) as found:
        yield found
