"""The node's keeper of models: what it tells workers, what their reports make it take back, and what it says of changed files."""

import asyncio
from collections.abc import Iterator
from pathlib import Path

import psutil
import pytest

from skerry.config import load
from skerry.core.errors import RejectedError, UnavailableError
from skerry.core.service import cancel_and_wait
from skerry.node import Node
from skerry.node.disk import measure, parts_of
from skerry.worker import ModelReport, PipelineReport, Report, ShadowReport
from tests.fixtures import models
from tests.fixtures.nats import until
from tests.inference.catalogue.test_trial import endless
from tests.node.test_view import write

MODEL = 'model = "m"\nfeatures = ["count", "sum"]\n[[models]]\nname = "m"\nfile = "1.onnx"\n'


@pytest.fixture
def node(tmp_path: Path) -> Iterator[Node]:
    """A node that is made and not run: its workers are what the test says they reported."""
    models.adding(tmp_path / "1.onnx", 1)
    models.adding(tmp_path / "b.onnx", 2)
    made = Node(load(write(tmp_path, "p", p=MODEL)))
    yield made
    made.models.host.close()
    made._lock.release()


def said(node: Node, *reports: ModelReport, shadow: ShadowReport | None = None) -> None:
    worker = node.pool.workers[0]
    worker.report = Report(ready=True, pipelines={"p": PipelineReport(state="running", models=list(reports), shadow=shadow)})


@pytest.mark.asyncio
async def test_versions_are_added_switched_shadowed_and_removed(node: Node, tmp_path: Path) -> None:
    keeper = node.models
    assert [(row["version"], row["active"]) for row in keeper.place()["models"]] == [("1", True)]
    added = await keeper.add("m", "b.onnx", "", {"labels": ["low", "high"]})
    assert (added["version"], added["state"], added["active"]) == ("2", "staged", False)
    await keeper.shadow("m", "2")
    assert keeper.place()["shadows"] == {"m": "2"}
    said(node, shadow=ShadowReport("m", "2", "1", 2, 4, sum_difference=2.0, max_difference=1.5, labels=4, agreed=3))
    row = node.view.model("m")
    assert row is not None
    assert (row["shadow"]["mean_difference"], row["shadow"]["max_difference"], row["shadow"]["label_agreement"]) == (0.5, 1.5, 0.75)
    before = keeper.epoch
    await keeper.activate("m", "2")
    assert keeper.epoch == before + 1
    assert {row["version"]: row["active"] for row in keeper.place()["models"]} == {"1": False, "2": True}
    assert keeper.place()["shadows"] == {}
    with pytest.raises(RejectedError, match="is active"):
        await keeper.remove("m", "2")
    await keeper.rollback("m")
    await keeper.remove("m", "2")
    row = node.view.model("m")
    assert row is not None
    assert [each["what"] for each in row["history"]] == ["added", "runs as shadow", "activated", "rolled back to", "removed"]
    assert node.view.model("none") is None


@pytest.mark.asyncio
async def test_where_the_disk_is_short_all_goes_but_what_is_used_and_the_newest(node: Node, tmp_path: Path) -> None:
    for number in (3, 4, 5):
        models.adding(tmp_path / f"{number}.onnx", number)
        await node.models.add("m", f"{number}.onnx", "", {})
    assert [row["version"] for row in node.models.rows()] == ["1", "2", "3", "4"]
    node.disk.sizes = measure(node.config.data_dir, parts_of(node.config))
    assert await node.disk._take("old models", 1) > 0
    assert [row["version"] for row in node.models.rows()] == ["1", "4"]
    row = node.view.model("m")
    assert row is not None
    assert [each["what"] for each in row["history"]][-2:] == ["removed: too old"] * 2


@pytest.mark.asyncio
@pytest.mark.parametrize(
    ("report", "reason"),
    [
        (ModelReport("m", "2", runs=3, rows=6, errors=1), "1 of its 3 runs failed"),
        (ModelReport("m", "2", runs=3, rows=6, nan=2), "2 of its 6 scores are not a number"),
        (ModelReport("m", "2", runs=40, rows=40, seconds=0.4), "4.0 times the version before, allowed are 3 times"),
        (ModelReport("m", "2", failure="it takes 5 features a row"), "it failed its trial: it takes 5 features a row"),
    ],
)
async def test_a_version_whose_reports_are_bad_is_taken_back_with_the_reason(node: Node, report: ModelReport, reason: str) -> None:
    keeper = node.models
    before = ModelReport("m", "1", runs=40, rows=40, seconds=0.1)
    said(node, before)
    await keeper.add("m", "b.onnx", "", {})
    await keeper.activate("m", "2")
    judging = asyncio.create_task(keeper.run())
    try:
        report.epoch = keeper.epoch - 1  # of another time that it ran: that says nothing of this one
        said(node, before, report)
        await asyncio.sleep(0.7)
        assert keeper.catalogue.find("m").version == "2"
        report.epoch = keeper.epoch
        await until(lambda: keeper.catalogue.find("m").version == "1")
        await until(lambda: keeper.rollbacks == {"m": 1})
    finally:
        await cancel_and_wait(judging)
    failed = keeper.catalogue.find("m@2")
    assert failed.state == "failed"
    assert reason in failed.reason
    assert any(reason in warning for warning in node.warnings())


@pytest.mark.asyncio
async def test_a_trial_that_hangs_holds_up_nothing_else(node: Node, tmp_path: Path) -> None:
    keeper = node.models
    await keeper.add("m", "b.onnx", "", {})
    await keeper.activate("m", "2")
    hanging = asyncio.create_task(keeper.add("m", str(endless(tmp_path)), "", {}))
    await until(lambda: (pid := keeper.host.pid) is not None and psutil.Process(pid).children())
    await keeper.rollback("m")
    assert keeper.catalogue.active("m") == keeper.catalogue.find("m@1")
    assert not hanging.done()
    keeper.host.close()
    with pytest.raises(UnavailableError, match="the process that runs models was ended"):
        await hanging
    assert [row["version"] for row in keeper.rows()] == ["1", "2"]


def test_a_file_that_changed_under_its_version_is_named(node: Node, tmp_path: Path) -> None:
    assert node.models.changed_files() == []
    models.adding(tmp_path / "1.onnx", 3, width=5)
    (note,) = node.models.changed_files()
    assert "m@1: 1.onnx has changed under the same version" in note
    node.models.take_config()
    assert node.models.changed_files() == []


@pytest.mark.asyncio
async def test_a_file_is_looked_at_once_until_it_changes(node: Node) -> None:
    view, base = node.view, node.config.base
    await view.describe_models()
    first = dict(view._looked)
    assert [row["inputs"][0]["dtype"] for _, row in first.values()] == ["float32"]
    await view.describe_models()
    assert all(view._looked[key] is found for key, found in first.items())
    file = base / "1.onnx"
    file.write_bytes(file.read_bytes() + b"cut off")
    await view.describe_models()
    assert "error" in next(iter(view._looked.values()))[1]
