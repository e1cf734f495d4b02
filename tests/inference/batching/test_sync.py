"""`SyncInference` answers as `EdgeInference` does, in the thread that calls."""

import asyncio
import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from onnx import TensorProto, helper, numpy_helper

from skerry import EdgeInference, SyncInference
from skerry.core.errors import RejectedError, UnavailableError

MakeModel = Callable[..., Path]
FLOAT = TensorProto.FLOAT


def network(make_model: MakeModel, **more: Any) -> Path:
    matrix = numpy_helper.from_array(np.random.default_rng(3).normal(0, 1, (3, 2)).astype(np.float32), "w")
    nodes = [helper.make_node("MatMul", ["x", "w"], ["sum"]), helper.make_node("Tanh", ["sum"], ["y"])]
    return make_model(nodes, [("y", FLOAT, ("N", 2))], constants=[matrix], **more)


def rows(count: int) -> dict[str, Any]:
    return {"x": np.random.default_rng(count).normal(0, 1, (count, 3)).astype(np.float32)}


@pytest.mark.asyncio
async def test_both_twins_answer_the_same(make_model: MakeModel) -> None:
    path = network(make_model, metadata={"by": "hand"})
    feeds = [rows(count) for count in (1, 3, 20)]
    with SyncInference.load(path, max_batch=8) as twin:
        async with await EdgeInference.load(path, max_batch=8) as model:
            assert (twin.name, twin.metadata) == (model.name, model.metadata)
            assert (twin.inputs, twin.outputs) == (model.inputs, model.outputs)
            assert (twin.batching, twin.engine) == (model.batching, model.engine)
            for feed in feeds:
                one, other = twin.infer(feed), await model.infer(feed)
                np.testing.assert_allclose(one["y"], other["y"], atol=1e-6)
            for mine, theirs in zip(twin.batch_infer(feeds), await model.batch_infer(feeds), strict=True):
                np.testing.assert_allclose(mine["y"], theirs["y"], atol=1e-6)


def test_a_stream_is_the_whole_in_ranges(make_model: MakeModel) -> None:
    with SyncInference.load(network(make_model), max_batch=8) as model:
        feed = rows(21)
        parts = list(model.stream(feed))
        assert [(first, end) for first, end, _ in parts] == [(0, 8), (8, 16), (16, 21)]
        np.testing.assert_allclose(np.concatenate([answer["y"] for _, _, answer in parts]), model.infer(feed)["y"], atol=1e-6)
        assert [end for _, end, _ in model.stream(feed, chunk=21)] == [21]


def test_batch_infer_keeps_order_and_names_the_wrong_feed(make_model: MakeModel) -> None:
    with SyncInference.load(network(make_model), max_batch=64) as model:
        feeds = [rows(count) for count in (2, 1, 3)]
        assert [len(each["y"]) for each in model.batch_infer(feeds, ["y"])] == [2, 1, 3]
        assert model.stats.runs == 1
        assert model.stats.requests == 3
        with pytest.raises(RejectedError, match="feed 1"):
            model.batch_infer([rows(1), {"x": np.zeros((1, 3))}])
        with pytest.raises(RejectedError, match="no output 'z'; outputs: y"):
            model.infer(rows(1), ["z"])


def test_no_rows(make_model: MakeModel) -> None:
    with SyncInference.load(network(make_model)) as model:
        assert model.infer(rows(0))["y"].shape == (0, 2)
        assert model.batch_infer([]) == []


def test_threads_share_a_model(make_model: MakeModel) -> None:
    with SyncInference.load(network(make_model)) as model:
        wrong = []

        def work(seed: int) -> None:
            feed = rows(seed)
            expected = model.infer(feed)["y"]
            answers = [model.infer(feed)["y"] for _ in range(50)]
            wrong.extend(seed for answer in answers if not np.allclose(answer, expected, atol=1e-6))

        threads = [threading.Thread(target=work, args=(seed,)) for seed in range(1, 5)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        assert wrong == []
        assert model.stats.runs == 4 * 51


def test_optimize_and_unload(make_model: MakeModel) -> None:
    model = SyncInference.load(network(make_model), max_batch=1)
    assert model.optimize().max_batch == model.batching.max_batch > 1
    model.unload()
    model.unload()
    for call in (model.infer, lambda feed: model.batch_infer([feed]), lambda feed: list(model.stream(feed))):
        with pytest.raises(UnavailableError, match="is unloaded"):
            call(rows(1))


def test_a_missing_file(tmp_path: Path) -> None:
    with pytest.raises(RejectedError, match="does not exist"):
        SyncInference.load(tmp_path / "no.onnx")


def test_it_runs_inside_a_loop_too(make_model: MakeModel) -> None:
    async def main() -> float:
        with SyncInference.load(network(make_model)) as model:
            return float(model.infer(rows(1))["y"].sum())

    assert np.isfinite(asyncio.run(main()))
