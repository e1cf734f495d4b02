"""One agent, told what it reads and what came of its writes."""

import msgspec
import pytest

from skerry.cluster.agent import Agent
from skerry.cluster.members import NodeStatus, Timing
from skerry.cluster.records import (
    MOST_MEMBERS,
    MOST_PARTITIONS,
    Entry,
    Mark,
    Member,
    Office,
    Part,
    Partition,
    Plan,
    Put,
    Wish,
    check_name,
    decode,
    encode,
)
from skerry.core.errors import ConfigError, CorruptError, RejectedError

ME = Member("a", "mine", 0)


class Desk:
    """An agent and its store, which takes all it is given unless it is told otherwise."""

    def __init__(self, agent: Agent | None = None, **entries: Entry) -> None:
        self.agent = agent or Agent(ME, Timing())
        self.entries = {key.replace("__", "."): entry for key, entry in entries.items()}
        self.revision = 100

    def observe(self, now: float) -> None:
        self.agent.observe(self.entries, now)

    def take(self, put: Put, now: float) -> None:
        self.put(put.key, put.value)
        self.agent.written(put, self.revision, now)

    def put(self, key: str, value: bytes) -> None:
        self.revision += 1
        self.entries[key] = Entry(value, self.revision)

    def work(self, now: float) -> list[str]:
        """Do all that it wants to write; the keys."""
        keys = []
        while (put := self.agent.next(now)) is not None:
            keys.append(put.key)
            self.take(put, now)
        return keys


def test_nothing_is_written_before_something_was_read() -> None:
    desk = Desk()
    assert desk.agent.next(1.0) is None
    desk.observe(1.0)
    assert desk.work(1.0) == ["member.a", "leader", "plan"]
    assert desk.agent.leads(1.0)
    assert desk.work(1.1) == []
    assert desk.work(1.6) == ["member.a"]


def test_the_lease_counts_from_when_the_renewal_began() -> None:
    desk = Desk()
    desk.observe(1.0)
    put = desk.agent.next(1.0)
    assert put is not None
    desk.take(put, 2.0)
    assert desk.agent.valid(3.4)
    assert not desk.agent.valid(3.6)
    assert desk.agent.view(3.6)["a"].status == NodeStatus.SUSPECT
    assert not desk.agent.leads(3.6)


def test_a_renewal_that_nobody_acknowledged_lengthens_nothing_and_is_tried_again() -> None:
    desk = Desk()
    desk.observe(1.0)
    desk.work(1.0)
    put = desk.agent.next(1.6)
    assert put is not None
    desk.put(put.key, put.value)
    desk.agent.failed(put, False, 2.6)
    desk.observe(2.7)
    assert desk.agent.valid(3.4)
    assert not desk.agent.valid(3.6)
    assert desk.work(3.7) == ["member.a"], "over the revision that was found"
    assert desk.agent.valid(3.8)
    assert desk.agent.leads(3.8), "nobody has taken its office"


def test_a_fenced_node_comes_anew_when_it_has_let_go() -> None:
    desk = Desk()
    desk.observe(1.0)
    desk.work(1.0)
    desk.agent.holds.add("p/0")
    desk.put("member.a", encode(msgspec.structs.replace(ME, generation=2, state="fenced", by="b")))
    desk.observe(5.0)
    assert not desk.agent.valid(5.0)
    assert desk.agent.trouble == "it was silent, and b took over"
    assert desk.work(5.0) == []
    desk.agent.holds.clear()
    assert desk.work(5.0)[0] == "member.a"
    found = decode(Member, desk.entries["member.a"], "member.a")
    assert found is not None
    assert (found.generation, found.state) == (3, "online")


def test_an_answer_that_comes_after_the_fence_revives_nothing() -> None:
    desk = Desk()
    desk.observe(1.0)
    desk.work(1.0)
    put = desk.agent.next(1.6)
    assert put is not None
    desk.put(put.key, put.value)
    revision = desk.revision
    desk.put("member.a", encode(msgspec.structs.replace(ME, generation=2, state="fenced", by="b")))
    desk.observe(5.0)
    desk.agent.written(put, revision, 5.1)
    assert not desk.agent.valid(5.1)


def test_an_older_read_changes_nothing() -> None:
    desk = Desk()
    desk.observe(1.0)
    old = dict(desk.entries)
    desk.work(1.0)
    desk.agent.observe(old, 1.1)
    assert desk.agent.leads(1.1)
    assert desk.work(1.2) == []


def test_only_what_the_plan_gives_this_generation_is_run() -> None:
    desk = Desk()
    desk.observe(1.0)
    desk.work(1.0)
    parts = {"mine": Part("a", 1), "going": Part("a", 1, "b", 2), "before": Part("a", 0), "other": Part("b", 1)}
    desk.put("plan", encode(Plan(9, 1, parts)))
    desk.observe(1.1)
    assert desk.agent.may_run(1.1) == {"mine"}
    assert desk.agent.may_run(9.0) == frozenset()
    desk.agent.leaving = True
    assert desk.agent.may_run(1.1) == frozenset()


def test_who_leaves_says_so_when_all_is_let_go() -> None:
    desk = Desk()
    desk.observe(1.0)
    desk.work(1.0)
    desk.agent.holds.add("p/0")
    desk.agent.leaving = True
    desk.work(1.6)
    member = decode(Member, desk.entries["member.a"], "")
    assert member is not None
    assert (member.state, member.holds) == ("online", ("p/0",))
    desk.agent.holds.clear()
    assert desk.work(2.2) == ["member.a"]
    member = decode(Member, desk.entries["member.a"], "")
    assert member is not None
    assert member.state == "left"
    assert desk.work(9.0) == []


def test_the_same_data_directory_comes_back_at_once_another_waits() -> None:
    before = Entry(encode(Member("a", "mine", 4, "online")), 7)
    desk = Desk(member__a=before)
    desk.observe(1.0)
    assert desk.work(1.0)[0] == "member.a"
    other = Entry(encode(Member("a", "other", 4, "online")), 7)
    desk = Desk(member__a=other)
    desk.observe(1.0)
    assert desk.work(1.0) == []
    assert desk.agent.trouble == "waiting whether another node is called a"
    desk.observe(2.0)
    desk.observe(3.0)
    desk.observe(4.1)
    assert desk.work(4.1)[0] == "member.a"


def test_there_is_a_most() -> None:
    desk = Desk()
    desk.entries = {f"member.n{at}": Entry(encode(Member(f"n{at}", "i", 1, "left")), at + 1) for at in range(MOST_MEMBERS)}
    desk.observe(1.0)
    assert desk.work(1.0) == []
    assert "128 members" in desk.agent.trouble
    with pytest.raises(RejectedError, match="too many"):
        desk.agent.wanted = [Partition(f"p/{at}") for at in range(MOST_PARTITIONS + 1)]


def test_records_that_no_node_wrote_are_named() -> None:
    desk = Desk(leader=Entry(b'{"holder": 1}', 3))
    with pytest.raises(CorruptError, match="cluster key leader"):
        desk.observe(1.0)
    assert decode(Office, None, "leader") is None
    assert decode(Office, Entry(b"", 4), "leader") is None


@pytest.mark.parametrize("name", ["", "-a", "a.b", "a b", "ä", "a" * 64])
def test_names_that_are_none(name: str) -> None:
    with pytest.raises(ConfigError):
        check_name(name)


def test_who_is_not_ready_never_leads() -> None:
    desk = Desk()
    desk.agent.ready = False
    desk.observe(1.0)
    assert desk.work(1.0) == ["member.a"]
    assert desk.agent.view(1.0)["a"].status == NodeStatus.JOINING


def test_a_witness_neither_leads_nor_gets_work() -> None:
    witness = Desk(Agent(msgspec.structs.replace(ME, role="witness"), Timing(), [Partition("p/0")]))
    witness.observe(1.0)
    assert witness.work(1.0) == ["member.a"]
    assert not witness.agent.leads(1.0)
    # a node leads beside it, and has all the work
    node = Desk(Agent(Member("b", "another", 0), Timing(), [Partition("p/0"), Partition("p/1")]))
    node.entries = witness.entries
    node.observe(1.1)
    node.work(1.1)
    assert node.agent.leads(1.1)
    assert {part.node for part in node.agent.plan.parts.values()} == {"b"}
    assert node.agent.view(1.1)["a"].role == "witness"


def test_a_leader_gives_way_to_a_node_and_to_no_witness() -> None:
    desk = Desk()
    desk.observe(1.0)
    desk.work(1.0)
    # a person wants another to lead, and there is only a witness besides
    desk.put("member.w", encode(Member("w", "third", 1, state="online", role="witness")))
    desk.put("wish", encode(Wish(1)))
    desk.observe(1.1)
    desk.work(1.1)
    assert desk.agent.leads(1.1)
    desk.put("member.b", encode(Member("b", "other", 1, state="online")))
    desk.observe(1.2)
    assert "leader" in desk.work(1.2)
    assert not desk.agent.leads(1.2), "it does not take the office again while another can"
    desk.observe(1.4)
    desk.work(1.4)
    assert not desk.agent.leads(1.4)


def test_a_drained_box_leads_where_there_is_only_a_witness_besides() -> None:
    desk = Desk()
    desk.put("member.w", encode(Member("w", "third", 1, state="online", role="witness")))
    desk.put("mark.a", encode(Mark(True)))
    desk.observe(1.0)
    assert "leader" in desk.work(1.0)
    assert desk.agent.leads(1.0)


def test_who_was_drained_may_be_taken_out_and_who_works_may_not() -> None:
    desk = Desk(Agent(ME, Timing(), [Partition("p/0"), Partition("p/1")]))
    desk.put("member.b", encode(Member("b", "other", 1, state="online", holds=("p/1",))))
    desk.observe(1.0)
    desk.work(1.0)
    with pytest.raises(RejectedError, match="b is there and works"):
        desk.agent.remove("b", 1.1)
    desk.put("mark.b", encode(Mark(True)))
    desk.observe(1.2)
    assert not desk.agent.idle("b")
    with pytest.raises(RejectedError, match="b is there and works"):
        desk.agent.remove("b", 1.2)
    desk.put("member.b", encode(Member("b", "other", 1, state="online", seen=99)))
    desk.observe(1.3)
    desk.work(1.3)
    desk.put("plan", encode(Plan(100, 1, {"p/0": Part("a", 1), "p/1": Part("a", 1)})))
    desk.observe(1.4)
    assert desk.agent.idle("b")
    desk.take(desk.agent.remove("b", 1.4), 1.4)
    assert list(desk.agent.view(1.5)) == ["a"]
