"""A simulated cluster under random faults: one owner a partition, one leader, nothing lost; and a rule that is broken is found."""

import pytest

from skerry.cluster.agent import Agent
from skerry.cluster.placement import advance
from skerry.cluster.records import Part
from tests.cluster import simulation
from tests.cluster.simulation import Broken, nemesis


@pytest.mark.parametrize("seed", range(20))
def test_five_nodes(seed: int) -> None:
    found = nemesis(seed, 5, 20, 60)
    assert found.counts.total() > 30
    assert found.store.refused > 0


def test_many_nodes() -> None:
    found = nemesis(7, 30, 200, 20)
    assert len(found.running()) == 200


def test_the_same_seed_is_the_same_course() -> None:
    first, second = nemesis(3, 4, 8, 30), nemesis(3, 4, 8, 30)
    assert first.store.entries == second.store.entries
    assert first.counts == second.counts


def breaks(skew: float = 0.005) -> str:
    """The first thing that is broken within some seeds."""
    for seed in range(40):
        try:
            nemesis(seed, 5, 20, 60, skew=skew)
        except Broken as error:
            return str(error)
    return ""


def test_clocks_that_run_too_differently_are_found() -> None:
    assert "at once" in breaks(skew=0.6)


def test_a_node_that_works_without_a_lease_is_found(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(Agent, "valid", lambda agent, now: agent._generation > 0)
    monkeypatch.setattr(Agent, "valid_until", property(lambda agent: float("inf")))
    assert "at once" in breaks()


def test_work_that_is_given_away_before_it_was_let_go_is_found(monkeypatch: pytest.MonkeyPatch) -> None:
    def careless(*given: object) -> dict[str, Part]:
        parts = advance(*given)  # type: ignore[arg-type]  # handed through as it came
        members = given[3]
        assert isinstance(members, dict)
        return {name: Part(part.to, members[part.to].generation) if part.to in members else part for name, part in parts.items()}

    monkeypatch.setattr("skerry.cluster.agent.advance", careless)
    assert "at once" in breaks()


def test_a_leader_that_does_not_write_the_plan_first_is_found() -> None:
    store = simulation.Store({})
    plan = simulation.Plan
    entry = simulation.encode_plan(plan(1, 2))
    assert store.write(simulation.Put("plan", entry, 0, 0.0)) == 1
    with pytest.raises(Broken, match="epoch 1 after 1 of epoch 2"):
        store.write(simulation.Put("plan", simulation.encode_plan(plan(2, 1)), 1, 0.0))
