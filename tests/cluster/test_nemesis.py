"""Faults on three real nodes of a LAN under load; `python -m tests.soak nodes` makes many of them."""

from collections.abc import Iterator

import pytest

from tests.cluster.fences import Found
from tests.cluster.nemesis import Nemesis, machines


@pytest.fixture(scope="module")
def nemesis(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Nemesis]:
    with machines(tmp_path_factory.mktemp("boxes"), 3, print) as boxes:
        yield Nemesis(boxes, seed=3, longest=4.0)


@pytest.mark.timeout(300)
@pytest.mark.parametrize("kind", ["kill all", "halves", "full disk"])
def test_nothing_acknowledged_is_lost(nemesis: Nemesis, kind: str) -> None:
    before = nemesis.account
    nemesis.round(kind)
    assert nemesis.account.acknowledged > before.acknowledged + 100
    assert nemesis.account.windows > before.windows + 10
    assert nemesis.found.owners >= len(nemesis.found.fences) > 0


def test_an_event_of_an_owner_before_is_found() -> None:
    found = Found()
    for unit, fence in (("p/0", 4), ("p/1", 5), ("p/0", 4), ("p/0", 7), ("p/0", 4)):
        found.take(unit, fence, "an id")
    assert (found.owners, found.fences) == (3, {"p/0": 7, "p/1": 5})
    assert found.wrong == ["p/0: event an id of owner 4 after one of owner 7"]
