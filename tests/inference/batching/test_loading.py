"""From a file to a model that is ready: what is measured, what it says of itself, what is counted, and what is refused."""

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from onnx import helper, numpy_helper

from skerry.core.clock import Clock, ManualClock, SystemClock
from skerry.core.errors import ConfigError, RejectedError, UnavailableError
from skerry.inference.batching.loading import Batching, Loaded, Stats, load
from skerry.inference.batching.runs import FEW_SIZES, SIZES
from skerry.inference.batching.sync import SyncInference
from skerry.inference.engine.seam import EngineOptions
from skerry.runtime import MemoryPool
from tests.fixtures.edge_models import ones, picker, tripled
from tests.inference.conftest import FLOAT, MakeModel

few = settings(max_examples=30, deadline=None)

node = helper.make_node


def plain(source: Any, **more: Any) -> Loaded:
    return load(source, **{"options": EngineOptions(), "max_batch": 4, **more})


def test_a_path_a_text_and_bytes_are_the_same_model(make_model: MakeModel) -> None:
    path = tripled(make_model)
    for source, name in ((path, path.stem), (str(path), path.stem), (path.read_bytes(), "model")):
        loaded = plain(source)
        assert (loaded.name, loaded.version) == (name, "")
        assert loaded.runner.session.run(ones(2))["y"].tolist() == [[3, 3, 3]] * 2
        loaded.runner.session.close()
    named = plain(path, name="pump", version="7")
    assert (named.name, named.version) == ("pump", "7")


def rows(make: MakeModel) -> Path:
    return tripled(make)


def rows_once_fixed(make: MakeModel) -> Path:
    return make([node("Relu", ["x"], ["y"])], [("y", FLOAT, (1, 3))], shape=(1, 3))


def one_by_one(make: MakeModel) -> Path:
    """Its softmax goes over whatever there is, so that the batch cannot be freed."""
    flat, back = numpy_helper.from_array(np.array([3]), "flat"), numpy_helper.from_array(np.array([1, 3]), "back")
    nodes = [node("Reshape", ["x", "flat"], ["f"]), node("Softmax", ["f"], ["s"], axis=0), node("Reshape", ["s", "back"], ["y"])]
    return make(nodes, [("y", FLOAT, (1, 3))], shape=(1, 3), constants=[flat, back])


def depends(make: MakeModel) -> Path:
    return make([node("Softmax", ["x"], ["y"], axis=0)], [("y", FLOAT, ("N", 3))])


def no_batch(make: MakeModel) -> Path:
    return make([node("Abs", ["x"], ["y"])], [("y", FLOAT, ())], shape=())


def fewer_rows(make: MakeModel) -> Path:
    return make([node("ReduceMean", ["x"], ["y"])], [("y", FLOAT, (1, 1))])


@pytest.mark.parametrize(
    ("make", "kind", "told"),
    [
        (rows, "rows", "up to 4 rows a run"),
        (rows_once_fixed, "rows", "up to 4 rows a run: fixed batch made symbolic, verified with 2 and 3 rows"),
        (one_by_one, "ones", "rows run one by one: "),
        (depends, "whole", "each request is a run: output 'y' of a row depends on the rows beside it"),
        (no_batch, "whole", "each request is a run: input 'x' has no dimensions"),
        (fewer_rows, "whole", "each request is a run: output 'y' has not one row for each row of the input"),
    ],
)
def test_how_it_runs_and_why_is_told(make_model: MakeModel, make: Callable[[MakeModel], Path], kind: str, told: str) -> None:
    with SyncInference.load(make(make_model), max_batch=4) as model:
        assert model.batching.kind == kind
        assert str(model.batching).startswith(told)
        assert model.batching.max_batch == (4 if kind == "rows" else 1)
        feed = {"x": np.full(() if make is no_batch else (1, 3), 0.5, np.float32)}
        assert np.isfinite(model.infer(feed)["y"]).all()


def test_bytes_of_a_fixed_batch_are_freed_too(make_model: MakeModel, tmp_path: Path) -> None:
    content = rows_once_fixed(make_model).read_bytes()
    for cache in (None, tmp_path / "cache", tmp_path / "cache"):
        with SyncInference.load(content, cache=cache) as model:
            assert model.batching.kind == "rows"
            assert model.infer(ones(5, -1))["y"].tolist() == [[0, 0, 0]] * 5


def test_auto_measures_some_sizes_and_takes_one_of_them(make_model: MakeModel) -> None:
    loaded = plain(tripled(make_model), max_batch="auto")
    assert loaded.batching.max_batch in FEW_SIZES
    found = loaded.optimize(None)
    assert found.max_batch == loaded.batching.max_batch
    assert found.max_batch in found.seconds
    assert list(found.seconds) == list(SIZES[: len(found.seconds)])
    assert found.rows_per_second == pytest.approx(found.max_batch / found.seconds[found.max_batch])


def test_measuring_costs_no_requests(make_model: MakeModel) -> None:
    loaded = plain(tripled(make_model), max_batch="auto")
    stats = loaded.stats()
    assert (stats.requests, stats.runs, stats.rows, stats.failed, stats.rows_per_run) == (0, 0, 0, 0, 0.0)


def test_the_time_of_loading_is_the_clocks(make_model: MakeModel) -> None:
    class Ticking(ManualClock):
        def monotonic(self) -> float:
            self.turns = getattr(self, "turns", 0) + 1
            return float(self.turns)

    clock: Clock = Ticking(0)
    loaded = plain(tripled(make_model), clock=clock)
    assert loaded.load_seconds == clock.monotonic() - 2
    assert plain(tripled(make_model), clock=SystemClock()).load_seconds > 0


@pytest.mark.parametrize("value", [0, -1, True, 2.5, "best", None])
def test_a_max_batch_that_is_none_is_refused_before_the_file_is_looked_at(tmp_path: Path, value: Any) -> None:
    with pytest.raises(ConfigError, match='allowed: "auto", or 1 or more') as caught:
        plain(tmp_path / "gone.onnx", max_batch=value)
    assert caught.value.where == "max_batch"


def test_a_file_that_is_not_there_is_told(tmp_path: Path) -> None:
    with pytest.raises(RejectedError, match="the model file does not exist; mend the path"):
        plain(tmp_path / "gone.onnx")
    with pytest.raises(RejectedError, match="this is no ONNX file"):
        plain(b"no model")


@pytest.mark.parametrize(
    ("sample", "told"),
    [
        ({"x": np.zeros((2, 3))}, "expected dtype float32"),
        ({"x": np.zeros((2, 4), np.float32)}, "expected shape"),
        ({"y": np.zeros((2, 3), np.float32)}, "input 'x' is missing"),
        ({"x": [[1, 2, 3]]}, "expected a numpy array"),
    ],
)
def test_a_sample_that_does_not_fit_is_refused(make_model: MakeModel, sample: Any, told: str) -> None:
    with pytest.raises(RejectedError, match=told):
        plain(tripled(make_model), sample=sample)


def test_a_sample_of_no_rows_cannot_be_measured_with(make_model: MakeModel) -> None:
    loaded = plain(tripled(make_model))
    with pytest.raises(RejectedError, match="a sample needs one row or more"):
        loaded.optimize(ones(0))
    assert loaded.optimize(ones(2, 5)).max_batch >= 1
    assert loaded.feed is not None
    assert loaded.feed["x"].tolist() == [[5, 5, 5]], "one row is kept for the next time"


def test_what_it_says_of_itself(make_model: MakeModel) -> None:
    path = tripled(make_model, metadata={"labels": '["a"]'})
    with SyncInference.load(path, max_batch=4) as model:
        assert (model.engine, model.metadata) == ("onnxruntime", {"labels": '["a"]'})
        assert [str(each) for each in model.inputs] == ["float32 [N, 3]"]
        assert [each.name for each in model.outputs] == ["y"]
        model.inputs.clear()
        model.metadata.clear()
        assert model.inputs
        assert model.metadata, "what is handed out is a copy"
    with pytest.raises(UnavailableError):
        model.infer(ones(1))


def test_a_pool_of_the_caller_is_filled_and_given_back(make_model: MakeModel) -> None:
    pool = MemoryPool(4096, 2)
    with SyncInference.load(tripled(make_model), max_batch=8, pool=pool) as model:
        answers = model.batch_infer([ones(1, at) for at in range(8)])
        assert [float(answer["y"][0, 0]) for answer in answers] == [3.0 * at for at in range(8)]
        assert (model.stats.runs, model.stats.pool_misses, model.stats.allocated) == (1, 1, 0)
    assert pool.in_use == 0


def test_what_fails_is_counted_and_the_others_are_answered(make_model: MakeModel) -> None:
    with SyncInference.load(picker(make_model), max_batch=8) as model:
        feeds = [{"x": np.array([[at]], np.int64)} for at in (1, 99, 2)]
        with pytest.raises(RejectedError, match=r"^feed 1: "):
            model.batch_infer(feeds)
        stats = model.stats
        assert (stats.requests, stats.split, stats.failed, stats.runs, stats.rows) == (3, 1, 2, 2, 2)
        assert model.infer(feeds[2])["y"].tolist() == [[3.0]]


@few
@given(st.sampled_from(["rows", "ones", "whole"]), st.integers(1, 999), st.text(max_size=5))
def test_batching_is_told_with_its_reason_or_without(kind: str, most: int, reason: str) -> None:
    told = str(Batching(kind, most, reason))
    assert told.endswith(f": {reason}") if reason else ": " not in told
    assert (str(most) in told) or kind != "rows"


@few
@given(st.integers(0, 50), st.integers(0, 50))
def test_rows_of_a_run_on_average(runs: int, rows_: int) -> None:
    zero: dict[str, Any] = dict.fromkeys(Stats.__struct_fields__, 0)
    assert Stats(**{**zero, "runs": runs, "rows": rows_}).rows_per_run == (rows_ / runs if runs else 0.0)


@pytest.mark.parametrize("sizes", [(1,), (3, 1), (2, 5, 9), (16,)])
def test_any_number_of_rows_is_answered_row_by_row(make_model: MakeModel, sizes: Sequence[int]) -> None:
    with SyncInference.load(tripled(make_model), max_batch=4) as model:
        for size in sizes:
            found = model.infer({"x": np.arange(size * 3, dtype=np.float32).reshape(size, 3)})["y"]
            assert found.tolist() == (3 * np.arange(size * 3).reshape(size, 3)).tolist()
