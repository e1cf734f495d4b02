"""Statuses from records and silence."""

import msgspec
import pytest

from skerry.cluster.members import EdgeNode, NodeStatus, Presence, Timing, changes
from skerry.cluster.records import Member
from skerry.core.errors import ConfigError

A = Member("a", "i", 1, "online")


def status(presence: Presence, now: float, member: Member = A, maintenance: bool = False) -> str:
    return str(presence.status(member, maintenance, now)[0])


def test_a_silent_node_is_suspect_then_offline() -> None:
    presence = Presence(Timing())
    presence.heard(A, 10.0)
    assert [status(presence, at) for at in (10, 11.4, 11.6, 13.0, 13.1)] == ["Online", "Online", "Suspect", "Suspect", "Offline"]
    presence.heard(A, 13.2)
    assert status(presence, 13.3) == "Online"


def test_what_the_record_says() -> None:
    presence = Presence(Timing())
    presence.heard(A, 0.0)
    assert status(presence, 1.0, msgspec.structs.replace(A, state="joining")) == "Joining"
    assert status(presence, 1.0, maintenance=True) == "Maintenance"
    assert status(presence, 5.0, maintenance=True) == "Offline", "nobody who is silent is only in maintenance"
    assert presence.status(msgspec.structs.replace(A, state="left"), False, 0.1) == (NodeStatus.OFFLINE, "it was stopped")
    fenced = msgspec.structs.replace(A, state="fenced", by="b")
    assert presence.status(fenced, False, 0.1) == (NodeStatus.OFFLINE, "it was silent; its work was taken over by b")


def test_own_deafness_is_not_the_others_silence() -> None:
    presence = Presence(Timing())
    presence.heard(A, 0.0)
    presence.forgive(60.0)
    assert status(presence, 60.5) == "Online"
    assert presence.silence("b", 60.5) == 0.0


def come_back(presence: Presence, times: list[float]) -> Member:
    for generation, now in enumerate(times, 2):
        presence.heard(msgspec.structs.replace(A, generation=2 * generation, state="fenced"), now - 1)
        member = msgspec.structs.replace(A, generation=2 * generation + 1)
        presence.heard(member, now)
    return member


def beats(presence: Presence, member: Member, start: float, end: float) -> None:
    while start < end:
        presence.heard(member, start)
        start += 0.5


def test_a_node_that_comes_and_goes_is_suspect_until_it_stays() -> None:
    presence = Presence(Timing())
    presence.heard(A, 0.0)
    assert status(presence, 20, come_back(presence, [10, 20])) == "Online"
    member = come_back(presence, [30])
    assert presence.status(member, False, 30.5) == (NodeStatus.SUSPECT, "it comes and goes: no new work until it stays")
    beats(presence, member, 30.5, 59)
    assert presence.flapping("a", 59)
    beats(presence, member, 59, 61)
    assert not presence.flapping("a", 61)


def test_three_returns_in_a_day_are_none_too_many() -> None:
    presence = Presence(Timing())
    presence.heard(A, 0.0)
    come_back(presence, [100, 3000, 9000])
    assert not presence.flapping("a", 9001)


@pytest.mark.parametrize(
    "wrong", [{"beat": 2.0}, {"suspect": 4.0}, {"lease": 2.95}, {"lease": 0.9}, {"beat": 0.0}], ids=lambda wrong: next(iter(wrong))
)
def test_times_that_are_not_safe_are_refused(wrong: dict[str, float]) -> None:
    with pytest.raises(ConfigError):
        Timing(**wrong)


def node(name: str, status: NodeStatus = NodeStatus.ONLINE, reason: str = "", address: str = "") -> EdgeNode:
    return EdgeNode(name, address, status, reason=reason)


def test_changes_are_told_once_and_in_order() -> None:
    before = {"a": node("a"), "b": node("b"), "c": node("c", reason="silent for 1 s")}
    after = {"a": node("a", NodeStatus.OFFLINE, "it was stopped"), "c": node("c", reason="silent for 2 s"), "d": node("d")}
    assert [(each.kind, each.node, each.before, each.after) for each in changes(before, after)] == [
        ("status", "a", "Online", "Offline"), ("removed", "b", "Online", ""), ("joined", "d", "", "Online"),
    ]  # fmt: skip
    assert [each.kind for each in changes({"a": node("a")}, {"a": node("a", address="h:1")})] == ["changed"]
    assert changes(after, after) == []
