"""Three become two and one again while devices go on: nothing that was acknowledged is lost, and who was taken out is out."""

import os
from pathlib import Path

import pytest

from tests.cluster.nodes import Boxes, patiently
from tests.fixtures.node import until

pytestmark = pytest.mark.timeout(600)
LONG = pytest.mark.skipif("SKERRY_SOAK" not in os.environ, reason='optional: minutes; make soak ARGS="cluster"')


def state(boxes: Boxes, name: str) -> str:
    return str(boxes[name].status()["cluster"]["state"])


@LONG
def test_three_become_one_while_devices_go_on(tmp_path: Path) -> None:
    with Boxes(tmp_path) as boxes:
        keeper = boxes.leader("n1")
        second, third = (name for name in boxes.names if name != keeper)
        fleet = boxes.fleet(3, 40.0)
        with fleet:
            until(lambda: fleet.unacknowledged >= 0 and len(fleet.devices[0].acknowledged) > 20, 60, "devices are there")
            with pytest.raises(AssertionError, match="ask another member"):
                boxes[third].cli("cluster", "remove", third)
            boxes[keeper].cli("cluster", "remove", third, seconds=120)
            assert boxes[third].agent.wait(60) == 1, "who was taken out ends"
            assert f"{third} was removed from the cluster" in boxes[third].output
            patiently(lambda: state(boxes, keeper) == "alone" and state(boxes, second) == "standby", 120, "one has the log")
            before = len(fleet.devices[0].acknowledged)
            until(lambda: fleet.unacknowledged >= 0 and len(fleet.devices[0].acknowledged) > before + 20, 120, "devices go on")
            with pytest.raises(AssertionError, match="no node would be left that has the log"):
                boxes[second].cli("cluster", "remove", keeper)
            # it stays out, with all its files
            boxes[third].begin()
            assert boxes[third].agent.wait(60) == 1
            boxes[keeper].cli("cluster", "remove", second, seconds=120)
            assert boxes[second].agent.wait(60) == 1
            assert boxes.members(keeper) == {keeper: "Online"}
            assert boxes.settle(fleet).acknowledged > 100
