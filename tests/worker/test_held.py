"""A whole engine that is told to hold a pipeline, and to let its shadow rest: what it keeps, and that it goes on there."""

import asyncio
from pathlib import Path

import pytest

from skerry.broker import WireClient
from skerry.pipeline import Standing
from skerry.worker.protocol import Command
from tests.fixtures import models
from tests.fixtures.nats import NatsServer, until
from tests.worker import test_models
from tests.worker.test_engine import Running, all_events, balanced, store, table

client = test_models.client


@pytest.mark.asyncio
async def test_an_engine_lets_go_of_a_held_pipeline_and_its_model_and_goes_on_there(
    server: NatsServer, client: WireClient, tmp_path: Path
) -> None:
    files = {"v1": models.adding(tmp_path / "1.onnx", 100), "v2": models.adding(tmp_path / "2.onnx", 200)}
    tables = models.tables("1", **files)
    async with Running(server, tmp_path, table(model="m"), models=tables) as running:
        await running.engine.change_models(Command("models", models=tables, shadows={"m": "2"}, epoch=1))
        await store(client, 0, 30)
        await until(lambda: running.received == 30)
        shadow = running.report().shadow
        assert shadow is not None
        await running.engine.change_standings({"p": Standing(shadow=False)})
        assert running.report().shadow is None
        await running.engine.change_standings({"p": Standing(held=True)})
        await until(lambda: running.engine._slots["p/0"].runner is None)
        report = running.report()
        assert (report.state, report.version, report.books["received"]) == ("pending", "", 30)
        assert report.durable == report.cursor
        assert running.engine._slots["p/0"].live is None
        await store(client, 30, 60)
        await asyncio.sleep(0.3)
        assert running.report().books["received"] == 30
        await running.engine.change_standings({"p": Standing()})
        await until(lambda: running.received == 60)
        report = running.report()
        assert (report.state, report.version) == ("running", "1")
        assert report.shadow is not None
        assert balanced(report)
        await until(lambda: running.report().unacknowledged == 0)
    found = await all_events(client)
    assert len({event["id"] for event in found}) == len(found)
    assert sum(event["count"] for event in found) == 60 - report.books["open"]
