"""Who may join: each reason why not, and the warning about clocks."""

import msgspec
import pytest

from skerry.cluster import EdgeNode, NodeStatus
from skerry.cluster.admission import Ask, Hello, code_of, judge, skew_warning, version_refusal
from skerry.cluster.records import MOST_MEMBERS
from skerry.core.errors import RejectedError

NOW = 1_790_000_000_000_000
HELLO = Hello("a", "quay", "1.4.2", NOW, "")
ASK = Ask("b", "quay", "1.4.0", NOW, "10.0.0.2:7443", (), "")


def node(name: str, status: NodeStatus = NodeStatus.ONLINE) -> EdgeNode:
    return EdgeNode(name, "", status)


def test_who_is_right_may_join() -> None:
    assert judge(ASK, HELLO, [node("a")], 0.1) == ()


@pytest.mark.parametrize(
    ("change", "why"),
    [
        ({"site": "farm"}, "is of the site farm, this cluster of quay"),
        ({"version": "1.2.9"}, r"runs skerry 1\.2\.9, which does not work with 1\.4\.2"),
        ({"version": "2.4.0"}, "does not work with"),
        ({"version": "new"}, "no version of skerry"),
        ({"node": "a"}, "a node called a is in the cluster and Online"),
        ({"node": "a b"}, "no name for a node"),
    ],
    ids=lambda each: next(iter(each)) if isinstance(each, dict) else "",
)
def test_who_is_not(change: dict[str, str], why: str) -> None:
    with pytest.raises(RejectedError, match=why):
        judge(msgspec.structs.replace(ASK, **change), HELLO, [node("a")], 0.1)


@pytest.mark.parametrize("status", list(NodeStatus))
def test_a_name_is_free_when_its_node_is_offline(status: NodeStatus) -> None:
    if status == NodeStatus.OFFLINE:
        assert judge(ASK, HELLO, [node("b", status)], 0.1) == ()
        return
    with pytest.raises(RejectedError, match=f"is in the cluster and {status}"):
        judge(ASK, HELLO, [node("b", status)], 0.1)


def test_a_full_cluster_takes_only_who_was_in_it() -> None:
    full = [node(f"n{at}") for at in range(MOST_MEMBERS)]
    with pytest.raises(RejectedError, match="which is the most"):
        judge(ASK, HELLO, full, 0.1)
    assert judge(ASK, HELLO, [*full[1:], node("b", NodeStatus.OFFLINE)], 0.1) == ()


@pytest.mark.parametrize(
    ("theirs", "ours", "good"),
    [
        ("1.4.0", "1.4.9", True),
        ("1.5.0", "1.4.0", True),
        ("1.3.0", "1.4.0", True),
        ("1.6.0", "1.4.0", False),
        ("0.4.0", "1.4.0", False),
    ],
)
def test_versions_one_minor_apart_work_together(theirs: str, ours: str, good: bool) -> None:
    assert (version_refusal(theirs, ours) == "") is good


def test_clocks_that_differ_are_warned_of() -> None:
    assert skew_warning(NOW, NOW + 1_900_000, 0.0) == ()
    assert skew_warning(NOW, NOW + 2_500_000, 1.0) == (), "the exchange took that long"
    (behind,) = skew_warning(NOW, NOW + 60_000_000, 0.1)
    assert behind.startswith("its clock is 60.0 s behind the cluster's")
    (ahead,) = judge(msgspec.structs.replace(ASK, now=NOW + 3_000_000), HELLO, [], 0.1)
    assert "3.0 s ahead of" in ahead


def test_codes_for_people() -> None:
    assert code_of("x") == "2d71-1642-b726"
    assert code_of("y") != code_of("x")
