"""A fault on three real nodes under load; `python -m tests.soak nodes` makes many of them."""

from pathlib import Path

from tests.cluster.nemesis import Nemesis
from tests.cluster.nodes import Boxes


def test_nothing_acknowledged_is_lost_when_the_leader_dies_and_comes_back(tmp_path: Path) -> None:
    with Boxes(tmp_path) as boxes:
        nemesis = Nemesis(boxes, seed=3)
        nemesis.round("kill all", boxes.leader("n1"))
        assert nemesis.account.acknowledged > 500
        assert nemesis.account.windows > 20
