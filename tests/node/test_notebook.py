"""What notebooks show of a pipeline, a model and a node."""

from pathlib import Path

import pytest

from skerry import EdgeInference, Node, Pipeline, SyncInference
from skerry.config import load
from skerry.inference import load_model
from tests.node.test_library import MEAN, linear, written

SUM = '[[models]]\nname = "sum"\nfile = "sum.onnx"\nversion = "7"\n' + MEAN + 'model = "sum@active"\n'


def test_a_pipeline(tmp_path: Path) -> None:
    linear(tmp_path / "sum.onnx", 2)
    shown = Pipeline.from_config(written(tmp_path, SUM), "mean")._repr_html_()
    for words in ("pipeline mean", "devices/+/level (json)", "h, t", "count", "sum@7", "every window is an event"):
        assert words in shown
    ruled = written(tmp_path, SUM + 'rule = { field = "h_mean", below = 0.5, for = 3 }\n')
    assert "warning when h_mean is below 0.5, for 3" in Pipeline.from_config(ruled, "mean")._repr_html_()


@pytest.mark.asyncio
async def test_a_model_in_each_of_its_forms(tmp_path: Path) -> None:
    file = linear(tmp_path / "sum.onnx", 2)
    async with await EdgeInference.load(file, name="sum", version="7") as edge:
        with SyncInference.load(file, name="sum", version="7") as blocking:
            for model in (edge, blocking, load_model(file, "sum", "7")):
                shown = model._repr_html_()
                assert "model sum@7" in shown
                assert "<th>input x</th><td>float32 [N, 2]</td>" in shown
                assert "<th>output score</th>" in shown


def test_a_node_that_does_not_run_yet(tmp_path: Path) -> None:
    linear(tmp_path / "sum.onnx", 2)
    shown = Node(load(written(tmp_path, SUM)))._repr_html_()
    for words in ("node box", "not ready", "127.0.0.1:1883", "devices/+/level", "sum@active", "starting"):
        assert words in shown
