"""`/api/v1/cluster` over HTTP, as the handlers are asked."""

from collections.abc import Iterator
from pathlib import Path

import pytest

from skerry.api.endpoints import API
from skerry.core.errors import RejectedError, SkerryError, UnavailableError
from skerry.http import Client
from tests.api.fake_view import Serving

HERE = f"{API}/cluster"


@pytest.fixture
def node(tmp_path: Path) -> Iterator[Serving]:
    with Serving(tmp_path / "skerry.sock").running() as serving:
        yield serving


def test_members_leader_and_changes_are_told(node: Serving) -> None:
    with Client(node.url) as client:
        assert client.get(HERE)["enabled"] is True
        assert [(row["id"], row["leader"]) for row in client.get(f"{HERE}/members")["members"]] == [("box", True), ("barn", False)]
        assert client.get(f"{HERE}/leader") == {"leader": "box", "epoch": 3, "no_quorum_since": None}
        assert [row["node"] for row in client.get(f"{HERE}/changes")["changes"]] == ["box", "barn"]
        later = client.get(f"{HERE}/changes", {"after": 1})
        assert ([row["node"] for row in later["changes"]], later["next"]) == (["barn"], 2)
        for wrong in ({"after": "x"}, {"after": "-1"}, {"since": "1"}):
            with pytest.raises(RejectedError):
                client.get(f"{HERE}/changes", wrong)


def test_a_token_is_made_for_so_long(node: Serving) -> None:
    with Client(node.url) as client:
        assert client.post(f"{HERE}/tokens") == {"token": "skj1.a.b", "expires_in": 3600}
        assert client.post(f"{HERE}/tokens", {"expires_in": "10m"})["expires_in"] == 600
        for wrong in ({"expires_in": "soon"}, {"expires_in": "30d"}, {"for": "1h"}, {"expires_in": 5}):
            with pytest.raises(RejectedError):
                client.post(f"{HERE}/tokens", wrong)


def test_who_waits_is_let_in_by_its_code(node: Serving) -> None:
    with Client(node.url) as client:
        (waiting,) = client.get(f"{HERE}/pending")["pending"]
        with pytest.raises(RejectedError, match="no node shed waits with the code 1"):
            client.post(f"{HERE}/approve", {"node": "shed", "code": "1"})
        assert client.post(f"{HERE}/approve", {"node": "shed", "code": waiting["code"]}) == {"approved": "shed"}
    assert node.view.cluster.approved == [("shed", waiting["code"])]


def test_nodes_are_drained_resumed_and_removed(node: Serving) -> None:
    with Client(node.url) as client:
        assert client.post(f"{HERE}/members/barn/drain") == {"drained": "barn"}
        assert node.view.cluster.drained == {"barn"}
        assert client.post(f"{HERE}/members/barn/resume") == {"resumed": "barn"}
        assert node.view.cluster.drained == set()
        assert client.delete(f"{HERE}/members/barn") == {"removed": "barn"}
        with pytest.raises(RejectedError, match="there is no node 'barn'"):
            client.post(f"{HERE}/members/barn/drain")
        assert client.post(f"{HERE}/step-down")["stepped_down"] is True


def test_who_stands_by_is_promoted_once(node: Serving) -> None:
    node.view.cluster.stands_by = True
    with Client(node.url) as client:
        assert client.post(f"{HERE}/promote") == {"promoted": True, "copied": "2026-01-01T00:00:00.000Z", "behind": 3}
        with pytest.raises(RejectedError, match="does not stand by"):
            client.post(f"{HERE}/promote")


def test_without_a_quorum_what_is_known_is_told_and_the_rest_refused(node: Serving) -> None:
    node.view.cluster.quorum = False
    with Client(node.url) as client:
        assert client.get(f"{HERE}/leader")["leader"] is None
        assert len(client.get(f"{HERE}/members")["members"]) == 2
        with pytest.raises(UnavailableError, match="there is no quorum"):
            client.post(f"{HERE}/members/barn/drain")


def test_a_node_in_no_cluster_says_so(node: Serving) -> None:
    node.view.cluster.off = True
    with Client(node.url) as client:
        assert client.get(HERE)["enabled"] is False
        for path in ("members", "leader", "changes", "pending"):
            with pytest.raises(SkerryError, match="this node is in no cluster"):
                client.get(f"{HERE}/{path}")
        with pytest.raises(SkerryError, match="this node is in no cluster"):
            client.post(f"{HERE}/tokens")
