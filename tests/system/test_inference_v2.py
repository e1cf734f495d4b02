"""Open Inference Protocol v2 of a whole node: the official client, a version switched under it, and the model server killed."""

import json
import os
import signal
import urllib.error
import urllib.request
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import tritonclient.http as triton
from tritonclient.utils import InferenceServerException

from tests.fixtures.node import RunningNode, until
from tests.serving.conftest import adder

TABLES = """
[[models]]
name = "add"
version = "1"
file = "add1.onnx"
max_batch = 16
[[models]]
name = "50%"
file = "add1.onnx"
max_batch = 16
"""


def server_pid(node: RunningNode) -> int | None:
    """Of the model server, None when none runs."""
    return next((row["pid"] for row in node.status()["processes"] if row["name"] == "serving"), None)


def _hang(node: RunningNode, ask: Callable[[], Any]) -> None:
    """Stop the model server: whoever asks meanwhile is told 503, and it is ended by the node, which asks it for a beat."""
    pid = server_pid(node)
    assert pid is not None
    os.kill(pid, signal.SIGSTOP)
    with pytest.raises(InferenceServerException) as refused:
        ask()
    assert refused.value.status() == "503"
    until(lambda: server_pid(node) not in (None, pid), 15, "another model server")
    assert node.status()["ready"]


def test_the_official_client_on_a_whole_node(tmp_path: Path) -> None:
    adder(tmp_path / "add1.onnx", 1)
    with RunningNode(tmp_path, TABLES, stall="2s") as node:
        address = node.status()["broker"]["http"]
        assert server_pid(node) is None  # who asks for nothing pays nothing
        client = triton.InferenceServerClient(address)
        given = triton.InferInput("x", [2, 2], "FP32").set_data_from_numpy(np.ones((2, 2), np.float32))

        def ask() -> Any:
            return client.infer("add", [given]).as_numpy("y").tolist()

        try:
            assert client.is_server_live()
            assert client.is_model_ready("add")
            assert ask() == [[2, 2], [2, 2]]
            with pytest.raises(InferenceServerException, match="no model 'none'"):
                client.infer("none", [given])
            pid = server_pid(node)
            assert pid is not None
            os.kill(pid, signal.SIGKILL)

            def answered() -> bool:
                try:
                    return bool(ask())
                except InferenceServerException as error:
                    return error.status() != "503"

            until(answered, 15, "an answer of the next model server")
            assert ask() == [[2, 2], [2, 2]]
            _hang(node, ask)
            until(answered, 15, "an answer of the one after that")
            assert client.is_model_ready("50%")
            assert not client.is_model_ready("50%25")
        finally:
            client.close()
        with urllib.request.urlopen(f"http://{address}/metrics", timeout=5) as answer:
            assert 'skerry_restarts_total{child="serving"} 2.0' in answer.read().decode()
        request = urllib.request.Request(f"http://{address}/v2/models/add/infer", b"{", {"content-type": "application/json"})
        with pytest.raises(urllib.error.HTTPError) as refused:
            urllib.request.urlopen(request, timeout=5)
        with refused.value as error:
            assert error.code == 400
            assert "no inference request" in json.loads(error.read())["error"]
