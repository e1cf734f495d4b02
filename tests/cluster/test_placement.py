"""Placement against what it promises, over random nodes and partitions."""

from collections import Counter

import msgspec
from hypothesis import given, settings
from hypothesis import strategies as st

from skerry.cluster.placement import MOVES, NOWHERE, Host, advance, unplaced
from skerry.cluster.records import Member, Part, Partition, Plan
from skerry.runtime import ResourceUsage

NAMES = [f"n{at}" for at in range(6)]
capabilities = st.frozensets(st.sampled_from(["gpu", "camera"]))
hosts = st.lists(
    st.builds(
        Host, st.sampled_from(NAMES), st.integers(1, 3), capabilities,
        st.builds(ResourceUsage, memory=st.integers(0, 8), cpu=st.sampled_from([0.0, 2.0])),
        st.booleans(), st.booleans(), st.booleans(),
    ),
    unique_by=lambda host: host.id, max_size=6,
)  # fmt: skip
wanted = st.lists(
    st.builds(
        Partition, st.sampled_from([f"{pipeline}/{at}" for pipeline in "pqr" for at in range(5)]), capabilities.map(tuple),
        st.builds(ResourceUsage, memory=st.integers(0, 3), cpu=st.sampled_from([0.0, 0.5])),
    ),
    unique_by=lambda partition: partition.name, max_size=15,
)  # fmt: skip


def host(name: str, memory: float = 0, *capability: str, takes: bool = True, keeps: bool = True, doubtful: bool = False) -> Host:
    return Host(name, 1, frozenset(capability), ResourceUsage(memory=memory), takes, keeps, doubtful)


def work(*names: str, memory: float = 0) -> list[Partition]:
    return [Partition(name, (), ResourceUsage(memory=memory)) for name in names]


def members(*nodes: Host, holds: tuple[str, ...] = (), seen: int = 0) -> dict[str, Member]:
    return {each.id: Member(each.id, "i", each.generation, "online", holds=holds, seen=seen) for each in nodes}


def stable(wanted: list[Partition], nodes: list[Host], plan: Plan | None = None, *, calm: bool = True) -> Plan:
    """The plan when every node does at once what it says."""
    plan = plan or Plan()
    for _ in range(100):
        parts = advance(plan, wanted, nodes, members(*nodes, seen=plan.version), calm)
        if parts == plan.parts:
            return plan
        plan = Plan(plan.version + 1, 1, parts)
    raise AssertionError("it never settles")


@given(wanted, hosts, st.booleans())
@settings(max_examples=150, deadline=None)
def test_it_settles_within_capabilities_and_room(work: list[Partition], nodes: list[Host], calm: bool) -> None:
    plan = stable(work, nodes, calm=calm)
    by_id = {each.id: each for each in nodes}
    by_name = {each.name: each for each in work}
    used: Counter[str] = Counter()
    for name, part in plan.parts.items():
        assert not part.to
        assert by_id[part.node].takes
        assert by_id[part.node].keeps
        assert by_id[part.node].generation == part.generation
        assert by_id[part.node].capabilities.issuperset(by_name[name].capabilities)
        used[part.node] += int(by_name[name].resources.memory)
    assert all(not by_id[node].resources.memory or used[node] <= by_id[node].resources.memory for node in used)
    for name in unplaced(plan, work):
        fits = [
            each.id
            for each in nodes
            if each.takes and each.keeps and each.capabilities.issuperset(by_name[name].capabilities)
            if not each.resources.memory and not each.resources.cpu
        ]
        assert fits == []


def test_what_asks_for_a_capability_later_leaves_a_node_without_it_for_one_that_has_it_or_for_none() -> None:
    plain, able = host("a"), host("b", 0, "gpu")
    plan = stable(work("p/0"), [plain])
    asking = [Partition("p/0", ("gpu",))]
    assert unplaced(stable(asking, [plain], plan), asking) == ["p/0"]
    assert stable(asking, [plain, able], plan).parts["p/0"].node == "b"
    leaving = Plan(plan.version + 1, 1, advance(plan, asking, [plain], members(plain, holds=("p/0",)), False))
    assert leaving.parts["p/0"].to == NOWHERE
    assert stable(work("p/0"), [plain], leaving).parts["p/0"] == plan.parts["p/0"], "it stays where it is asked for no more"


@given(wanted, hosts)
@settings(max_examples=100, deadline=None)
def test_equal_nodes_have_equal_work(work: list[Partition], nodes: list[Host]) -> None:
    equal = [msgspec.structs.replace(each, resources=ResourceUsage(), takes=True, keeps=True, doubtful=False) for each in nodes]
    equal = [msgspec.structs.replace(each, capabilities=frozenset({"gpu", "camera"})) for each in equal]
    if equal:
        counts = Counter(part.node for part in stable(work, equal).parts.values())
        assert max(counts.get(each.id, 0) for each in equal) - min(counts.get(each.id, 0) for each in equal) <= 1


@given(wanted, hosts, st.integers(0, 5))
@settings(max_examples=100, deadline=None)
def test_what_runs_is_moved_only_for_a_reason(work: list[Partition], nodes: list[Host], which: int) -> None:
    nodes = [msgspec.structs.replace(each, keeps=True) for each in nodes]
    plan = stable(work, nodes)
    gone = [each for each in nodes if each.id != NAMES[which]]
    after = advance(plan, work, gone, members(*gone, seen=plan.version), False)
    for name, part in plan.parts.items():
        if part.node != NAMES[which]:
            assert after[name] == part


def test_pipelines_are_spread_each_for_itself() -> None:
    plan = stable(work("p/0", "p/1", "q/0", "q/1"), [host("a"), host("b")])
    assert {plan.parts["p/0"].node, plan.parts["p/1"].node} == {"a", "b"}


def test_large_work_is_placed_first() -> None:
    nodes = [host("a", 4), host("b", 3)]
    plan = stable([*work("s/0", "s/1", "s/2", memory=1), *work("l/0", memory=4)], nodes)
    assert plan.parts["l/0"].node == "a"
    assert unplaced(plan, work("s/0", "s/1", "s/2", "l/0")) == []


def test_a_move_waits_for_the_node_to_let_go() -> None:
    nodes = [host("a", keeps=False, takes=False), host("b")]
    plan = Plan(4, 1, {"p/0": Part("a", 1)})
    asked = advance(plan, work("p/0"), nodes, members(*nodes, holds=("p/0",), seen=4), True)
    assert asked == {"p/0": Part("a", 1, "b", 5)}
    plan = Plan(5, 1, asked)
    for holds, seen in ((("p/0",), 5), ((), 4)):
        assert advance(plan, work("p/0"), nodes, members(*nodes, holds=holds, seen=seen), True) == asked
    assert advance(plan, work("p/0"), nodes, members(*nodes, seen=5), True) == {"p/0": Part("b", 1)}


def test_a_move_to_a_node_that_went_away_is_called_off() -> None:
    nodes = [host("a")]
    plan = Plan(5, 1, {"p/0": Part("a", 1, "b", 5)})
    assert advance(plan, work("p/0"), nodes, members(*nodes, holds=("p/0",), seen=5), True) == {"p/0": Part("a", 1)}


def test_a_dead_generation_holds_nothing() -> None:
    nodes = [host("b")]
    gone = {"a": Member("a", "i", 2, "fenced"), **members(*nodes)}
    assert advance(Plan(1, 1, {"p/0": Part("a", 1)}), work("p/0"), nodes, gone, False) == {"p/0": Part("b", 1)}
    silent = {"a": Member("a", "i", 1, "online"), **members(*nodes)}
    kept = advance(Plan(1, 1, {"p/0": Part("a", 1)}), work("p/0"), nodes, silent, True)
    assert kept == {"p/0": Part("a", 1)}, "silence alone gives nothing away"


def test_work_that_is_not_wanted_ends_where_it_runs() -> None:
    nodes = [host("a"), host("b")]
    plan = Plan(1, 1, {"p/0": Part("a", 1)})
    ending = advance(plan, [], nodes, members(*nodes, holds=("p/0",)), True)
    assert ending == {"p/0": Part("a", 1, NOWHERE, 2)}
    assert advance(Plan(2, 1, ending), [], nodes, members(*nodes, seen=2), True) == {}
    again = advance(Plan(2, 1, ending), work("p/0"), nodes, members(*nodes, holds=("p/0",), seen=2), False)
    assert again == {"p/0": Part("a", 1)}


def test_a_doubtful_node_takes_what_nobody_else_does() -> None:
    nodes = [host("a", 0, "gpu", doubtful=True), host("b")]
    wanted = [Partition("g/0", ("gpu",)), *work("p/0", "p/1", "p/2")]
    plan = stable(wanted, nodes)
    assert {name: part.node for name, part in plan.parts.items()} == {"g/0": "a", "p/0": "b", "p/1": "b", "p/2": "b"}


def test_few_moves_at_a_time() -> None:
    nodes = [host("a"), host("b")]
    names = [f"p/{at}" for at in range(60)]
    plan = Plan(1, 1, {name: Part("a", 1) for name in names})
    after = advance(plan, work(*names), nodes, members(*nodes, holds=tuple(names), seen=1), True)
    assert sum(1 for part in after.values() if part.to) == MOVES
    assert not any(part.to for part in advance(plan, work(*names), nodes, members(*nodes), False).values())
