"""`skerry cluster` as it is typed, on a node in memory; on real ones: tests/cluster/test_commands.py."""

import json

import pytest

from tests.api.fake_view import Serving
from tests.cli.conftest import Call


def test_members_and_leader_are_drawn(call: Call, node: Serving) -> None:
    lines = call("cluster", "members").out.splitlines()
    assert lines[0].split() == ["NODE", "STATUS", "ADDRESS", "VERSION", "CAPABILITIES", "PARTITIONS"]
    assert lines[1].split() == ["box", "Online", "box:7443", "0.1.0", "gpu", "1", "leads"]
    assert lines[2].split() == ["barn", "Online", "barn:7443", "0.1.0", "gpu", "1"]
    assert call("cluster", "leader").out == "box leads, epoch 3\n"
    assert json.loads(call("--json", "cluster", "leader").out)["epoch"] == 3
    node.view.cluster.quorum = False
    assert call("cluster", "leader").out == "nobody is known to lead: no quorum since 2026-01-01T00:00:00.000Z\n"
    assert call("cluster", "members").out.splitlines()[-1].startswith("no quorum since 2026-01-01")


def test_a_token_is_shown_once_and_in_quiet_too(call: Call, node: Serving) -> None:
    answer = call("cluster", "token", "create")
    assert answer.out == "skj1.a.b\n"
    assert "skerry cluster join --token TOKEN" in answer.err
    assert call("-q", "cluster", "token", "create") == (0, "skj1.a.b\n", "")
    long = call("--json", "cluster", "token", "create", "--expires", "2h")
    assert json.loads(long.out) == {"token": "skj1.a.b", "expires_in": 7200}
    too_long = call("cluster", "token", "create", "--expires", "30d")
    assert (too_long.code, "a week is the most" in too_long.err) == (1, True)


def test_who_waits_is_shown_and_let_in(call: Call, node: Serving) -> None:
    assert call("cluster", "pending").out.splitlines()[1].split() == ["shed", "shed:7443", "0a0b-0c0d-0e0f"]
    assert call("cluster", "approve", "shed", "1").code == 1
    assert call("cluster", "approve", "shed", "0a0b-0c0d-0e0f").out == "shed is let in\n"


def test_changes_are_shown_as_they_come(call: Call, node: Serving) -> None:
    lines = call("cluster", "watch", "--for", "0.01").out.splitlines()
    assert lines == ["2026-01-01T00:00:00.000Z box is there, Online", "2026-01-01T00:00:00.000Z barn is there, Online"]
    rows = [json.loads(line) for line in call("--json", "cluster", "watch", "--for", "0.01").out.splitlines()]
    assert [row["node"] for row in rows] == ["box", "barn"]


def test_work_is_taken_off_and_given_back(call: Call, node: Serving) -> None:
    assert call("cluster", "drain", "barn").out == "barn is in maintenance: its work goes elsewhere\n"
    assert call("cluster", "resume", "barn").out == "barn gets work again\n"
    assert call("cluster", "remove", "barn").out == "barn is no member any more\n"
    assert call("cluster", "remove", "barn").code == 1
    assert "another takes the office" in call("cluster", "step-down").out
    node.view.cluster.quorum = False
    refused = call("cluster", "drain", "box")
    assert (refused.code, "there is no quorum" in refused.err) == (1, True)


def test_only_a_person_promotes(call: Call, node: Serving) -> None:
    refused = call("cluster", "promote")
    assert (refused.code, "--yes" in refused.err) == (1, True)
    assert "does not stand by" in call("cluster", "promote", "--yes").err
    node.view.cluster.stands_by = True
    assert call("cluster", "promote", "--yes").out == "this node goes on with the log as it was at 2026-01-01T00:00:00.000Z\n"


@pytest.mark.parametrize("command", ["members", "leader", "pending", "watch", "drain x", "token create", "step-down", "remove x"])
def test_a_node_in_no_cluster_says_so(call: Call, node: Serving, command: str) -> None:
    node.view.cluster.off = True
    answer = call("cluster", *command.split())
    assert (answer.code, answer.out) == (1, "")
    assert "this node is in no cluster" in answer.err


def test_without_a_node_there_is_nobody_to_ask(call: Call) -> None:
    assert call("cluster", "members").code in (2, 3)
