"""A model is held to what the pipeline makes, and run once before its first message: of numbers, pictures, strings and samples."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from onnx import TensorProto, helper, numpy_helper, save

from skerry.core.errors import RejectedError
from skerry.inference import Model, load_model
from skerry.pipeline import PipelineSpec
from skerry.worker.live import LiveModel
from skerry.worker.models import try_beside
from skerry.worker.warming import OPEN, check, warm
from tests.fixtures import models
from tests.fixtures.frames import spec_of

IMAGE = {"format": "image", "width": 4, "height": 2, "values": [], "time": ""}
STRING = {"format": "string", "values": [], "time": ""}
TWO_NAMES = {"values": ["x", "y"]}


class Seen:
    """A loaded model that keeps the rows that it was given."""

    def __init__(self, model: Model) -> None:
        self.model, self.inputs, self.name, self.rows = model, model.inputs, model.name, []

    def score(self, rows: Any) -> Any:
        self.rows.append(rows)
        return self.model.score(rows)


def summing(path: Path, shape: list[int | str]) -> Path:
    """`score` is the sum of a row of any rank."""
    axes = list(range(1, len(shape)))
    graph = helper.make_graph(
        [helper.make_node("ReduceSum", ["x", "axes"], ["s"], keepdims=0), helper.make_node("Reshape", ["s", "to"], ["score"])],
        "g",
        [helper.make_tensor_value_info("x", TensorProto.FLOAT, shape)],
        [helper.make_tensor_value_info("score", TensorProto.FLOAT, ["N", 1])],
        [numpy_helper.from_array(np.array(axes), "axes"), numpy_helper.from_array(np.array([-1, 1]), "to")],
    )
    save(helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8), path)
    return path


def judging(path: Path) -> Path:
    """`score` is 1 for the word "leak"."""
    judge = helper.make_node(
        "LabelEncoder", ["x"], ["score"], domain="ai.onnx.ml", keys_strings=["leak"], values_floats=[1.0], default_float=0.0
    )
    value = helper.make_tensor_value_info
    graph = helper.make_graph(
        [judge], "g", [value("x", TensorProto.STRING, ["N", 1])], [value("score", TensorProto.FLOAT, ["N", 1])]
    )
    imports = [helper.make_opsetid("", 17), helper.make_opsetid("ai.onnx.ml", 3)]
    save(helper.make_model(graph, opset_imports=imports, ir_version=8), path)
    return path


def warmed(path: Path, spec: PipelineSpec) -> list[Any]:
    """The rows of the first run."""
    seen = Seen(load_model(path, "m"))
    check(seen.model, spec)
    warm(seen, spec)  # type: ignore[arg-type]  # it has what is asked of a model, and remembers
    return seen.rows


@pytest.mark.parametrize(
    ("shape", "table", "row"),
    [
        (["N", 4], {"features": ["mean", "max"], "source": TWO_NAMES}, (4,)),
        (["N", 3, 2, 4], {"source": IMAGE}, (3, 2, 4)),
        (["N", 2, 4, 3], {"source": {**IMAGE, "layout": "NHWC"}}, (2, 4, 3)),
        (["N", "C", "H", "W"], {"source": IMAGE}, (3, 2, 4)),
        (["N", 5, 2], {"window": {"kind": "count", "size": 5}, "source": TWO_NAMES}, (5, 2)),
        (["N", 10], {"window": {"kind": "count", "size": 5}, "source": TWO_NAMES}, (5, 2)),
        (["N", "T", 2], {"window": {"kind": "tumbling", "size": "1s"}, "source": TWO_NAMES}, (OPEN, 2)),
        (["N", 6, 2], {"window": {"kind": "tumbling", "size": "1s"}, "source": TWO_NAMES}, (6, 2)),
        (["N", 2], {"source": TWO_NAMES}, (1, 2)),
        (["N", 7], {"features": "math:sqrt", "window": {"kind": "count", "size": 5}}, (7,)),
    ],
)
def test_the_first_run_has_the_shape_of_what_the_pipeline_makes(
    tmp_path: Path, shape: list[int | str], table: dict[str, Any], row: tuple[int, ...]
) -> None:
    (rows,) = warmed(summing(tmp_path / "m.onnx", shape), spec_of(model="m", **table))
    assert rows.shape == (1, *row)
    assert not rows.any()


def test_a_model_of_strings_is_given_an_empty_one(tmp_path: Path) -> None:
    (rows,) = warmed(judging(tmp_path / "text.onnx"), spec_of(model="m", source=STRING))
    assert (rows.shape, rows.dtype.kind, rows[0, 0]) == ((1, 1), "O", "")


@pytest.mark.parametrize(
    ("shape", "table", "told"),
    [
        (["N", 5], {"features": ["mean", "max"]}, "takes 5 features a row"),
        (["N", 3, 4, 4], {"source": IMAGE}, r"takes \[N, 3, 4, 4\].*the pipeline makes \[N, 3, 2, 4\]"),
        (["N", 2, 4, 3], {"source": IMAGE}, 'set layout = "NHWC"'),
        (["N", 8], {"window": {"kind": "count", "size": 5}}, "takes 8 features a row .* the pipeline makes 5"),
        (["N", 1], {"source": STRING}, "reads numbers .* the pipeline makes strings"),
    ],
)
def test_what_cannot_fit_is_refused_before_it_runs_and_beside_another_too(
    tmp_path: Path, shape: list[int | str], table: dict[str, Any], told: str
) -> None:
    spec, model = spec_of(model="m", **table), load_model(summing(tmp_path / "m.onnx", shape), "m", "2")
    with pytest.raises(RejectedError, match=told):
        check(model, spec)
    before = LiveModel(load_model(models.adding(tmp_path / "1.onnx", 1), "m"), 0)
    with pytest.raises(RejectedError, match=told):
        try_beside(model, before, spec, 3.0)
    assert model.runs == 0


def test_a_failure_counts_where_the_size_is_known_and_not_where_it_was_guessed(tmp_path: Path) -> None:
    failing = load_model(models.failing(tmp_path / "fails.onnx"), "m")
    with pytest.raises(RejectedError, match="did not run"):
        warm(failing, spec_of(model="m", features=["mean", "max"], window={"kind": "count", "size": 4}))
    warm(failing, spec_of(model="m", features="math:sqrt", window={"kind": "count", "size": 4}))
    assert failing.runs == 2


def test_a_version_beside_one_that_has_had_no_rows_is_warmed(tmp_path: Path) -> None:
    spec = spec_of(model="m", source=IMAGE)
    before = LiveModel(load_model(summing(tmp_path / "1.onnx", ["N", 3, 2, 4]), "m"), 0)
    model = load_model(summing(tmp_path / "2.onnx", ["N", 3, 2, 4]), "m", "2")
    try_beside(model, before, spec, 3.0)
    assert model.runs == 1
    picture = np.zeros((3, 3, 2, 4), np.float32)
    before.score(picture)
    try_beside(model, before, spec, 1e9)
    assert model.runs > 2
