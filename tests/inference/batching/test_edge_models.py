"""`EdgeInference` on models of every kind: which share runs, which do not, and what happens around loading and unloading."""

import asyncio
import gc
import threading
from pathlib import Path

import numpy as np
import pytest
from onnx import TensorProto, helper, numpy_helper

from skerry import EdgeInference, MemoryPool
from skerry.core.errors import ConfigError, RejectedError, UnavailableError
from skerry.runtime import run_loop
from tests.fixtures.edge_models import FLOAT, INT64, STRING, MakeModel, heavy, ones, tripled


@pytest.mark.asyncio
async def test_no_rows_are_answered_with_no_rows(make_model: MakeModel) -> None:
    async with await EdgeInference.load(tripled(make_model)) as model:
        nothing, something = await asyncio.gather(model.infer(ones(0)), model.infer(ones(1)))
        assert nothing["y"].shape == (0, 3)
        assert something["y"].shape == (1, 3)


@pytest.mark.asyncio
async def test_a_model_whose_rows_depend_on_each_other_runs_each_request_whole(make_model: MakeModel) -> None:
    node = helper.make_node("Softmax", ["x"], ["y"], axis=0)
    async with await EdgeInference.load(make_model([node], [("y", FLOAT, ("N", 3))])) as model:
        assert model.batching.kind == "whole"
        assert "output 'y' of a row depends on the rows beside it" in str(model.batching)
        answers = await asyncio.gather(*(model.infer(ones(1, at)) for at in range(5)))
        assert all(each["y"].tolist() == [[1, 1, 1]] for each in answers)
        assert (await model.infer(ones(2)))["y"].tolist() == [[0.5] * 3] * 2


@pytest.mark.asyncio
async def test_a_model_without_a_batch_dimension(make_model: MakeModel) -> None:
    node = helper.make_node("ReduceSum", ["x"], ["y"], keepdims=0)
    async with await EdgeInference.load(make_model([node], [("y", FLOAT, ())])) as model:
        assert model.batching.kind == "whole"
        answers = await asyncio.gather(*(model.infer(ones(2, at)) for at in range(4)))
        assert [float(each["y"]) for each in answers] == [0, 6, 12, 18]


@pytest.mark.asyncio
async def test_words_are_batched_too(make_model: MakeModel) -> None:
    node = helper.make_node("LabelEncoder", ["x"], ["y"], domain="ai.onnx.ml", keys_strings=["a", "bb"], values_int64s=[1, 2])
    path = make_model([node], [("y", INT64, ("N", 1))], shape=("N", 1), dtype=STRING)
    async with await EdgeInference.load(path) as model:
        feeds = [{"x": np.array([[word]], object)} for word in ("a", "bb", "a")]
        answers = await asyncio.gather(*(model.infer(feed) for feed in feeds))
        assert [int(each["y"][0, 0]) for each in answers] == [1, 2, 1]
        assert model.stats.runs == 1


@pytest.mark.asyncio
async def test_optimize_measures_and_sets_the_batch(make_model: MakeModel) -> None:
    async with await EdgeInference.load(tripled(make_model), max_batch=1) as model:
        found = await model.optimize(ones(1))
        assert {1, 2, 4} <= set(found.seconds)
        assert found.max_batch == model.batching.max_batch > 1
        assert found.rows_per_second > 0
        await asyncio.gather(*(model.infer(ones(1)) for _ in range(found.max_batch)))
        assert model.stats.runs == 1
        with pytest.raises(RejectedError, match="one row or more"):
            await model.optimize(ones(0))


@pytest.mark.asyncio
async def test_unload_answers_who_waits_and_refuses_who_comes(make_model: MakeModel) -> None:
    model = await EdgeInference.load(heavy(make_model), max_batch=4)
    tasks = [asyncio.create_task(model.infer({"x": np.ones((4, 512), np.float32)})) for _ in range(5)]
    await asyncio.sleep(0)
    await model.unload()
    assert all(task.done() for task in tasks)
    assert [each["y"].shape for each in await asyncio.gather(*tasks)] == [(4, 512)] * 5
    for call in (model.infer({"x": np.ones((1, 512), np.float32)}), model.batch_infer([{"x": np.ones((1, 512), np.float32)}])):
        with pytest.raises(UnavailableError, match="is unloaded"):
            await call
    await model.unload()


@pytest.mark.asyncio
async def test_what_cannot_be_loaded_is_told_in_one_sentence(tmp_path: Path, make_model: MakeModel) -> None:
    with pytest.raises(RejectedError, match="does not exist"):
        await EdgeInference.load(tmp_path / "none.onnx")
    broken = tmp_path / "broken.onnx"
    broken.write_bytes(b"\xff" * 100)
    with pytest.raises(RejectedError) as caught:
        await EdgeInference.load(broken)
    assert "\n" not in str(caught.value)
    path = tripled(make_model)
    for most in (0, True, "many"):
        with pytest.raises(ConfigError, match="max_batch is"):
            await EdgeInference.load(path, max_batch=most)
    with pytest.raises(ConfigError, match="max_delay"):
        await EdgeInference.load(path, max_delay="soon")
    with pytest.raises(RejectedError, match="float64"):
        await EdgeInference.load(path, sample={"x": np.zeros((1, 3))})


@pytest.mark.asyncio
async def test_callers_of_all_kinds_at_once_get_what_is_theirs(make_model: MakeModel) -> None:
    async with await EdgeInference.load(tripled(make_model), max_batch=8, queue=500) as model:
        random = np.random.default_rng(5)

        async def call(at: int) -> None:
            for step in range(10):
                value = float(at * 100 + step)
                rows = int(random.integers(0, 12))
                if at % 4 == 0:
                    answers = await model.batch_infer([ones(1, value), ones(rows, value)])
                    assert all((each["y"] == 3 * value).all() for each in answers)
                elif at % 4 == 1:
                    total = [answer["y"] async for _, _, answer in model.stream(ones(rows + 1, value), chunk=3)]
                    assert (np.concatenate(total) == 3 * value).all()
                elif at % 4 == 2 and rows > 6:
                    task = asyncio.create_task(model.infer(ones(rows, value)))
                    await asyncio.sleep(0)
                    task.cancel()
                    with pytest.raises(asyncio.CancelledError):
                        await task
                else:
                    found = await model.infer(ones(rows, value))
                    assert found["y"].shape == (rows, 3)
                    assert (found["y"] == 3 * value).all()

        await asyncio.gather(*(call(at) for at in range(40)))
        assert (model.stats.waiting, model.stats.failed) == (0, 0)


@pytest.mark.asyncio
async def test_a_model_exported_with_a_batch_of_one_is_batched_all_the_same(make_model: MakeModel) -> None:
    three = numpy_helper.from_array(np.float32(3.0), "three")
    node = helper.make_node("Mul", ["x", "three"], ["y"])
    path = make_model([node], [("y", FLOAT, (1, 3))], shape=(1, 3), constants=[three])
    async with await EdgeInference.load(path) as model:
        assert model.batching.kind == "rows"
        answers = await asyncio.gather(*(model.infer(ones(1, at)) for at in range(6)))
        assert [each["y"].tolist() for each in answers] == [[[3.0 * at] * 3] for at in range(6)]
        assert model.stats.runs == 1


@pytest.mark.asyncio
async def test_a_batch_that_stays_one_runs_row_by_row_and_says_so(make_model: MakeModel) -> None:
    shapes = [numpy_helper.from_array(np.array(shape, np.int64), name) for name, shape in (("flat", [3]), ("back", [1, 3]))]
    nodes = [
        helper.make_node("Reshape", ["x", "flat"], ["f"]),
        helper.make_node("Softmax", ["f"], ["s"], axis=0),
        helper.make_node("Reshape", ["s", "back"], ["y"]),
    ]
    path = make_model(nodes, [("y", FLOAT, (1, 3))], shape=(1, 3), constants=shapes)
    async with await EdgeInference.load(path) as model:
        assert model.batching.kind == "ones"
        assert str(model.batching).startswith("rows run one by one: ")
        x = np.random.default_rng(2).normal(0, 1, (4, 3)).astype(np.float32)
        together = await model.infer({"x": x})
        each = await model.batch_infer([{"x": x[at : at + 1]} for at in range(4)])
        np.testing.assert_allclose(together["y"], np.concatenate([answer["y"] for answer in each]))
        with pytest.raises(RejectedError, match="0 rows: this model's batch is fixed at 1"):
            await model.infer(ones(0))
        parts = [answer["y"] async for _, _, answer in model.stream({"x": x})]
        np.testing.assert_allclose(np.concatenate(parts), together["y"])


@pytest.mark.asyncio
@pytest.mark.parametrize(
    "kind", [TensorProto.BOOL, TensorProto.INT8, TensorProto.FLOAT16, TensorProto.DOUBLE, TensorProto.BFLOAT16]
)
async def test_requests_of_any_dtype_share_runs_in_pooled_arrays(make_model: MakeModel, kind: int) -> None:
    path = make_model([helper.make_node("Identity", ["x"], ["y"])], [("y", kind, ("N", 3))], dtype=kind)
    async with await EdgeInference.load(path, max_batch=16, pool=MemoryPool(4096, 2)) as model:
        dtype = helper.tensor_dtype_to_np_dtype(kind)
        feeds = [{"x": np.full((1, 3), at % 2, np.float32).astype(dtype)} for at in range(8)]
        answers = await asyncio.gather(*(model.infer(feed) for feed in feeds))
        for feed, answer in zip(feeds, answers, strict=True):
            assert answer["y"].dtype == dtype
            assert np.array_equal(answer["y"], feed["x"])
        assert (model.stats.runs, model.stats.pool_misses, model.stats.split) == (1, 1, 0)


@pytest.mark.asyncio
async def test_an_answer_does_not_change_when_the_next_batch_is_assembled(make_model: MakeModel) -> None:
    path = make_model([helper.make_node("Identity", ["x"], ["y"])], [("y", FLOAT, ("N", 3))])
    async with await EdgeInference.load(path) as model:
        kept = await asyncio.gather(*(model.infer(ones(1, 1)) for _ in range(4)))
        await asyncio.gather(*(model.infer(ones(1, 2)) for _ in range(4)))
        assert all(each["y"].tolist() == [[1, 1, 1]] for each in kept)
        assert all(each["y"].base is None for each in kept)  # one answer does not hold the whole batch


@pytest.mark.asyncio
async def test_several_inputs_of_unequal_rows_run_alone(make_model: MakeModel) -> None:
    path = make_model([helper.make_node("Add", ["x", "z"], ["y"])], [("y", FLOAT, ("N", 3))], inputs=("x", "z"))
    async with await EdgeInference.load(path) as model:
        assert model.batching.kind == "rows"
        even = {"x": ones(2, 1)["x"], "z": ones(2, 5)["x"]}
        uneven = {"x": ones(2, 1)["x"], "z": ones(1, 9)["x"]}
        answers = await asyncio.gather(model.infer(even), model.infer(uneven), model.infer(even))
        assert [each["y"].tolist() for each in answers] == [[[6] * 3] * 2, [[10] * 3] * 2, [[6] * 3] * 2]
        assert model.stats.runs == 2


def needs_five(make_model: MakeModel) -> Path:
    """Its open width can only be 5, which the signature does not say."""
    weights = numpy_helper.from_array(np.ones((5, 2), np.float32), "w")
    node = helper.make_node("MatMul", ["x", "w"], ["y"])
    return make_model([node], [("y", FLOAT, ("N", 2))], shape=("N", "width"), constants=[weights])


@pytest.mark.asyncio
async def test_a_sample_shows_what_no_made_up_input_can(make_model: MakeModel) -> None:
    path, feed = needs_five(make_model), {"x": np.ones((1, 5), np.float32)}
    async with await EdgeInference.load(path) as model:
        assert model.batching.kind == "whole"
        assert "give a sample" in str(model.batching)
        answers = await asyncio.gather(*(model.infer(feed) for _ in range(4)))
        assert all(each["y"].tolist() == [[5, 5]] for each in answers)
        assert model.stats.runs == 4
    async with await EdgeInference.load(path, sample=feed) as model:
        assert model.batching.kind == "rows"
        await asyncio.gather(*(model.infer(feed) for _ in range(4)))
        assert model.stats.runs == 1
        with pytest.raises(RejectedError, match="run"):
            await model.infer({"x": np.ones((1, 4), np.float32)})


@pytest.mark.asyncio
async def test_an_output_whose_length_depends_on_the_values_is_not_cut_apart(make_model: MakeModel) -> None:
    node = helper.make_node("NonZero", ["x"], ["y"])
    async with await EdgeInference.load(make_model([node], [("y", INT64, (2, "found"))])) as model:
        assert model.batching.kind == "whole"
        one, other = await asyncio.gather(model.infer(ones(1, 1)), model.infer(ones(1, 0)))
        assert one["y"].shape == (2, 3)
        assert other["y"].shape == (2, 0)


@pytest.mark.asyncio
async def test_a_model_that_nobody_unloads_does_not_keep_its_thread(make_model: MakeModel) -> None:
    def threads() -> set[threading.Thread]:
        return {each for each in threading.enumerate() if each.name == "model forgotten"}

    model = await EdgeInference.load(heavy(make_model), name="forgotten", max_batch=8)
    await model.infer({"x": np.ones((8, 512), np.float32)})
    (thread,) = threads()
    del model
    gc.collect()
    await asyncio.to_thread(thread.join, 10)
    assert not threads()


def test_a_loop_may_end_while_the_thread_runs(make_model: MakeModel) -> None:
    path = heavy(make_model)

    async def main() -> None:
        model = await EdgeInference.load(path, max_batch=8)
        task = asyncio.create_task(model.infer({"x": np.ones((8, 512), np.float32)}))
        await asyncio.sleep(0)
        await asyncio.sleep(0)
        assert not task.done()

    asyncio.run(main())


@pytest.mark.asyncio
async def test_unload_may_be_awaited_by_several(make_model: MakeModel) -> None:
    model = await EdgeInference.load(heavy(make_model), max_batch=4)
    task = asyncio.create_task(model.infer({"x": np.ones((4, 512), np.float32)}))
    await asyncio.sleep(0)
    await asyncio.gather(model.unload(), model.unload(), model.unload())
    assert (await task)["y"].shape == (4, 512)


@pytest.mark.asyncio
async def test_on_the_loop_of_the_node_all_is_the_same(make_model: MakeModel) -> None:
    path = tripled(make_model)

    async def main() -> list[float]:
        async with await EdgeInference.load(path, max_batch=8) as model:
            answers = await asyncio.gather(*(model.infer(ones(1, at)) for at in range(40)))
            assert model.stats.runs <= 6
            return [float(each["y"][0, 0]) for each in answers]

    assert await asyncio.to_thread(run_loop, main()) == [3.0 * at for at in range(40)]


@pytest.mark.asyncio
async def test_what_scikit_learn_exports_is_batched(make_model: MakeModel, tmp_path: Path) -> None:
    sklearn = pytest.importorskip("sklearn.ensemble", reason="the extra `train` is not installed")
    skl2onnx = pytest.importorskip("skl2onnx", reason="the extra `train` is not installed")
    random = np.random.default_rng(4)
    x, y = random.normal(0, 1, (60, 4)).astype(np.float32), random.integers(0, 3, 60)
    forest = sklearn.RandomForestClassifier(5, random_state=1).fit(x, y)
    path = tmp_path / "forest.onnx"
    path.write_bytes(skl2onnx.to_onnx(forest, x[:1]).SerializeToString())
    # probabilities are a list of dicts (ZipMap); the best batch is not measured: on a busy machine it may be one row
    async with await EdgeInference.load(path, max_batch=64) as model:
        assert model.batching.kind == "rows"
        answers = await asyncio.gather(*(model.infer({model.inputs[0].name: x[at : at + 1]}) for at in range(60)))
        assert model.stats.runs <= 4
        labels = [int(each["output_label"][0]) for each in answers]
        assert labels == forest.predict(x).tolist()
        chances = [list(each["output_probability"][0].values()) for each in answers]
        np.testing.assert_allclose(chances, forest.predict_proba(x), atol=1e-5)


@pytest.mark.asyncio
async def test_unload_does_not_wait_for_a_delay(make_model: MakeModel) -> None:
    model = await EdgeInference.load(tripled(make_model), max_delay="1h")
    tasks = [asyncio.create_task(model.infer(ones(1, at))) for at in range(3)]
    for _ in range(4):
        await asyncio.sleep(0)
    assert model.stats.waiting == 3
    await model.unload()
    assert [task.result()["y"][0, 0] for task in tasks] == [0, 3, 6]
    assert model.stats.runs == 1
