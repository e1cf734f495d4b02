"""onnxruntime behind the seam: the contract, options, cached graphs, and one sentence for each bad file."""

from pathlib import Path
from typing import Any

import ml_dtypes
import numpy as np
import pytest
from onnx import TensorProto, helper, numpy_helper

from skerry.core.errors import ConfigError, RejectedError
from skerry.inference.engine import graph_cache
from skerry.inference.engine.opening import open_session
from skerry.inference.engine.seam import EngineOptions
from tests.contracts.engine import ROWS, EngineContract, two_outputs


class TestOnnxruntime(EngineContract):
    engine = "onnxruntime"


def model(nodes: list[Any] | None = None, weights: list[Any] | None = None, kind: int = TensorProto.FLOAT, **more: Any) -> Any:
    value = helper.make_tensor_value_info
    graph = helper.make_graph(
        nodes or [helper.make_node("Relu", ["x"], ["y"])],
        "g",
        [value("x", kind, ["N", 3])],
        [value("y", kind, None)],
        weights or [],
    )
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", more.get("opset", 17))], ir_version=more.get("ir", 8))


def outside(location: str) -> Any:
    tensor = numpy_helper.from_array(np.zeros(3, np.float32), "w")
    tensor.ClearField("raw_data")
    tensor.data_location = TensorProto.EXTERNAL
    entry = tensor.external_data.add()
    entry.key, entry.value = "location", location
    return model([helper.make_node("Add", ["x", "w"], ["y"])], [tensor])


BAD = {
    "empty": (b"", "this is no ONNX file"),
    "text": (b"not onnx", "this is no ONNX file, or one that is cut off"),
    "cut off": (two_outputs, "this is no ONNX file, or one that is cut off"),
    "ir": (model(ir=99), r"its IR version 99 is newer than the \d+ that this engine takes; export it with ir_version"),
    "opset too new": (model(opset=99), "its opset (99 )?is newer than this engine takes; export it with a lower opset"),
    "opset too old": (model(opset=5, ir=3), "the engine has no operator Relu of opset 1; convert it to opset 13"),
    "operator": (model([helper.make_node("Foo", ["x"], ["y"])]), "there is no operator Foo"),
    "external data": (outside("w.bin"), r"its external data .*w\.bin is missing; put that file beside the model"),
    "outside": (outside("../w.bin"), "its external data"),
    "absolute": (outside("/etc/passwd"), "its external data lies outside the model's directory"),
}


@pytest.mark.parametrize("case", BAD)
def test_a_bad_file_is_one_sentence(tmp_path: Path, case: str) -> None:
    content, told = BAD[case]
    path = tmp_path / "bad.onnx"
    if content is two_outputs:
        whole = two_outputs(path).read_bytes()
        path.write_bytes(whole[: len(whole) // 2])
    else:
        path.write_bytes(content if isinstance(content, bytes) else content.SerializeToString())
    with pytest.raises(RejectedError, match=f"bad.onnx: the model cannot be loaded: {told}") as caught:
        open_session(path, cache=tmp_path / "cache")
    assert "\n" not in str(caught.value)
    assert "onnxruntime_src" not in str(caught.value)
    assert not list(tmp_path.glob("cache/*"))


def test_a_missing_file_is_told(tmp_path: Path) -> None:
    for path in (tmp_path / "gone.onnx", tmp_path):
        with pytest.raises(RejectedError, match="the model file does not exist; mend the path") as caught:
            open_session(path)
        assert caught.value.where == str(path)


@pytest.mark.parametrize(("field", "value"), [("threads", 0), ("threads", 1000), ("optimize", "most"), ("engine", "tract")])
def test_options_are_checked(field: str, value: Any) -> None:
    with pytest.raises(ConfigError) as caught:
        EngineOptions(**{field: value})
    assert caught.value.where == field
    assert caught.value.allowed


@pytest.mark.parametrize(
    "options",
    [
        EngineOptions(threads=2, spinning=True),
        EngineOptions(arena=False),
        *(EngineOptions(optimize=level) for level in ("none", "basic", "extended")),
    ],
)
def test_every_setting_gives_the_same(tmp_path: Path, options: EngineOptions) -> None:
    session = open_session(two_outputs(tmp_path / "m.onnx"), options)
    assert np.array_equal(session.run({"x": ROWS})["double"], 2 * ROWS)


def test_a_graph_is_optimized_once(tmp_path: Path) -> None:
    path, cache = two_outputs(tmp_path / "m.onnx"), tmp_path / "a" / "cache"
    open_session(path, cache=cache)
    kept = list(cache.iterdir())
    assert [each.name.endswith(".opt.onnx") for each in kept] == [True]
    written = kept[0].read_bytes()
    open_session(path.read_bytes(), cache=cache)
    assert [each.read_bytes() for each in cache.iterdir()] == [written]
    open_session(path, EngineOptions(optimize="basic"), cache)
    assert len(list(cache.iterdir())) == 2
    open_session(path, EngineOptions(optimize="none"), cache)
    assert len(list(cache.iterdir())) == 2


def test_a_broken_cache_is_made_again(tmp_path: Path) -> None:
    path, cache = two_outputs(tmp_path / "m.onnx"), tmp_path / "cache"
    open_session(path, cache=cache)
    kept = next(cache.iterdir())
    whole = kept.read_bytes()
    for broken in (b"", b"junk", whole[: len(whole) // 2]):
        kept.write_bytes(broken)
        assert np.array_equal(open_session(path, cache=cache).run({"x": ROWS})["double"], 2 * ROWS)
        assert kept.read_bytes() == whole


def test_a_cache_that_cannot_be_written_is_passed_over(tmp_path: Path) -> None:
    (tmp_path / "cache").write_text("a file")
    session = open_session(two_outputs(tmp_path / "m.onnx"), cache=tmp_path / "cache" / "in it")
    assert session.run({"x": ROWS})["double"].shape == (2, 3)


def test_the_cache_is_bounded(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(graph_cache, "MOST_CACHED", 2)
    for number in range(4):
        made = model()
        made.doc_string = str(number)
        open_session(made.SerializeToString(), cache=tmp_path)
    assert len(list(tmp_path.iterdir())) == 2


def test_external_data_is_never_cached_by_the_file_alone(tmp_path: Path) -> None:
    path = tmp_path / "m.onnx"
    path.write_bytes(outside("w.bin").SerializeToString())
    for value in (1.0, 2.0):
        (tmp_path / "w.bin").write_bytes(np.full(3, value, np.float32).tobytes())
        session = open_session(path, cache=tmp_path / "cache")
        assert np.array_equal(session.run({"x": ROWS})["y"], ROWS + value)


@pytest.mark.parametrize("name", ["bfloat16", "float8_e4m3fn", "float8_e4m3fnuz", "float8_e5m2", "float8_e5m2fnuz"])
def test_floats_that_numpy_has_not(name: str) -> None:
    kind = getattr(TensorProto, name.replace("_e", "e").upper())
    session = open_session(model([helper.make_node("Identity", ["x"], ["y"])], kind=kind, opset=21, ir=10).SerializeToString())
    assert session.inputs[0].dtype == name.replace("_e", "e")
    rows = ROWS.astype(getattr(ml_dtypes, name))
    for part in (rows, rows[:, ::-1], rows[:0]):
        found = session.run({"x": part})["y"]
        assert found.dtype == part.dtype
        assert found.astype(float).tolist() == part.astype(float).tolist()
    with pytest.raises(RejectedError, match="expected dtype"):
        session.run({"x": ROWS})


def test_a_run_that_fails_in_the_model_says_so_and_the_next_works() -> None:
    nodes = [helper.make_node("Gather", ["w", "i"], ["y"]), helper.make_node("Cast", ["x"], ["i"], to=TensorProto.INT64)]
    session = open_session(model(nodes[::-1], [numpy_helper.from_array(np.arange(9, dtype=np.float32), "w")]).SerializeToString())
    with pytest.raises(RejectedError, match=r"the model did not run on this input: .*out of data bounds"):
        session.run({"x": np.full((1, 3), 99, np.float32)})
    assert session.run({"x": np.full((1, 3), 4, np.float32)})["y"].tolist() == [[4, 4, 4]]
