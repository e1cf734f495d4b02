"""Three machines of a LAN with real servers and real cuts; more faults are in `make soak ARGS=cluster`."""

import time
from pathlib import Path

import pytest

from tests.cluster.machines import NAMES, Machines
from tests.cluster.member_process import PARTITIONS
from tests.cluster.rig import wait


@pytest.mark.timeout(300)
def test_the_majority_goes_on_without_a_machine_that_is_cut_off_and_all_come_together(tmp_path: Path) -> None:
    with Machines(tmp_path) as machines:
        nodes = machines.nodes
        name = machines.leader()
        others = [each for each in NAMES if each != name]
        before = nodes.state(name)["epoch"]
        machines.lan.cut(name)
        wait(lambda: nodes.settled(*others), 90)
        assert nodes.statuses(others[0])[name] == "Offline"
        assert nodes.state(others[0])["epoch"] > before
        wait(lambda: not nodes.state(name)["ready"])
        alone = nodes.state(name)
        assert (alone["leader"], alone["leads"]) == (None, False)
        assert {each["status"] for each in alone["members"]} == {"Suspect"}
        assert next(each["reason"] for each in alone["members"] if each["id"] == name).startswith("no quorum for")
        healed = time.monotonic()
        machines.lan.heal(name)
        machines.together()
        assert machines.faults_of_order() == []
        run = {line[0] for line in nodes.lines() if line[3] > healed}
        assert run >= {partition.name for partition in PARTITIONS}
