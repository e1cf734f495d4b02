"""Two boxes and a witness: a real majority. Either box may die, the other goes on, and nothing is lost."""

import os
from pathlib import Path

import psutil
import pytest

from tests.cluster.nodes import Boxes, patiently
from tests.fixtures.node import RunningNode, until
from tests.system.fleet import Fleet

MOST_MIB = 100
LONG = pytest.mark.skipif("SKERRY_SOAK" not in os.environ, reason='optional: minutes; make soak ARGS="cluster"')
pytestmark = pytest.mark.timeout(300)


def proportional_mib(node: RunningNode) -> float:
    """Memory of all its processes, what they share counted once."""
    found = [*node.processes("agent"), *node.children()]
    assert {process.name() for process in found} & {"nats-server"}
    by_name = {process.name(): process.memory_full_info().pss / 2**20 for process in found}
    print({name: round(size, 1) for name, size in by_name.items()})
    return sum(by_name.values())


def lose_and_find(boxes: Boxes, fleet: Fleet, victim: str, other: str) -> None:
    """kill -9 of one box: the other does all of it; then the first comes back."""
    before = len(fleet.devices[0].acknowledged)
    boxes.kill(victim)
    until(lambda: fleet.unacknowledged >= 0 and len(fleet.devices[0].acknowledged) > before + 20, 60, "devices go on")
    patiently(lambda: set(boxes[other].status()["cluster"]["partitions"].values()) == {other}, 60, "the work is there")
    patiently(lambda: boxes.leader(other) == other, 60, "the box leads, not the witness")
    boxes[victim].begin()
    boxes.wait_together()


@pytest.mark.parametrize("rounds", [1, pytest.param(6, marks=LONG)])
def test_either_box_may_die(tmp_path: Path, rounds: int) -> None:
    with Boxes(tmp_path, witness=True) as boxes, boxes.fleet(4, 60.0) as fleet:
        one, two, third = boxes.names
        with boxes[one].client() as client:
            roles = {row["id"]: row["role"] for row in client.get("/api/v1/cluster/members")["members"]}
        assert roles == {one: "node", two: "node", third: "witness"}
        patiently(lambda: set(boxes[one].status()["cluster"]["partitions"].values()) == {one, two}, 60, "work is on both boxes")
        for at in range(rounds):
            lose_and_find(boxes, fleet, *((one, two) if at % 2 == 0 else (two, one)))
        assert boxes.settle(fleet).acknowledged > 100
        assert {"mqtt"}.isdisjoint(boxes[third].status()["broker"]), "no device connects to a witness"
        used = proportional_mib(boxes[third])
        print(f"witness: {used:.1f} MiB")
        assert used <= MOST_MIB
        assert boxes[third].stop()[0] == 0
        boxes.wait_status(one, third, "Offline")


def test_it_is_nothing_without_a_cluster(tmp_path: Path) -> None:
    (tmp_path / "w").mkdir()
    node = RunningNode(tmp_path / "w", command="witness", name="w", more="[cluster]\nenabled = true\n")
    node.begin()
    assert node.agent.wait(30) == 2
    assert "let it join with `skerry cluster join --token TOKEN`" in node.output
    node.close()
    assert not psutil.pid_exists(node.agent.pid)
