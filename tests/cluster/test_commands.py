"""`skerry cluster` on a real node that is a cluster of one, and nodes that join it, or may not, from the command line."""

import json
import threading
import urllib.request
from collections.abc import Callable, Iterator
from contextlib import closing
from pathlib import Path
from typing import Any, NamedTuple

import pytest

from skerry.cli import main
from skerry.cluster import Servers, write_servers
from skerry.config import load
from skerry.core.clock import SystemClock
from skerry.node.cluster import prepare
from skerry.runtime import free_ports
from tests.fixtures.node import RunningNode, until

PIPELINE = '[[pipelines]]\nname = "levels"\nsource = { topic = "devices/+/level", values = ["x"] }\n'
CLUSTER = '[cluster]\nenabled = true\nlisten = "127.0.0.1:0"\ndiscovery = "seeds"\n'


class Answer(NamedTuple):
    code: int
    out: str
    err: str

    @property
    def json(self) -> dict[str, Any]:
        found: dict[str, Any] = json.loads(self.out)
        return found


Call = Callable[..., Answer]


def made(folder: Path, name: str, more: str = PIPELINE, site: str = "sea") -> RunningNode:
    folder.mkdir(parents=True, exist_ok=True)
    node = RunningNode(folder, CLUSTER + more)
    text = node.file.read_text().replace('name = "rock"', f'name = "{name}"').replace('site = "sea"', f'site = "{site}"')
    node.file.write_text(text)
    return node


@pytest.fixture(scope="module")
def one(tmp_path_factory: pytest.TempPathFactory) -> Iterator[RunningNode]:
    """A cluster of one, with a pipeline."""
    with made(tmp_path_factory.mktemp("n1"), "n1") as node:
        until(lambda: node.status()["cluster"]["leader"] == "n1", 30, "n1 leads")
        yield node


@pytest.fixture
def call(capsys: pytest.CaptureFixture[str]) -> Call:
    def run(node: RunningNode, *arguments: str) -> Answer:
        capsys.readouterr()
        code = main(["--config", str(node.file), *arguments])
        captured = capsys.readouterr()
        return Answer(code, captured.out, captured.err)

    return run


def metrics(node: RunningNode) -> str:
    with urllib.request.urlopen(f"{node.status()['broker']['url']}/metrics", timeout=30) as answer:
        return str(answer.read().decode())


def noted(node: RunningNode, file: str, event: str) -> list[tuple[str, str]]:
    """Node and reason of each line about an event, once there are some: a thread of its own writes them."""

    def rows() -> list[tuple[str, str]]:
        lines = map(json.loads, (node.data / "logs" / file).read_text().splitlines())
        return [(row["node"], row["reason"]) for row in lines if row["event"] == event]

    return until(rows, 30, f"{event} is noted")


def token_of(call: Call, node: RunningNode) -> str:
    return str(call(node, "--json", "cluster", "token", "create").json["token"])


def test_a_cluster_of_one_says_who_it_is(one: RunningNode, call: Call) -> None:
    (member,) = call(one, "--json", "cluster", "members").json["members"]
    assert (member["id"], member["status"], member["leader"], member["site"]) == ("n1", "Online", True, "sea")
    units = [f"levels/{number}" for number in range(4)]
    assert member["partitions"] == units
    leader = call(one, "--json", "cluster", "leader").json
    assert (leader["leader"], leader["no_quorum_since"]) == ("n1", None)
    assert leader["epoch"] >= 1
    status = one.status()["cluster"]
    assert (status["enabled"], status["name"], status["nodes"], status["leader"]) == (True, "sea", 1, "n1")
    assert status["no_quorum_since"] is None
    assert status["partitions"] == dict.fromkeys(units, "n1")
    assert status["sentence"] == "1 of 1 nodes are online; n1 leads"
    assert call(one, "cluster", "members").out.splitlines()[1].split()[:2] == ["n1", "Online"]
    assert call(one, "cluster", "leader").out.startswith("n1 leads, epoch ")
    assert "cluster: 1 of 1 nodes are online; n1 leads" in call(one, "status").out
    text = metrics(one)
    assert "skerry_leader 1.0" in text
    assert 'skerry_members{status="Online"} 1.0' in text
    assert 'skerry_members{status="Offline"} 0.0' in text


def test_a_second_node_joins_by_a_token_that_works_once(one: RunningNode, call: Call, tmp_path: Path) -> None:
    made_token = call(one, "--json", "cluster", "token", "create", "--expires", "10m").json
    assert made_token["expires_in"] == 600
    token = made_token["token"]
    other = made(tmp_path / "n2", "n2")
    joined = call(other, "--json", "cluster", "join", "--token", token)
    assert joined.code == 0
    assert (joined.json["joined"], joined.json["by"], joined.json["warnings"]) == ("n2", "n1", [])
    assert [node["id"] for node in joined.json["members"]] == ["n1"]
    steps = joined.err.splitlines()
    assert steps[0].startswith("asking 127.0.0.1:")
    assert steps[1].startswith("n1 is of the site sea and runs skerry")
    assert steps[2].startswith("n1 let it in")
    for shared in ("tls/ca.pem", "tls/ca.key", "keys/issuer.seed", "keys/ticket.pem"):
        assert (other.data / shared).read_bytes() == (one.data / shared).read_bytes()
        assert (other.data / shared).stat().st_mode & 0o077 == 0
    again = call(other, "cluster", "join", "--token", token)
    assert again.code == 1
    assert "this node has joined already" in again.err
    third = call(made(tmp_path / "n3", "n3"), "cluster", "join", "--token", token)
    assert third.code == 1
    assert "the token was used before; have a member make another token" in third.err
    assert noted(one, "audit.log", "node joined") == [("n2", "by its token")]
    assert noted(one, "audit-clients.log", "join refused") == [("n3", "the token was used before")]


def test_a_person_lets_a_node_in_by_its_code(one: RunningNode, call: Call, tmp_path: Path) -> None:
    other = made(tmp_path / "n4", "n4")
    address = call(one, "--json", "cluster", "members").json["members"][0]["address"]
    codes: list[int] = []
    waiting = threading.Thread(
        target=lambda: codes.append(main(["--config", str(other.file), "-q", "cluster", "join", "--address", address]))
    )
    waiting.start()
    (row,) = until(lambda: call(one, "--json", "cluster", "pending").json["pending"], 30, "n4 waits")
    assert row["node"] == "n4"
    assert row["code"] in call(one, "cluster", "pending").out
    wrong = call(one, "cluster", "approve", "n4", "0000-0000-0000")
    assert wrong.code == 1
    assert "no node n4 waits with the code 0000-0000-0000" in wrong.err
    assert call(one, "cluster", "approve", "n4", row["code"]).out == "n4 is let in\n"
    waiting.join(30)
    assert codes == [0]
    assert (other.data / "cluster" / "joined.json").is_file()


@pytest.mark.parametrize(
    ("name", "site", "why"),
    [
        ("n1", "sea", "a node called n1 is in the cluster and Online; set another [node] name"),
        ("n5", "farm", "n1 is of the site sea, this node of farm; set [node] site"),
    ],
)
def test_who_may_not_join_is_told_why(one: RunningNode, call: Call, tmp_path: Path, name: str, site: str, why: str) -> None:
    other = made(tmp_path, name, site=site)
    answer = call(other, "cluster", "join", "--token", token_of(call, one))
    assert answer.code == 1
    assert why in answer.err
    assert not (other.data / "cluster" / "joined.json").exists()


def test_another_version_is_told_to_both(one: RunningNode, call: Call, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("skerry.cluster.config.metadata.version", lambda name: "9.9.9")
    answer = call(made(tmp_path, "n6"), "cluster", "join", "--token", token_of(call, one))
    assert answer.code == 1
    assert "which does not work with 9.9.9 here" in answer.err
    assert "install a version that is at most one minor version apart" in answer.err


def test_join_needs_somebody_to_ask_and_a_node_that_does_not_run(one: RunningNode, call: Call, tmp_path: Path) -> None:
    nobody = call(made(tmp_path, "n7"), "cluster", "join")
    assert nobody.code == 1
    assert "no member's address is known; name one with --address" in nobody.err
    gone = call(made(tmp_path, "n7"), "cluster", "join", "--address", "127.0.0.1:1")
    assert gone.code == 1
    assert "is the node there running?" in gone.err
    nonsense = call(made(tmp_path, "n7"), "cluster", "join", "--token", "skj1.x")
    assert nonsense.code == 1
    assert "that is no join token" in nonsense.err
    running = call(one, "cluster", "join", "--token", token_of(call, one))
    assert running.code == 1
    assert "is in use by another skerry" in running.err
    assert call(made(tmp_path, "n7"), "cluster", "members").code == 3


def test_a_node_is_drained_and_resumed_and_the_changes_are_seen(one: RunningNode, call: Call) -> None:
    def status() -> str:
        return str(call(one, "--json", "cluster", "members").json["members"][0]["status"])

    assert call(one, "--json", "cluster", "drain", "n1").json == {"drained": "n1"}
    until(lambda: status() == "Maintenance", 30, "n1 is in maintenance")
    assert call(one, "cluster", "resume", "n1").code == 0
    until(lambda: status() == "Online", 30, "n1 is online")
    for command in ("drain", "resume", "remove"):
        answer = call(one, "cluster", command, "nobody")
        assert answer.code == 1
        assert "there is no node 'nobody'" in answer.err
    there = call(one, "cluster", "remove", "n1")
    assert there.code == 1
    assert "a node does not take itself out; ask another member" in there.err
    lines = call(one, "--json", "cluster", "watch", "--for", "0.1").out.splitlines()
    seen = [(row["kind"], row["node"], row["after"]) for row in map(json.loads, lines)]
    assert seen[0] == ("joined", "n1", "Online")
    assert [row for row in seen if row[0] == "status"][-2:] == [("status", "n1", "Maintenance"), ("status", "n1", "Online")]
    assert "n1 Maintenance" in call(one, "cluster", "watch", "--for", "0.1").out
    until(lambda: '"event":"node drained"' in (one.data / "logs" / "audit.log").read_text(), 30, "it is noted")
    until(lambda: '"event":"cluster status"' in (one.data / "logs" / "audit.log").read_text(), 30, "the change is noted")


def test_the_office_is_given_up_and_taken_again_with_the_next_epoch(one: RunningNode, call: Call) -> None:
    before = call(one, "--json", "cluster", "leader").json["epoch"]
    assert call(one, "cluster", "step-down").code == 0
    after = until(
        lambda: (found := call(one, "--json", "cluster", "leader").json)["leader"] and found["epoch"] > before and found,
        30,
        "n1 leads again",
    )
    assert after["leader"] == "n1"


def test_without_a_quorum_every_command_answers_in_time(call: Call, tmp_path: Path) -> None:
    """A node that starts as one of three, of which the others are not there."""
    node = made(tmp_path, "n1")
    prepare(load(node.file), SystemClock())
    ports = free_ports("127.0.0.1", [0, 0, 0])
    servers = Servers("sea", 3, tuple((f"n{at}", f"127.0.0.1:{port}") for at, port in enumerate(ports, 1)))
    write_servers(node.data / "cluster", servers)
    with closing(node):
        node.start(ready=False)
        since = until(lambda: call(node, "--json", "cluster", "leader").json["no_quorum_since"], 30, "there is no quorum")
        until(lambda: "no quorum since" in node.status()["cluster"]["sentence"], 60, "it is told")
        (member,) = call(node, "--json", "cluster", "members").json["members"]
        assert (member["id"], member["status"]) == ("n1", "Suspect")
        assert "nothing was heard of it" in member["reason"]
        assert f"no quorum since {since}" in call(node, "cluster", "members").out
        assert f"nobody is known to lead: no quorum since {since}" in call(node, "cluster", "leader").out
        refused = call(node, "cluster", "drain", "n1")
        assert (refused.code, f"there is no quorum since {since}: nothing is changed" in refused.err) == (1, True), refused.err
        assert call(node, "cluster", "step-down").code == 1
        assert call(node, "cluster", "token", "create").code == 1
        for command, code in (("device list", 1), ("pipeline deadletters levels", 1), ("kv set a b", 0), ("pipeline list", 0)):
            assert call(node, *command.split()).code == code, command
        status = node.status()
        assert status["ready"] is False
        assert status["reason"].startswith(f"no quorum since {since}")
        assert any("is not acknowledged" in warning for warning in status["warnings"])
        assert f"cluster: no quorum since {since}" in call(node, "status").out
