"""A replay on a real node: what the pipeline gave then, from the log and from the history; and nothing of it goes anywhere."""

import contextlib
import json
import os
import random
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

from skerry import Pipeline
from tests.fixtures.models import adding
from tests.fixtures.node import RunningNode, until
from tests.system.fleet import Fleet

SOURCE = 'source = { topic = "devices/+/numbers", time = "ts", values = ["n"] }\n'
PIPELINES = f"""
[[models]]
name = "m"
file = "1.onnx"
[[pipelines]]
name = "kept"
{SOURCE}
window = {{ kind = "tumbling", size = "500ms", lateness = "200ms", idle = "500ms" }}
features = ["mean", "max"]
model = "m@1"
sinks = ["event", "history"]
[[pipelines]]
name = "holds"  # paused, so that the log is not given back
{SOURCE}
paused = true
"""


def command(node: RunningNode, *arguments: str) -> list[str]:
    replay = ["pipeline", "replay", "kept", "--from", "-10m"]
    return [sys.executable, "-m", "skerry.cli", "--config", str(node.file), *replay, *arguments]


def asked(node: RunningNode, *arguments: str) -> dict[str, Any]:
    done = subprocess.run(command(node, *arguments, "--json"), capture_output=True, text=True, timeout=60, check=False)
    assert done.returncode == 0, done.stderr
    found: dict[str, Any] = json.loads(done.stdout)
    return found


def plain(events: list[dict[str, Any]]) -> dict[str, dict[str, Any]]:
    """Events by id, without what an offline run has not."""
    return {event["id"]: {**event, "latency_ms": 0.0} for event in events}


def untouched(node: RunningNode) -> dict[str, Any]:
    """What a replay must leave as it is."""
    status = node.status()
    found = {row["name"]: (row["ledger"], row["events"], row["state"]) for row in status["pipelines"]}
    series = [row["name"] for row in node.pages("/api/v1/series", "series")]
    return {"pipelines": found, "samples": status["history"]["samples"], "series": series}


def test_it_gives_what_the_live_run_gave_and_leaves_the_node_as_it_is(tmp_path: Path) -> None:
    for number in (1, 2):
        adding(tmp_path / f"{number}.onnx", float(number))
    with RunningNode(tmp_path, PIPELINES) as node:
        with node.client() as client:
            staged = client.post("/api/v1/models", {"name": "m", "file": str(tmp_path / "2.onnx")})
            assert (staged["version"], staged["active"]) == ("2", False)
        with Fleet(node.mqtt, 3, 200) as fleet:
            time.sleep(1.5)
            fleet.stop()
            until(lambda: fleet.unacknowledged == 0, 20, "all messages are acknowledged")
            until(lambda: not node.pipeline("kept")["ledger"]["open"], 20, "all windows are closed")
        count = sum(len(device.times) for device in fleet.devices)
        live = plain(node.events("kept"))
        # of each event the score and two features
        until(lambda: node.status()["history"]["samples"] == count + 3 * len(live), 20, "all samples are in the history")
        before = untouched(node)
        pipeline = Pipeline.from_config(node.file, "kept")
        kill_some(node, tmp_path / "spool")
        # what is younger than some seconds is not compared, so that nothing is missing that is on its way
        until(lambda: len(pipeline.replay("-10m")["events"]) == len(live), 20, "all windows are decided")
        for source in ("log", "history"):
            found = pipeline.replay("-10m", diff=True, source=source)  # type: ignore[arg-type]  # one of its words
            assert plain(found["events"]) == live
            totals = found["diff"]["totals"]
            assert (totals["then"], totals["now"], totals["same"]) == (len(live),) * 3
            assert (found["messages"], found["source"]["kind"]) == (count, source)
        other = asked(node, "--diff", "--model", "m@2")
        assert {row["difference"] for row in other["diff"]["rows"]} == {"score"}
        assert len(other["diff"]["rows"]) == len(live)
        assert all(abs(row["now"]["score"] - row["then"]["score"] - 1) < 1e-3 for row in other["diff"]["rows"])
        assert {event["version"] for event in other["events"]} == {"2"}
        assert untouched(node) == before
        assert plain(node.events("kept")) == live
        assert node.status()["warnings"] == []
        node.stop()
        alone = pipeline.replay("-10m", diff=True)
        assert plain(alone["events"]) == live
        assert (alone["source"]["kind"], alone["diff"]["totals"]["same"]) == ("history", len(live))


def kill_some(node: RunningNode, spool: Path) -> None:
    """Replays that are killed while they work: nothing of them stays."""
    moments = random.Random(6)
    spool.mkdir()
    environment = {**os.environ, "SQLITE_TMPDIR": str(spool)}
    for _ in range(2):
        nowhere = subprocess.DEVNULL
        process = subprocess.Popen(command(node, "--diff"), env=environment, stdout=nowhere, stderr=nowhere)
        with contextlib.suppress(subprocess.TimeoutExpired):
            process.wait(moments.uniform(0.3, 0.8))
        process.kill()
        process.wait(10)
    assert list(spool.iterdir()) == []
