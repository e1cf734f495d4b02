"""Faults on three real nodes of a LAN under load; `python -m tests.soak nodes` makes many of them."""

import subprocess
import sys
from pathlib import Path

import pytest

from tests.cluster.fences import Found
from tests.cluster.nemesis import Nemesis, machines

FIND = """
import asyncio
from skerry import ClusterConfig, ClusterManager
manager = ClusterManager(ClusterConfig("x", site="sea", address="10.77.0.1:1"))
print({node.id: node.address for node in asyncio.run(manager.discover_nodes(20))})
"""


@pytest.mark.timeout(600)
def test_nothing_acknowledged_is_lost_over_a_death_a_cut_and_a_full_disk(tmp_path: Path) -> None:
    with machines(tmp_path, 3, print) as boxes:
        assert boxes.lan is not None
        found = subprocess.run([*boxes.lan.inside("n1"), sys.executable, "-c", FIND], capture_output=True, text=True, check=True)
        for at, name in enumerate(boxes.names, 1):  # by mDNS
            assert f"'{name}': '10.77.0.{at}:7443'" in found.stdout
        nemesis = Nemesis(boxes, seed=3, longest=4.0)
        nemesis.round("kill all", "halves", "full disk")
        assert nemesis.account.acknowledged > 300
        assert nemesis.account.windows > 50
        assert nemesis.found.owners >= len(nemesis.found.fences) > 0


def test_an_event_of_an_owner_before_is_found() -> None:
    found = Found()
    for unit, fence in (("p/0", 4), ("p/1", 5), ("p/0", 4), ("p/0", 7), ("p/0", 4)):
        found.take(unit, fence, "an id")
    assert (found.owners, found.fences) == (3, {"p/0": 7, "p/1": 5})
    assert found.wrong == ["p/0: event an id of owner 4 after one of owner 7"]
