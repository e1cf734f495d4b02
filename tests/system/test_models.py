"""Models of a node that runs: versions are added, switched under load, shadowed, and taken back when they are worse."""

import urllib.request
from pathlib import Path
from typing import Any

import pytest

from skerry.core.errors import RejectedError
from tests.fixtures import models
from tests.fixtures.node import RunningNode, until
from tests.system.accounts import BOTH, EVERY, check, settle
from tests.system.fleet import Fleet

MODEL = '[[models]]\nname = "m"\nfile = "1.onnx"\n'
PIPELINES = MODEL + BOTH.replace("dedup =", 'model = "m"\ndedup =').replace('"30s"', '"500ms"')
FAR = 100_000


def show(node: RunningNode) -> dict[str, Any]:
    with node.client() as client:
        found: dict[str, Any] = client.get("/api/v1/models/m")
    return found


def post(node: RunningNode, what: str, **body: Any) -> dict[str, Any]:
    with node.client() as client:
        found: dict[str, Any] = client.post(f"/api/v1/models{what}", body)
    return found


def metric(node: RunningNode, start: str) -> float:
    with urllib.request.urlopen(f"http://{node.status()['broker']['http']}/metrics", timeout=10) as answer:
        lines = answer.read().decode().splitlines()
    return sum(float(line.rpartition(" ")[2]) for line in lines if line.startswith(start))


def states(node: RunningNode) -> dict[str, str]:
    return {row["version"]: row["state"] for row in show(node)["versions"]}


def test_versions_are_switched_shadowed_and_taken_back_under_load_and_nothing_is_lost(tmp_path: Path) -> None:
    models.adding(tmp_path / "1.onnx", FAR, width=4)
    second, bad = models.adding(tmp_path / "b.onnx", 2 * FAR, width=4), models.fragile(tmp_path / "c.onnx", width=4)
    broken = models.failing(tmp_path / "d.onnx", width=4)
    with RunningNode(tmp_path, PIPELINES) as node, Fleet(node.mqtt, 4, 300) as fleet:
        assert post(node, "", name="m", file=str(second))["version"] == "2"
        assert post(node, "", name="m", file=str(bad))["version"] == "3"
        with pytest.raises(RejectedError, match="does not run"):
            post(node, "", name="m", file=str(broken))
        assert states(node) == {"1": "active", "2": "staged", "3": "staged"}
        post(node, "/m/shadow", version="2")
        shadow = until(lambda: (found := show(node)["shadow"]) and found["rows"] and found, 15, "the shadow has been compared")
        assert shadow["max_difference"] == shadow["mean_difference"] == FAR
        assert post(node, "/m/activate", version="2")["active"] == "2"
        until(lambda: node.pipeline(EVERY)["model"] == "m@2", 10, "the pipeline scores with the second version")
        assert show(node)["shadow"] is None
        until(lambda: metric(node, 'skerry_infer_seconds_count{model="m",pipeline="every",version="2"}'), 10, "it has scored")
        post(node, "/m/activate", version="3")
        until(lambda: show(node)["active"] == "2", 15, "the version that answers NaN is taken back")
        failed = next(row for row in show(node)["versions"] if row["version"] == "3")
        assert failed["state"] == "failed"
        assert "not a number" in failed["reason"]
        assert show(node)["history"][-1]["what"] == "rolled back to 2"
        assert any("m@3 rolled back to 2" in warning for warning in node.status()["warnings"])
        assert metric(node, 'skerry_model_rollbacks_total{model="m"}') == 1
        assert post(node, "/m/rollback")["active"] == "1"
        until(lambda: node.pipeline(EVERY)["model"] == "m@1", 10, "the pipeline scores with the first version again")
        settle(node, fleet)
        assert check(node, fleet.devices).acknowledged == fleet.sent > 500
        events = node.events(EVERY)
        for event in events:
            if event["version"] in ("1", "2"):
                assert event["score"] - event["features"]["n_count"] == FAR * int(event["version"])
        assert {event["version"] for event in events} >= {"1", "2"}
        node.stop()
        node.start()
        assert states(node) == {"1": "active", "2": "retired", "3": "failed"}
