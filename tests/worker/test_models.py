"""Versions in a worker: a swap loses, doubles and reorders nothing; one that is no good is not taken; shadows are compared."""

import asyncio
import json
from collections.abc import AsyncIterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import msgspec
import numpy as np
import pytest
import pytest_asyncio

from skerry.broker import WireClient
from skerry.core.errors import RejectedError
from skerry.inference import load_model
from skerry.pipeline import begin_checkpoints
from skerry.worker import ModelReport
from skerry.worker.live import SHADOW_QUEUE, LiveModel, Shadow
from skerry.worker.models import try_beside
from skerry.worker.protocol import Command
from tests.fixtures import models
from tests.fixtures.frames import spec_of
from tests.fixtures.nats import NatsServer, until
from tests.worker.test_engine import Running, all_events, balanced, store, table

ROWS = np.array([[1.0, 2.0], [3.0, 4.0], [5.0, 6.0]])
TWO = spec_of(features=["mean", "max"], window={"kind": "count", "size": 4}, model="m")


@pytest_asyncio.fixture
async def client(server: NatsServer) -> AsyncIterator[WireClient]:
    found = await server.prepared()
    await begin_checkpoints(found, ["p"], 1, 0)
    yield found
    found.close()
    await found.closed


@pytest.fixture
def files(tmp_path: Path) -> dict[str, Path]:
    """Version by file name: 1 and 2 add, the others are no good."""
    return {
        "v1": models.adding(tmp_path / "1.onnx", 100),
        "v2": models.adding(tmp_path / "2.onnx", 200),
        "vnan": models.nan(tmp_path / "nan.onnx"),
        "vfails": models.failing(tmp_path / "fails.onnx"),
        "vslow": models.slow(tmp_path / "slow.onnx"),
        "vwide": models.adding(tmp_path / "wide.onnx", 1, width=5),
    }


def command(epoch: int, active: str, files: dict[str, Path], shadow: str = "") -> Command:
    return Command("models", models=models.tables(active, **files), shadows={"m": shadow} if shadow else {}, epoch=epoch)


def did(running: Running, version: str) -> ModelReport | None:
    return next((each for each in running.report().models if each.version == version), None)


@pytest.mark.asyncio
async def test_swaps_under_load_lose_double_and_reorder_nothing(
    server: NatsServer, client: WireClient, tmp_path: Path, files: dict[str, Path]
) -> None:
    await store(client, 0, 30)
    async with Running(server, tmp_path, table(model="m"), models=models.tables("1", **files)) as running:
        await until(lambda: running.received == 30)
        for turn in range(1, 9):
            loading = asyncio.create_task(store(client, 30 * turn, 30 * turn + 30))
            await running.engine.change_models(command(turn, "2" if turn % 2 else "1", files))
            assert running.report().version == ("2" if turn % 2 else "1")
            await loading
        await until(lambda: running.received == 270)
        await until(lambda: running.report().books["open"] == 0 and running.report().unacknowledged == 0)
        report = running.report()
        assert balanced(report)
        assert report.books["dead_letters"] == {}
        assert report.infer_rows >= report.windows > 60
    events = await all_events(client)
    assert sum(event["count"] for event in events) == 270
    assert {event["version"] for event in events} == {"1", "2"}
    for event in events:  # the answer is that of the version that the event names
        assert event["score"] - event["features"]["x_count"] == 100 * int(event["version"])
    for key in ("d0", "d1", "d2"):
        starts = [event["start"] for event in events if event["key"] == key]
        assert starts == sorted(starts)


@pytest.mark.asyncio
async def test_one_swap_is_a_cut_in_the_log_of_events(
    server: NatsServer, client: WireClient, tmp_path: Path, files: dict[str, Path]
) -> None:
    await store(client, 0, 60)
    async with Running(server, tmp_path, table(model="m@active"), models=models.tables("1", **files)) as running:
        await until(lambda: running.received == 60)
        await running.engine.change_models(command(1, "2", files))
        await store(client, 60, 120)
        await until(lambda: running.received == 120 and running.report().books["open"] == 0)
        await until(lambda: running.report().unacknowledged == 0)
        old, new = did(running, "1"), did(running, "2")
        assert old is not None
        assert new is not None
        assert old.rows + new.rows == running.report().windows
        assert (old.epoch, new.epoch, new.errors, new.nan, new.failure) == (0, 1, 0, 0, "")
        assert new.load_seconds > 0
    versions = [event["version"] for event in await all_events(client)]
    assert versions == sorted(versions)
    assert set(versions) == {"1", "2"}


@pytest.mark.asyncio
@pytest.mark.parametrize(
    ("version", "reason"),
    [
        ("nan", "scores are not a number, on the rows that m@1 scored"),
        ("fails", "did not run on input"),
        ("slow", "times the version before, allowed are 3 times"),
        ("wide", "takes 5 features a row"),
        ("gone", "gone.onnx"),
    ],
)
async def test_a_version_that_is_no_good_is_not_taken_and_says_why(
    server: NatsServer, client: WireClient, tmp_path: Path, files: dict[str, Path], version: str, reason: str
) -> None:
    files["vgone"] = tmp_path / "gone.onnx"
    await store(client, 0, 60)
    async with Running(server, tmp_path, table(model="m"), models=models.tables("1", **files)) as running:
        await until(lambda: running.received == 60 and running.report().windows > 0)
        await running.engine.change_models(command(1, version, files))
        refused = did(running, version)
        assert refused is not None
        assert reason in refused.failure
        assert refused.epoch == 1
        assert running.report().version == "1"
        await store(client, 60, 70)
        await until(lambda: running.received == 70)
        await running.engine.change_models(command(2, "2", files))
        assert running.report().version == "2"
    assert {event["version"] for event in await all_events(client)} <= {"1", "2"}


@pytest.mark.asyncio
async def test_a_pipeline_that_failed_over_its_model_runs_as_soon_as_there_is_a_good_one(
    server: NatsServer, client: WireClient, tmp_path: Path, files: dict[str, Path]
) -> None:
    await store(client, 0, 30)
    async with Running(server, tmp_path, table(model="m"), models=models.tables("wide", **files)) as running:
        await until(lambda: running.report().state.startswith("failed: "))
        failed = did(running, "wide")
        assert failed is not None
        assert "takes 5 features" in failed.failure
        await running.engine.change_models(command(1, "2", files))
        await until(lambda: running.received == 30)
        assert (running.report().state, running.report().version) == ("running", "2")


@pytest.mark.asyncio
async def test_a_shadow_is_given_the_same_rows_and_never_emits(
    server: NatsServer, client: WireClient, tmp_path: Path, files: dict[str, Path]
) -> None:
    async with Running(server, tmp_path, table(model="m"), models=models.tables("1", **files)) as running:
        await running.engine.change_models(command(1, "1", files, shadow="2"))
        await store(client, 0, 90)
        await until(lambda: running.received == 90 and running.report().books["open"] == 0)

        def compared() -> bool:
            shadow = running.report().shadow
            return shadow is not None and shadow.rows + shadow.skipped == running.report().windows

        await until(compared)
        shadow = running.report().shadow
        assert shadow is not None
        assert (shadow.version, shadow.against, shadow.errors, shadow.nan) == ("2", "1", 0, 0)
        assert shadow.max_difference == pytest.approx(100)
        assert shadow.sum_difference == pytest.approx(100 * shadow.rows)
        await running.engine.change_models(command(2, "1", files, shadow="gone"))
        assert running.report().shadow is None
        await running.engine.change_models(command(3, "1", files))
        assert running.report().shadow is None
        assert running.report().version == "1"
    assert {event["version"] for event in await all_events(client)} == {"1"}


def live(path: Path, epoch: int = 0) -> LiveModel:
    return LiveModel(load_model(path, "m", path.stem), epoch)


def test_runs_rows_errors_and_nan_are_counted(files: dict[str, Path]) -> None:
    good, bad, broken = live(files["v1"]), live(files["vnan"]), live(files["vfails"])
    scores, labels = good.score(ROWS)
    assert scores.tolist() == [101, 103, 105]
    assert labels == [None] * 3
    good.score(ROWS[:1])
    assert (good.report.runs, good.report.rows, good.report.errors, good.report.nan) == (2, 4, 0, 0)
    bad.score(np.array([[1.0, 2.0], [np.nan, 1.0], [np.inf, 1.0]]))
    assert bad.report.nan == 1, "a row that is not a number itself is not the model's fault"
    with pytest.raises(RejectedError):
        broken.score(ROWS)
    assert (broken.report.runs, broken.report.errors) == (1, 1)
    assert good.report.seconds > 0


def test_a_version_is_tried_on_rows_only_where_there_are_some(files: dict[str, Path]) -> None:
    running = live(files["v1"])
    try_beside(live(files["vnan"]).model, running, TWO, 3.0)
    running.score(ROWS)
    with pytest.raises(RejectedError, match="3 of 3 scores are not a number"):
        try_beside(live(files["vnan"]).model, running, TWO, 3.0)
    with pytest.raises(RejectedError, match="did not run"):
        try_beside(live(files["vfails"]).model, live(files["v1"]), TWO, 3.0)
    with pytest.raises(RejectedError, match="takes 5 features"):
        try_beside(live(files["vwide"]).model, running, TWO, 3.0)
    with pytest.raises(RejectedError, match="allowed are 2 times"):
        try_beside(live(files["vslow"]).model, running, TWO, 2.0)
    try_beside(live(files["vslow"]).model, running, TWO, 1e9)


def test_nan_is_no_reason_where_the_version_before_answered_it_too(files: dict[str, Path]) -> None:
    running = live(files["vnan"])
    running.score(ROWS)
    try_beside(live(files["vnan"]).model, running, TWO, 3.0)


def test_a_shadow_that_cannot_keep_up_skips_and_one_that_fails_says_so(files: dict[str, Path]) -> None:
    with ThreadPoolExecutor(1) as threads:
        shadow = Shadow(live(files["vslow"]).model, "1", threads)
        for _ in range(5 * SHADOW_QUEUE):
            shadow.offer(ROWS, np.zeros(3), [None] * 3)
    assert shadow.report.skipped > 0
    assert shadow.report.rows + shadow.report.skipped == 3 * 5 * SHADOW_QUEUE
    shadow.offer(ROWS, np.zeros(3), [None] * 3)
    with ThreadPoolExecutor(1) as threads:
        broken = Shadow(live(files["vfails"]).model, "1", threads)
        broken.offer(ROWS, np.zeros(3), [None] * 3)
    assert (broken.report.errors, broken.report.rows) == (1, 0)
    assert "did not run" in broken.report.failure


def test_labels_are_compared_where_there_are_any(files: dict[str, Path]) -> None:
    with ThreadPoolExecutor(1) as threads:
        shadow = Shadow(live(files["v1"]).model, "0", threads)
        shadow.offer(ROWS, np.array([101.0, np.nan, 104.0]), [None, "bad", None])
    assert (shadow.report.labels, shadow.report.agreed) == (1, 0)
    assert shadow.report.sum_difference == 1.0


def test_commands_and_reports_survive_the_wire(files: dict[str, Path]) -> None:
    sent = command(3, "2", files, "1")
    raw = msgspec.json.encode(sent)
    assert b"\n" not in raw
    assert msgspec.json.decode(raw, type=Command) == sent
    found: dict[str, Any] = json.loads(raw)
    assert found["epoch"] == 3
