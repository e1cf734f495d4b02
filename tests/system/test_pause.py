"""Pausing one pipeline of a worker while the others go on: each takes every message in once, in its own time."""

import time
from pathlib import Path

from tests.fixtures.node import RunningNode
from tests.system.accounts import BOTH, EVERY, ONCE, check, settle
from tests.system.fleet import Fleet


def turn(node: RunningNode, name: str, verb: str) -> None:
    with node.client() as client:
        client.post(f"/api/v1/pipelines/{name}/{verb}")


def test_a_pipeline_that_pauses_under_load_misses_nothing_also_over_a_kill(tmp_path: Path) -> None:
    with RunningNode(tmp_path, BOTH) as node, Fleet(node.mqtt, 8, 700) as fleet:
        for name in (EVERY, ONCE, EVERY):
            time.sleep(0.4)
            turn(node, name, "pause")
            time.sleep(0.6)
            assert node.pipeline(name)["state"] == "paused"
            turn(node, name, "resume")
        turn(node, ONCE, "pause")
        turn(node, ONCE, "resume")
        turn(node, EVERY, "pause")
        time.sleep(0.5)
        node.kill("all")
        node.start()
        assert node.pipeline(EVERY)["state"] == "paused"
        time.sleep(0.5)
        turn(node, EVERY, "resume")
        settle(node, fleet)
        assert check(node, fleet.devices).acknowledged == fleet.sent > 1000
