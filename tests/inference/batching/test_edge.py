"""`EdgeInference` on real models: batched together, order kept, errors for those who made them."""

import asyncio
from typing import Any

import numpy as np
import pytest
from onnx import helper, numpy_helper

from skerry import EdgeInference, MemoryPool
from skerry.core.errors import OverloadedError, RejectedError
from tests.fixtures.edge_models import FLOAT, MakeModel, heavy, ones, picker, tripled


@pytest.mark.asyncio
async def test_an_answer_has_a_row_for_each_row(make_model: MakeModel) -> None:
    async with await EdgeInference.load(tripled(make_model), name="tripled", version="7") as model:
        assert (model.name, model.version, model.engine) == ("tripled", "7", "onnxruntime")
        assert [(each.name, each.dtype, each.shape) for each in model.inputs] == [("x", "float32", (None, 3))]
        assert [each.name for each in model.outputs] == ["y"]
        assert model.load_seconds > 0
        for rows in (1, 2, 5):
            answer = await model.infer(ones(rows, rows))
            assert answer["y"].tolist() == [[3.0 * rows] * 3] * rows


@pytest.mark.asyncio
async def test_the_name_is_that_of_the_file_and_bytes_will_do(make_model: MakeModel) -> None:
    path = tripled(make_model, metadata={"labels": "[]"})
    async with await EdgeInference.load(str(path)) as model:
        assert model.name == path.stem
        assert model.metadata == {"labels": "[]"}
    async with await EdgeInference.load(path.read_bytes()) as model:
        assert (await model.infer(ones(1)))["y"].tolist() == [[3, 3, 3]]


@pytest.mark.asyncio
async def test_concurrent_callers_share_runs_and_each_gets_its_own_rows(make_model: MakeModel) -> None:
    async with await EdgeInference.load(tripled(make_model), max_batch=16) as model:
        answers = await asyncio.gather(*(model.infer(ones(1 + at % 3, at)) for at in range(100)))
        for at, answer in enumerate(answers):
            assert answer["y"].tolist() == [[3.0 * at] * 3] * (1 + at % 3)
        found = model.stats
        assert found.requests == 100
        assert found.rows == sum(1 + at % 3 for at in range(100))
        assert found.runs <= 20
        assert found.rows_per_run > 8
        assert found.waiting == 0


@pytest.mark.asyncio
async def test_with_a_pool_the_steady_state_takes_all_arrays_from_it(make_model: MakeModel) -> None:
    for pool, counts in ((MemoryPool(4096, 2), (1, 49, 0)), (None, (0, 0, 50))):
        async with await EdgeInference.load(tripled(make_model), max_batch=64, pool=pool) as model:
            for _ in range(50):
                await asyncio.gather(*(model.infer(ones(1)) for _ in range(40)))
            found = model.stats
            assert (found.pool_misses, found.pool_hits, found.allocated) == counts


@pytest.mark.asyncio
async def test_a_pool_of_the_caller_is_used_and_what_does_not_fit_is_counted(make_model: MakeModel) -> None:
    pool = MemoryPool(block_size=256, max_blocks=2)
    async with await EdgeInference.load(tripled(make_model), max_batch=64, pool=pool) as model:
        await asyncio.gather(*(model.infer(ones(1)) for _ in range(10)))
        assert pool.misses == 1
        assert model.stats.allocated == 0
        await asyncio.gather(*(model.infer(ones(1)) for _ in range(40)))
        assert model.stats.allocated == 1
        assert pool.in_use == 0


@pytest.mark.asyncio
async def test_one_caller_runs_alone_and_at_once(make_model: MakeModel) -> None:
    async with await EdgeInference.load(tripled(make_model)) as model:
        for at in range(20):
            await model.infer(ones(1, at))
        found = model.stats
        assert (found.runs, found.inline, found.threaded, found.pool_misses) == (20, 20, 0, 0)


@pytest.mark.asyncio
async def test_a_caller_without_a_pause_leaves_turns_to_others(make_model: MakeModel) -> None:
    async with await EdgeInference.load(tripled(make_model)) as model:
        turns = 0

        async def count() -> None:
            nonlocal turns
            while True:
                turns += 1
                await asyncio.sleep(0)

        task = asyncio.create_task(count())
        for _ in range(50):
            await model.infer(ones(1))
        task.cancel()
        assert turns >= 49


@pytest.mark.asyncio
async def test_a_slow_model_runs_in_a_thread_and_the_loop_goes_on(make_model: MakeModel) -> None:
    async with await EdgeInference.load(heavy(make_model), max_batch=32) as model:
        feed = {"x": np.random.default_rng(0).normal(0, 1, (32, 512)).astype(np.float32)}
        turns = 0
        task = asyncio.create_task(model.infer(feed))
        while not task.done():
            turns += 1
            await asyncio.sleep(0)
        assert turns > 2
        assert model.stats.threaded == 1
        alone = await model.infer({"x": feed["x"][:1]})
        np.testing.assert_allclose(task.result()["y"][:1], alone["y"], rtol=1e-3, atol=1e-4)
        answers = await asyncio.gather(*(model.infer({"x": feed["x"][at : at + 1]}) for at in range(32) for _ in range(3)))
        for at, answer in enumerate(answers):
            np.testing.assert_allclose(answer["y"], task.result()["y"][at // 3 : at // 3 + 1], rtol=1e-3, atol=1e-4)
        assert model.stats.runs < 40


@pytest.mark.asyncio
async def test_an_input_that_fails_when_it_runs_fails_alone(make_model: MakeModel) -> None:
    async with await EdgeInference.load(picker(make_model)) as model:
        assert model.batching.kind == "rows"
        indices = [1, 2, 99, 3]
        answers = await asyncio.gather(*(model.infer({"x": np.array([[at]], np.int64)}) for at in indices), return_exceptions=True)
        assert isinstance(answers[2], RejectedError)
        assert "\n" not in str(answers[2])
        assert [float(answers[at]["y"][0, 0]) for at in (0, 1, 3)] == [1.5, 3.0, 4.5]
        assert model.stats.split == 1


@pytest.mark.asyncio
@pytest.mark.parametrize(
    ("feed", "told"),
    [
        ({}, "x"),
        ({"z": np.zeros((1, 3), np.float32)}, "z"),
        ({"x": np.zeros((1, 3), np.float64)}, "float64"),
        ({"x": np.zeros((1, 4), np.float32)}, "4"),
        ({"x": np.zeros(3, np.float32)}, "3"),
        ({"x": [[1.0, 2.0, 3.0]]}, "x"),
    ],
)
async def test_a_feed_that_does_not_fit_is_refused_before_it_runs(make_model: MakeModel, feed: Any, told: str) -> None:
    async with await EdgeInference.load(tripled(make_model)) as model:
        bad, good = await asyncio.gather(model.infer(feed), model.infer(ones(1)), return_exceptions=True)
        assert isinstance(bad, RejectedError)
        assert told in str(bad)
        assert isinstance(good, dict)
        assert model.stats.failed == 0


@pytest.mark.asyncio
async def test_outputs_that_are_asked_for(make_model: MakeModel) -> None:
    nodes = [helper.make_node("Neg", ["x"], ["minus"]), helper.make_node("Abs", ["x"], ["size"])]
    path = make_model(nodes, [("minus", FLOAT, ("N", 3)), ("size", FLOAT, ("N", 3))])
    async with await EdgeInference.load(path) as model:
        one, other, both = await asyncio.gather(
            model.infer(ones(1), ["minus"]), model.infer(ones(1, -2), ["size"]), model.infer(ones(1))
        )
        assert {name: value.tolist() for name, value in one.items()} == {"minus": [[-1, -1, -1]]}
        assert {name: value.tolist() for name, value in other.items()} == {"size": [[2, 2, 2]]}
        assert set(both) == {"minus", "size"}
        with pytest.raises(RejectedError, match="no output 'plus'; outputs: minus, size"):
            await model.infer(ones(1), ["plus"])


@pytest.mark.asyncio
async def test_a_full_queue_refuses_and_the_others_are_answered(make_model: MakeModel) -> None:
    async with await EdgeInference.load(tripled(make_model), queue=5) as model:
        answers = await asyncio.gather(*(model.infer(ones(1)) for _ in range(8)), return_exceptions=True)
        assert sum(isinstance(each, OverloadedError) for each in answers) == 3
        assert sum(isinstance(each, dict) for each in answers) == 5
        assert model.stats.refused == 3
        assert (await model.infer(ones(1)))["y"].shape == (1, 3)


@pytest.mark.asyncio
async def test_a_cancelled_caller_costs_nothing(make_model: MakeModel) -> None:
    async with await EdgeInference.load(tripled(make_model)) as model:
        tasks = [asyncio.create_task(model.infer(ones(1, at))) for at in range(6)]
        await asyncio.sleep(0)
        for at in (0, 3):  # the first leads the batch
            tasks[at].cancel()
        answers = await asyncio.gather(*tasks, return_exceptions=True)
        assert [isinstance(each, asyncio.CancelledError) for each in answers] == [True, False, False, True, False, False]
        assert [each["y"][0, 0] for each in answers if isinstance(each, dict)] == [3, 6, 12, 15]
        assert model.stats.rows == 4
        assert model.stats.cancelled == 2


@pytest.mark.asyncio
async def test_a_lone_caller_that_is_cancelled_leaves_an_idle_model(make_model: MakeModel) -> None:
    async with await EdgeInference.load(tripled(make_model)) as model:
        task = asyncio.create_task(model.infer(ones(1)))
        await asyncio.sleep(0)
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task
        assert (model.stats.runs, model.stats.cancelled) == (0, 1)
        assert (await model.infer(ones(2)))["y"].shape == (2, 3)


@pytest.mark.asyncio
async def test_callers_cancelled_while_the_thread_runs(make_model: MakeModel) -> None:
    async with await EdgeInference.load(heavy(make_model), max_batch=4) as model:
        feed = {"x": np.ones((4, 512), np.float32)}
        tasks = [asyncio.create_task(model.infer(feed)) for _ in range(6)]
        await asyncio.sleep(0)
        await asyncio.sleep(0)
        for task in tasks[::2]:
            task.cancel()
        answers = await asyncio.gather(*tasks, return_exceptions=True)
        assert [isinstance(each, dict) for each in answers] == [False, True] * 3
        assert model.stats.waiting == 0


@pytest.mark.asyncio
async def test_a_delay_gathers_callers_that_come_one_after_the_other(make_model: MakeModel) -> None:
    async with await EdgeInference.load(tripled(make_model), max_batch=3, max_delay="10s") as model:
        tasks = []
        for at in range(3):
            tasks.append(asyncio.create_task(model.infer(ones(1, at))))
            for _ in range(3):
                await asyncio.sleep(0)
        answers = await asyncio.gather(*tasks)  # full: it does not wait for the ten seconds
        assert [each["y"][0, 0] for each in answers] == [0, 3, 6]
        assert model.stats.runs == 1
    async with await EdgeInference.load(tripled(make_model), max_delay="5ms") as model:
        assert (await model.infer(ones(1)))["y"][0, 0] == 3


@pytest.mark.asyncio
async def test_batch_infer_is_one_run_in_order(make_model: MakeModel) -> None:
    async with await EdgeInference.load(tripled(make_model), max_batch=64) as model:
        answers = await model.batch_infer([ones(1 + at % 2, at) for at in range(10)])
        assert [each["y"].shape[0] for each in answers] == [1, 2] * 5
        assert [each["y"][0, 0] for each in answers] == [3 * at for at in range(10)]
        assert (model.stats.runs, model.stats.requests) == (1, 10)
        assert await model.batch_infer([]) == []
        await model.batch_infer([ones(40), ones(40)])
        assert model.stats.runs == 3


@pytest.mark.asyncio
async def test_batch_infer_names_the_feed_that_is_wrong(make_model: MakeModel) -> None:
    async with await EdgeInference.load(picker(make_model)) as model:
        good, bad = {"x": np.array([[1]], np.int64)}, {"x": np.array([[50]], np.int64)}
        with pytest.raises(RejectedError, match="feed 1"):
            await model.batch_infer([good, {"x": np.zeros((1, 1), np.float32)}])
        with pytest.raises(RejectedError, match="feed 2"):
            await model.batch_infer([good, good, bad])
        assert [each["y"].tolist() for each in await model.batch_infer([good, good], ["y"])] == [[[1.5]], [[1.5]]]


@pytest.mark.asyncio
async def test_rows_of_different_shapes_share_no_run(make_model: MakeModel) -> None:
    node = helper.make_node("ReduceSum", ["x"], ["y"], keepdims=1)
    axes = numpy_helper.from_array(np.array([1], np.int64), "axes")
    node.input.append("axes")
    path = make_model([node], [("y", FLOAT, ("N", 1))], shape=("N", "width"), constants=[axes])
    async with await EdgeInference.load(path) as model:
        assert model.batching.kind == "rows"
        feeds = [{"x": np.ones((1, 2 + at % 3), np.float32)} for at in range(12)]
        answers = await asyncio.gather(*(model.infer(feed) for feed in feeds))
        assert [each["y"][0, 0] for each in answers] == [2 + at % 3 for at in range(12)]
        assert model.stats.runs == 3
        assert [each["y"][0, 0] for each in await model.batch_infer(feeds)] == [2 + at % 3 for at in range(12)]


@pytest.mark.asyncio
async def test_more_rows_than_a_batch_run_in_ranges(make_model: MakeModel) -> None:
    async with await EdgeInference.load(tripled(make_model), max_batch=8) as model:
        x = np.arange(90, dtype=np.float32).reshape(30, 3)
        assert (await model.infer({"x": x}))["y"].tolist() == (3 * x).tolist()
        assert model.stats.runs == 4


@pytest.mark.asyncio
async def test_a_stream_gives_ranges_in_order_without_copies(make_model: MakeModel) -> None:
    async with await EdgeInference.load(tripled(make_model), max_batch=8) as model:
        x = np.arange(90, dtype=np.float32).reshape(30, 3)
        found = [(first, end, answer["y"]) async for first, end, answer in model.stream({"x": x})]
        assert [(first, end) for first, end, _ in found] == [(0, 8), (8, 16), (16, 24), (24, 30)]
        assert np.concatenate([y for _, _, y in found]).tolist() == (3 * x).tolist()
        assert (model.stats.pool_misses, model.stats.allocated) == (0, 0)
        ends = [end async for _, end, _ in model.stream({"x": x}, chunk=20)]
        assert ends == [20, 30]


@pytest.mark.asyncio
async def test_a_stream_that_is_left_leaves_nothing_behind(make_model: MakeModel) -> None:
    async with await EdgeInference.load(tripled(make_model), max_batch=2) as model:
        stream = model.stream(ones(100))
        async for first, _, _ in stream:
            if first >= 10:
                break
        await stream.aclose()
        assert model.stats.waiting == 0
        assert model.stats.rows < 40
