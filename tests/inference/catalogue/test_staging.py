"""From a file to the active version: what cannot stand in for the active one is refused, and the active one stays as it was.

Each trial is a process of its own, so versions whose staging is not the question are put into the catalogue without one.
"""

import resource
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import msgspec
import numpy as np
import psutil
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from onnx import TensorProto, helper, numpy_helper, save_model

from skerry.core.clock import ManualClock
from skerry.core.errors import ConfigError, RejectedError
from skerry.inference import ModelConfig
from skerry.inference.catalogue.staging import activate, misfit, stage
from skerry.inference.catalogue.trial import Report, try_model
from skerry.inference.catalogue.version import Tensor, Version
from skerry.inference.catalogue.versions import Catalogue
from tests.inference.conftest import FLOAT, MakeModel

few = settings(max_examples=30, deadline=None)

node = helper.make_node
SCORE = [("score", FLOAT, ["N", 3])]
TENSORS = (Tensor("x", "float32", (None, 3)),)


@pytest.fixture
def catalogue(tmp_path: Path) -> Catalogue:
    return Catalogue(tmp_path / "models", clock=ManualClock(7))


def put(catalogue: Catalogue, file: Path, **known: Any) -> Version:
    """A version in the catalogue, without a trial."""
    digest, size = catalogue.store(file)
    return catalogue.add(Version("pump", "", sha256=digest, size=size, **known))


@pytest.fixture
def running(catalogue: Catalogue, make_model: MakeModel) -> Catalogue:
    """A catalogue whose active version is pump@1, of one input `x` and the output `score`, 5 ms a run."""
    known = {"inputs": TENSORS, "outputs": (Tensor("score", "float32", (None, 3)),), "latency_ms": 5.0}
    row = put(catalogue, make_model([node("Identity", ["x"], ["score"])], SCORE), **known)
    catalogue.activate("pump", row.version)
    return catalogue


def wider_input(make: MakeModel) -> Path:
    return make([node("Identity", ["x"], ["score"])], [("score", FLOAT, ["N", 4])], shape=("N", 4))


def renamed_output(make: MakeModel) -> Path:
    return make([node("Identity", ["x"], ["level"])], [("level", FLOAT, ["N", 3])])


def not_a_number(make: MakeModel) -> Path:
    nodes = [node("Sub", ["x", "x"], ["zero"]), node("Div", ["zero", "zero"], ["score"])]
    return make(nodes, SCORE)


REFUSED: dict[str, tuple[Callable[[MakeModel], Path], str]] = {
    "input": (wider_input, "its inputs are not those of the active version; pump@1 stays active"),
    "output": (renamed_output, "it has no output score, which the active version has; pump@1 stays active"),
    "nan": (not_a_number, "it answers NaN where the active version does not; pump@1 stays active"),
}


@pytest.mark.parametrize("case", REFUSED)
def test_what_cannot_stand_in_is_refused_and_the_active_one_stays(running: Catalogue, make_model: MakeModel, case: str) -> None:
    make, told = REFUSED[case]
    before = running.active("pump")
    row = put(running, make(make_model))
    with pytest.raises(RejectedError, match=told) as caught:
        activate(running, "pump", row.version)
    assert caught.value.where == "pump@2"
    assert "\n" not in str(caught.value)
    assert running.active("pump") == before, "not one field of it has changed"
    assert running.previous("pump") is None
    found = running.find("pump@2")
    assert (found.state, found.reason) == ("failed", caught.value.message)


def test_one_that_is_too_slow_is_refused_too(catalogue: Catalogue, make_model: MakeModel) -> None:
    """Four products of 400 x 400 numbers take more than half a millisecond on one core of anything."""
    weights = numpy_helper.from_array(np.full((400, 400), 1e-4, np.float32), "w")
    nodes = [node("ReduceMean", ["x"], ["mean"], keepdims=0), node("Add", ["w", "mean"], ["h0"])]
    nodes += [node("MatMul", [f"h{at}", "w"], [f"h{at + 1}"]) for at in range(4)]
    nodes += [node("ReduceMean", ["h4"], ["all"], keepdims=0), node("Add", ["x", "all"], ["score"])]
    known = {"inputs": TENSORS, "outputs": (Tensor("score", "float32", (None, 3)),), "latency_ms": 0.001}
    put(catalogue, make_model([node("Identity", ["x"], ["score"])], SCORE), **known)
    before = catalogue.activate("pump", "1")
    put(catalogue, make_model(nodes, SCORE, constants=[weights]))
    with pytest.raises(RejectedError, match=r"it takes \d+\.\d\d ms a run, the active version 0\.00 ms \(bound 3 times\)"):
        activate(catalogue, "pump", "2")
    assert catalogue.find("pump") == before
    assert catalogue.find("pump@2").state == "failed"
    assert catalogue.activate("pump", "2").reason == "", "activated all the same it carries no reason any more"


def test_flags_go_over_what_the_model_says_and_nonsense_is_passed_over(catalogue: Catalogue, make_model: MakeModel) -> None:
    metadata = {"labels": "good, worn", "threshold": "0.75", "features": '["flow", "heat", "noise"]'}
    path = make_model([node("Identity", ["x"], ["score"])], SCORE, metadata=metadata)
    row = stage(catalogue, "pump", path, "summer", threshold=0.0)
    assert (row.version, row.labels, row.threshold, row.features) == ("summer", (), 0.0, ("flow", "heat", "noise"))
    assert (row.state, row.inputs, row.metadata) == ("staged", TENSORS, metadata)
    (table,) = Catalogue(catalogue.directory).configs()
    assert isinstance(table, ModelConfig), "as workers are given it"
    assert (table.labels, table.threshold, table.features) == ((), 0.0, ("flow", "heat", "noise"))
    assert catalogue.active("pump") is None


def test_an_old_opset_is_staged_once_it_is_converted(catalogue: Catalogue, tmp_path: Path) -> None:
    value = helper.make_tensor_value_info
    bias = numpy_helper.from_array(np.ones(3, np.float32), "b")
    nodes = [node("Relu", ["x"], ["r"]), node("Add", ["r", "b"], ["score"], broadcast=1)]
    inputs = [value("x", FLOAT, ["N", 3]), value("b", FLOAT, [3])]
    graph = helper.make_graph(nodes, "g", inputs, [value("score", FLOAT, ["N", 3])], [bias])
    path = tmp_path / "old.onnx"
    save_model(helper.make_model(graph, opset_imports=[helper.make_opsetid("", 5)], ir_version=3), path)
    row = stage(catalogue, "pump", path, convert=True)
    assert (row.opset, row.batching, row.inputs) == (13, "symbolic", TENSORS)
    assert row.warnings == ("converted to opset 13: compared with the reference evaluator, largest difference 0",)
    assert catalogue.path(row).read_bytes() != path.read_bytes()


def test_a_refused_file_leaves_nothing_behind(catalogue: Catalogue, tmp_path: Path) -> None:
    tensor = numpy_helper.from_array(np.zeros(3, np.float32), "w")
    tensor.ClearField("raw_data")
    tensor.data_location = TensorProto.EXTERNAL
    entry = tensor.external_data.add()
    entry.key, entry.value = "location", "gone.bin"
    value = helper.make_tensor_value_info
    graph = helper.make_graph(
        [node("Add", ["x", "w"], ["score"])], "g", [value("x", FLOAT, ["N", 3])], [value("score", FLOAT, ["N", 3])], [tensor]
    )
    path = tmp_path / "m.onnx"
    path.write_bytes(helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8).SerializeToString())
    with pytest.raises(RejectedError, match="the model keeps weights in other files; save it in one: ") as caught:
        stage(catalogue, "pump", path)
    assert "\n" not in str(caught.value)
    with pytest.raises(RejectedError, match="the model file does not exist; mend the path"):
        stage(catalogue, "pump", tmp_path / "gone.onnx")
    assert catalogue.versions() == []
    assert not list(tmp_path.glob("models/blobs/*"))


def test_unknown_names_are_told_before_any_trial(catalogue: Catalogue) -> None:
    with pytest.raises(ConfigError, match="there is no model 'pump'"):
        activate(catalogue, "pump", "1")


def test_a_model_that_asks_for_too_much_memory_ends_only_its_trial(make_model: MakeModel) -> None:
    """The size comes from the input's own shape, so that no look at the file can tell."""
    much = numpy_helper.from_array(np.array([100_000_000, 1]), "much")
    one = numpy_helper.from_array(np.ones((1, 1), np.float32), "one")
    nodes = [
        node("Shape", ["x"], ["shape"]),
        node("Mul", ["shape", "much"], ["big"]),
        node("Expand", ["one", "big"], ["filled"]),
        node("Cos", ["filled"], ["wave"]),
        node("ReduceSum", ["wave"], ["sum"], keepdims=0),
        node("Add", ["x", "sum"], ["score"]),
    ]
    path = make_model(nodes, SCORE, constants=[much, one])
    before, children = resource.getrlimit(resource.RLIMIT_AS), set(psutil.Process().children())
    with pytest.raises(RejectedError, match=r"more memory than there is|for want of memory|too much memory") as caught:
        try_model(path, memory=256 << 20)
    assert "\n" not in str(caught.value)
    assert caught.value.where == str(path)
    assert resource.getrlimit(resource.RLIMIT_AS) == before, "the bound is the child's alone"
    assert set(psutil.Process().children()) <= children


NAMES = st.sampled_from(["a", "b", "c"])
SHAPES = st.lists(st.one_of(st.none(), st.integers(1, 4)), min_size=1, max_size=3).map(tuple)
TENSOR_LISTS = st.lists(st.builds(Tensor, NAMES, st.sampled_from(["float32", "int64"]), SHAPES), min_size=1, max_size=3).map(tuple)


@few
@given(TENSOR_LISTS, TENSOR_LISTS, st.floats(0, 100), st.booleans())
def test_a_version_always_fits_itself(inputs: Sequence[Tensor], outputs: Sequence[Tensor], latency: float, nan: bool) -> None:
    known: dict[str, Any] = {"inputs": inputs, "outputs": outputs, "latency_ms": latency, "nan": nan}
    assert misfit(Version("m", "1", **known), Report(**known)) == ""


@few
@given(TENSOR_LISTS, TENSOR_LISTS)
def test_rows_may_change_and_all_else_of_the_inputs_may_not(old: tuple[Tensor, ...], new: tuple[Tensor, ...]) -> None:
    def fixed(tensors: tuple[Tensor, ...], rows: int | None) -> tuple[Tensor, ...]:
        return tuple(msgspec.structs.replace(each, shape=(rows, *each.shape[1:])) for each in tensors)

    assert misfit(Version("m", "1", inputs=fixed(old, None)), Report(inputs=fixed(old, 4))) == ""
    found = misfit(Version("m", "1", inputs=old), Report(inputs=new))
    assert (found == "") == (fixed(old, None) == fixed(new, None))


@few
@given(st.floats(0, 10), st.floats(0, 100), st.floats(1, 10))
def test_slower_is_refused_from_the_bound_on_and_never_below_the_noise(before: float, now: float, bound: float) -> None:
    found = misfit(Version("m", "1", inputs=TENSORS, latency_ms=before), Report(inputs=TENSORS, latency_ms=now), bound)
    if now <= 0.5 or now <= before * bound:
        assert found == ""
    else:
        assert found == f"it takes {now:.2f} ms a run, the active version {before:.2f} ms (bound {bound:g} times)"


def test_of_a_version_in_the_configuration_nothing_is_known_and_nothing_held_against_the_next() -> None:
    assert misfit(Version("m", "1", file="a.onnx"), Report(inputs=TENSORS, nan=True, latency_ms=99)) == ""
