"""BYTES through the whole of a model server: the protocol allows any bytes, the engine takes and gives UTF-8."""

import json
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest
import pytest_asyncio
from onnx import TensorProto, helper

from skerry.serving.frames import Ask, Given
from skerry.serving.handlers import Handlers
from skerry.serving.models import LoadedModels
from tests.serving.conftest import identity, save

pytestmark = pytest.mark.asyncio
WORDS = [b"", b"plain", b"zero\0inside", "mäßig 测试 🙂".encode(), b"\xef\xbb\xbfmark", b"x" * 70_000]
NO_TEXT = [b"\xff", b"a\x80", b"\xc3", b"\xed\xa0\x80", b"\xf8\x88\x80\x80\x80", b"\xc0\xaf", bytes(range(256))]


def speaker(path: Path, said: bytes) -> Path:
    """`y` is one word, whatever `x` is: the only way to have an output that is no text."""
    constant = helper.make_tensor("c", TensorProto.STRING, [1, 1], [said])
    x = helper.make_tensor_value_info("x", TensorProto.FLOAT, ["n", 1])
    kinds = (("y", TensorProto.STRING, [1, 1]), ("z", TensorProto.FLOAT, ["n", 1]))
    outputs = [helper.make_tensor_value_info(*each) for each in kinds]
    nodes = [helper.make_node("Identity", ["c"], ["y"]), helper.make_node("Identity", ["x"], ["z"])]
    return save(path, nodes, [x], outputs, [constant])


@pytest_asyncio.fixture
async def handlers(tmp_path: Path) -> AsyncIterator[Handlers]:
    identity(tmp_path / "same.onnx", "BYTES")
    speaker(tmp_path / "mad.onnx", b"a\xff")
    speaker(tmp_path / "sane.onnx", "ä".encode())
    models = LoadedModels()
    names = ("same", "mad", "sane")
    await models.give(Given([{"name": name, "file": f"{name}.onnx", "max_batch": 16} for name in names], str(tmp_path), ""))
    yield Handlers(models)
    await models.close()


def packed(*words: bytes) -> bytes:
    return b"".join(len(word).to_bytes(4, "little") + word for word in words)


async def same(handlers: Handlers, *words: bytes, binary: bool = True) -> tuple[int, bytes, int]:
    """Status, body and size of the JSON part of the answer of a model that gives back what it was given."""
    tail = packed(*words)
    tensor = {"name": "x", "shape": [len(words) // 2, 2], "datatype": "BYTES", "parameters": {"binary_data_size": len(tail)}}
    head = json.dumps({"inputs": [tensor], "parameters": {"binary_data_output": binary}}).encode()
    headers = {"inference-header-content-length": str(len(head))}
    answer = await handlers.answer(Ask(1, "POST", "/v2/models/same/infer", headers, head + tail))
    return answer.status, answer.body, int(answer.headers.get("inference-header-content-length", len(answer.body)))


async def test_text_comes_back_byte_for_byte(handlers: Handlers) -> None:
    status, body, size = await same(handlers, *WORDS)
    assert (status, body[size:]) == (200, packed(*WORDS))
    status, body, _ = await same(handlers, *WORDS, binary=False)
    assert json.loads(body)["outputs"][0]["data"] == [word.decode() for word in WORDS]


@pytest.mark.parametrize("word", NO_TEXT)
async def test_other_bytes_are_refused_by_name_and_place(handlers: Handlers, word: bytes) -> None:
    status, body, _ = await same(handlers, b"good", word)
    told = json.loads(body)["error"]
    assert status == 400
    assert told.startswith("input 'x': element 1 is not UTF-8 (byte ")
    assert "UINT8" in told
    assert (await same(handlers, b"good", b"again"))[0] == 200


async def test_a_model_that_says_what_is_no_text(handlers: Handlers) -> None:
    async def ask(name: str, **more: Any) -> tuple[int, Any]:
        tensor = {"name": "x", "shape": [1, 1], "datatype": "FP32", "data": [1]}
        body = json.dumps({"inputs": [tensor], **more}).encode()
        answer = await handlers.answer(Ask(1, "POST", f"/v2/models/{name}/infer", {}, body))
        return answer.status, json.loads(answer.body)

    status, told = await ask("mad")
    assert status == 400
    assert "text that is not UTF-8" in told["error"]
    assert "ask for other outputs" in told["error"]
    status, told = await ask("mad", outputs=[{"name": "z"}])
    assert (status, told["outputs"][0]["data"]) == (200, [1.0])
    status, told = await ask("sane")
    assert (status, told["outputs"][0]["data"]) == (200, ["ä"])
