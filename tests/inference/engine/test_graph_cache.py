"""Kept graphs, verdicts and freed copies: the same answers with and without them, bounded, and never in the way."""

import os
from pathlib import Path

import numpy as np
import pytest
from onnx import TensorProto, helper, numpy_helper

from skerry.core.errors import RejectedError
from skerry.inference.batching.edge import EdgeInference
from skerry.inference.batching.sync import SyncInference
from skerry.inference.engine import graph_cache
from skerry.inference.engine.graph_cache import _EXTERNAL, _PIECE, content_digest, let_go
from skerry.inference.engine.opening import open_session
from skerry.inference.engine.seam import EngineOptions
from skerry.inference.graph.prepare import prepare
from tests.inference.conftest import FLOAT

node = helper.make_node
ROWS = np.array([[-1, 0, 2], [3, -4, 5]], np.float32)
WEIGHTS = np.arange(9, dtype=np.float32).reshape(3, 3) / 4


def dense(path: Path, ir: int = 3, listed: bool = True, batch: int | str = "N", note: str = "") -> Path:
    """y = relu(x w) + 1; `listed`: the initializers are graph inputs too, which IR 3 asks for."""
    value = helper.make_tensor_value_info
    tensors = [numpy_helper.from_array(WEIGHTS, "w"), numpy_helper.from_array(np.ones(3, np.float32), "b")]
    inputs = [value("x", FLOAT, [batch, 3]), *(value(each.name, FLOAT, each.dims) for each in tensors if listed)]
    nodes = [node("MatMul", ["x", "w"], ["m"]), node("Relu", ["m"], ["r"]), node("Add", ["r", "b"], ["y"])]
    graph = helper.make_graph(nodes, "g", inputs, [value("y", FLOAT, [batch, 3])], tensors)
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 9)], ir_version=ir)
    model.doc_string = note
    path.write_bytes(model.SerializeToString())
    return path


def outside(path: Path, location: str = "w.bin", batch: int | str = "N") -> Path:
    """y = x + w, and w lies in a file beside it."""
    tensor = TensorProto(name="w", data_type=FLOAT, dims=[3], data_location=TensorProto.EXTERNAL)
    entry = tensor.external_data.add()
    entry.key, entry.value = "location", location
    value = helper.make_tensor_value_info
    graph = helper.make_graph(
        [node("Add", ["x", "w"], ["y"])], "g", [value("x", FLOAT, [batch, 3])], [value("y", FLOAT, [batch, 3])], [tensor]
    )
    path.write_bytes(helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8).SerializeToString())
    return path


def expected(rows: np.ndarray) -> np.ndarray:
    return np.maximum(rows @ WEIGHTS, 0) + 1


@pytest.mark.parametrize(("ir", "listed"), [(3, True), (4, True), (4, False), (8, True), (8, False)])
@pytest.mark.parametrize("optimize", ["all", "extended", "basic", "none"])
def test_a_second_load_needs_no_more_inputs_than_the_first(tmp_path: Path, ir: int, listed: bool, optimize: str) -> None:
    path, options = dense(tmp_path / "m.onnx", ir, listed), EngineOptions(optimize=optimize)
    for _ in range(3):
        session = open_session(path, options, tmp_path / "cache")
        assert [each.name for each in session.inputs] == ["x"]
        assert session.run({"x": ROWS})["y"] == pytest.approx(expected(ROWS))
        session.close()


def test_a_graph_whose_weights_a_feed_may_override_is_not_kept(tmp_path: Path) -> None:
    open_session(dense(tmp_path / "old.onnx", ir=4, listed=True), cache=tmp_path / "cache")
    assert not list((tmp_path / "cache").iterdir()), "nor is anything half written left"
    open_session(dense(tmp_path / "new.onnx", ir=8, listed=False), cache=tmp_path / "cache")
    assert [each.suffixes for each in (tmp_path / "cache").iterdir()] == [[".opt", ".onnx"]]


@pytest.mark.parametrize("batch", ["N", 1, 4])
def test_an_ir_3_file_is_loaded_twice_through_the_whole_path(tmp_path: Path, batch: int | str) -> None:
    path = dense(tmp_path / "m.onnx", batch=batch)
    for _ in range(2):
        with SyncInference.load(path, cache=tmp_path / "cache", max_batch=4) as model:
            assert model.batching.kind == "rows"
            assert [each.name for each in model.inputs] == ["x"]
            assert model.infer({"x": ROWS})["y"] == pytest.approx(expected(ROWS))


@pytest.mark.asyncio
async def test_an_ir_3_file_is_loaded_twice_for_asyncio(tmp_path: Path) -> None:
    path = dense(tmp_path / "m.onnx", batch=1)
    for _ in range(2):
        async with await EdgeInference.load(path, cache=tmp_path / "cache") as model:
            assert (await model.infer({"x": ROWS}))["y"] == pytest.approx(expected(ROWS))


def test_verdicts_and_freed_copies_are_bounded(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(graph_cache, "MOST_CACHED", 2)
    cache = tmp_path / "cache"
    for number in range(5):
        path = dense(tmp_path / f"{number}.onnx", batch=1, note=str(number))
        prepared = prepare(path, cache)
        assert prepared.batch == "freed"
        assert prepared.path.is_file(), "what was just made never goes"
        os.utime(prepared.path, (number, number))
        for verdict in cache.glob("*.prepared.json"):
            if verdict.stat().st_mtime > 1000:
                os.utime(verdict, (number, number))
    assert len(list(cache.glob("*.freed.onnx"))) == 2
    assert len(list(cache.glob("*.prepared.json"))) == 2
    assert not list(cache.glob(".*.tmp"))
    kept = {each.name.partition(".")[0] for each in cache.iterdir()}
    assert kept == {content_digest(tmp_path / f"{number}.onnx") for number in (3, 4)}
    first = prepare(tmp_path / "0.onnx", cache)
    assert (first.batch, first.path.is_file()) == ("freed", True), "what went is made again"


def test_a_verdict_without_its_copy_is_made_again(tmp_path: Path) -> None:
    path, cache = dense(tmp_path / "m.onnx", batch=1), tmp_path / "cache"
    first = prepare(path, cache)
    first.path.unlink()
    assert prepare(path, cache) == first
    assert open_session(first.path).run({"x": ROWS})["y"] == pytest.approx(expected(ROWS))


def test_the_oldest_of_one_kind_go_and_no_others(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(graph_cache, "MOST_CACHED", 3)
    for number in range(6):
        for kind in ("a", "b"):
            file = tmp_path / f"{number}.{kind}"
            file.write_bytes(b"")
            os.utime(file, (100 - number, 100 - number))
    let_go(tmp_path, "*.a")
    assert sorted(each.name for each in tmp_path.glob("*.a")) == ["0.a", "1.a", "2.a"]
    assert len(list(tmp_path.glob("*.b"))) == 6
    let_go(tmp_path / "nowhere", "*.a")


def test_a_kept_graph_that_is_used_stays(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(graph_cache, "MOST_CACHED", 2)
    files = [dense(tmp_path / f"{number}.onnx", 8, False, note=str(number)) for number in range(3)]
    cache = tmp_path / "cache"
    open_session(files[0], cache=cache)
    (first,) = cache.iterdir()
    os.utime(first, (1, 1))
    open_session(files[1], cache=cache)
    (second,) = set(cache.iterdir()) - {first}
    os.utime(second, (2, 2))
    open_session(files[0], cache=cache)
    open_session(files[2], cache=cache)
    assert first.is_file()
    assert not second.exists()


def test_content_not_name_is_what_a_cache_goes_by(tmp_path: Path) -> None:
    path, cache = dense(tmp_path / "m.onnx", 8, False), tmp_path / "cache"
    open_session(path, cache=cache)
    path.write_bytes(path.read_bytes().replace(b"Relu", b"Tanh"))
    assert open_session(path, cache=cache).run({"x": ROWS})["y"] == pytest.approx(np.tanh(ROWS @ WEIGHTS) + 1, abs=1e-5)
    assert len(list(cache.glob("*.opt.onnx"))) == 2


@pytest.mark.parametrize("batch", ["N", 1])
@pytest.mark.parametrize("location", ["w.bin", "deep/w.bin"])
def test_external_data_that_is_missing_is_one_sentence(tmp_path: Path, batch: int | str, location: str) -> None:
    path = outside(tmp_path / "m.onnx", location, batch)
    for load in (open_session, SyncInference.load):
        with pytest.raises(RejectedError, match=r"its external data .* is missing; put that file beside the model") as caught:
            load(path, cache=tmp_path / "cache")
        assert "\n" not in str(caught.value)
        assert str(caught.value).startswith(str(path))
        assert "w.bin" in str(caught.value)
    assert not list(tmp_path.glob("cache/*.onnx"))


def test_external_data_that_is_too_short_is_one_sentence(tmp_path: Path) -> None:
    path = outside(tmp_path / "m.onnx")
    (tmp_path / "w.bin").write_bytes(b"1234")
    told = "the model cannot be loaded: its external data is cut off: tensor w wants 12 bytes, the file has 4; copy that file again"
    with pytest.raises(RejectedError, match=told):
        SyncInference.load(path)


def test_external_data_that_changes_is_read_anew(tmp_path: Path) -> None:
    path = outside(tmp_path / "m.onnx", batch=1)
    for number in (1.0, 2.0):
        (tmp_path / "w.bin").write_bytes(np.full(3, number, np.float32).tobytes())
        with SyncInference.load(path, cache=tmp_path / "cache") as model:
            assert model.batching.kind == "rows"
            assert np.array_equal(model.infer({"x": ROWS})["y"], ROWS + np.float32(number))


def test_a_digest_is_of_the_content_and_of_nothing_else(tmp_path: Path) -> None:
    path = dense(tmp_path / "m.onnx")
    assert content_digest(path) == content_digest(path.read_bytes())
    assert content_digest(outside(tmp_path / "o.onnx")) is None
    (tmp_path / "empty.onnx").write_bytes(b"")
    with pytest.raises(ValueError, match="empty"):
        content_digest(tmp_path / "empty.onnx")
    with pytest.raises(FileNotFoundError):
        content_digest(tmp_path / "gone.onnx")


@pytest.mark.parametrize("place", [0, 5, _PIECE - 9, _PIECE - 5, _PIECE - 1, _PIECE, 2 * _PIECE - 3, 2 * _PIECE + 100])
def test_data_outside_is_seen_wherever_its_mark_lies(tmp_path: Path, place: int) -> None:
    """The file is looked through piece by piece, and the mark may lie across two of them."""
    content = bytearray(b"\x0a\x08" * (_PIECE + 100))
    (tmp_path / "inside").write_bytes(content)
    assert content_digest(tmp_path / "inside") == content_digest(bytes(content))
    content[place : place + len(_EXTERNAL)] = _EXTERNAL
    (tmp_path / "outside").write_bytes(content)
    assert content_digest(tmp_path / "outside") is None
    assert content_digest(bytes(content)) is None
