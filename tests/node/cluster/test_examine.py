"""`skerry doctor` about a cluster: what it says of a member that answers, of one that does not, and of clocks."""

from collections.abc import Iterator
from pathlib import Path

import pytest

from skerry.cluster import EdgeNode, NodeStatus
from skerry.config import load
from skerry.core.clock import ManualClock, SystemClock
from skerry.node.cluster import cluster_folder, examine_cluster, prepare
from skerry.node.cluster.known import write_known
from tests.fixtures.node import RunningNode, until

CLUSTER = '[cluster]\nenabled = true\nlisten = "127.0.0.1:0"\ndiscovery = "seeds"\n'
CLOCK = SystemClock()


@pytest.fixture(scope="module")
def member(tmp_path_factory: pytest.TempPathFactory) -> Iterator[RunningNode]:
    with RunningNode(tmp_path_factory.mktemp("member"), CLUSTER) as node:
        until(lambda: node.status()["cluster"]["leader"], 30, "it leads")
        yield node


def test_members_are_asked_for_their_clocks(member: RunningNode, tmp_path: Path) -> None:
    file = tmp_path / "skerry.toml"
    file.write_text(member.file.read_text().replace('name = "rock"', 'name = "reef"'))
    config = load(file)
    (found,) = examine_cluster(config, None, CLOCK)
    assert found == ("cluster", "ok", "it has joined no other: the next start makes a cluster of one", "")
    assert not cluster_folder(config).exists()
    prepare(config, CLOCK)
    address = member.status()["cluster"]["address"]
    known = (("rock", address), ("reef", ""), ("gone", "127.0.0.1:1"))
    write_known(cluster_folder(config), tuple(EdgeNode(name, where, NodeStatus.ONLINE) for name, where in known))
    ok, gone = examine_cluster(config, None, CLOCK)
    assert ok == ("member rock", "ok", f"answers at {address}, its clock is right", "")
    assert gone[:2] == ("member gone", "warn")
    assert "127.0.0.1:1 does not answer" in gone[2]
    late, _ = examine_cluster(config, None, ManualClock(CLOCK.now() - 60_000_000))
    assert late[:2] == ("member rock", "warn")
    assert "ahead of the cluster's" in late[2]
    assert late[3] == "have NTP set the clocks of both"


def test_the_running_nodes_word_comes_first(member: RunningNode) -> None:
    config, status = load(member.file), member.status()
    assert list(examine_cluster(config, status, CLOCK)) == [("cluster", "ok", "1 of 1 nodes are online; rock leads", "")]
    lost = {"cluster": {"no_quorum_since": "2026-01-01T00:00:00.000Z", "sentence": "no quorum since 2026"}}
    (found,) = examine_cluster(config, lost, CLOCK)
    assert found[:3] == ("cluster", "warn", "no quorum since 2026")


def test_a_node_in_no_cluster_hears_nothing_of_it(tmp_path: Path) -> None:
    node = RunningNode(tmp_path)
    assert list(examine_cluster(load(node.file), None, CLOCK)) == []
