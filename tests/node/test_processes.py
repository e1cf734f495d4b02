"""The processes of a node, and the last words of those that have ended: with a real node whose parts are killed."""

import json
import os
import signal
from pathlib import Path
from typing import Any

import pytest

from skerry.node.processes import Process, rows
from skerry.node.uptime import KILLED
from skerry.runtime import Exit
from tests.fixtures.node import RunningNode, until

PIPELINE = """
[[pipelines]]
name = "level"
source = { topic = "devices/+/v", format = "json", values = ["x"] }
"""


def test_one_that_runs_says_what_it_uses() -> None:
    (row,) = rows([Process("agent", os.getpid())])
    assert row["pid"] == os.getpid()
    assert 1 << 20 < row["memory"] <= row["peak"]
    assert row["cpu_s"] > 0
    assert row["started"].endswith("Z")
    assert (row["restarts"], row["quarantined"], row["last"]) == (0, False, None)


def test_one_that_does_not_run_uses_nothing() -> None:
    (row,) = rows([Process("worker-0", None, 10, True, "it used 600 MiB, allowed are 512 MiB", Exit(-9, "a\nb", 600 << 20))])
    assert (row["pid"], row["memory"], row["peak"], row["cpu_s"], row["started"]) == (None, 0, 0, 0.0, None)
    assert (row["restarts"], row["quarantined"]) == (10, True)
    assert row["last"] == {
        "words": "it used 600 MiB, allowed are 512 MiB", "exit_code": None, "signal": "SIGKILL", "peak": 600 << 20,
        "stderr": ["a", "b"],
    }  # fmt: skip


@pytest.mark.parametrize(
    ("process", "words"),
    [
        (Process("x", None, last=Exit(3, "no model\n")), "exit code 3: no model"),
        (Process("x", None, words="it could not be started: no such file"), "it could not be started: no such file"),
    ],
)
def test_what_is_known_is_said(process: Process, words: str) -> None:
    (row,) = rows([process])
    assert row["last"]["words"] == words


def last_words(node: RunningNode, name: str) -> dict[str, Any] | None:
    """The row of a process that runs again, once its last words are there."""
    rows = [row for row in node.status()["processes"] if row["name"] == name and row["last"] and row["pid"]]
    return rows[0] if rows else None


def gaps(node: RunningNode) -> list[dict[str, Any]]:
    with node.client() as client:
        found: list[dict[str, Any]] = client.get("/api/v1/node/uptime", {"over": "1h"})["gaps"]
    return found


def test_a_node_whose_parts_are_killed(tmp_path: Path) -> None:
    """Last words of worker and broker; and the ledger: what was no gap, what was one, and the kill -9 of the agent itself."""
    with RunningNode(tmp_path, PIPELINE) as node:
        before = {row["name"]: row["pid"] for row in node.status()["processes"]}
        assert set(before) == {"agent", "nats-server", "worker-0"}
        node.kill("worker", signal.SIGKILL)
        row = until(lambda: last_words(node, "worker-0"), 10, "the worker runs again")
        assert row["pid"] != before["worker-0"]
        assert any("worker 0 was restarted 1 times: ended by SIGKILL" in each for each in node.status()["warnings"])
        node.kill("nats-server", signal.SIGKILL)
        for each in (row, until(lambda: last_words(node, "nats-server"), 15, "the broker runs again")):
            assert (each["last"]["signal"], each["last"]["exit_code"], each["quarantined"]) == ("SIGKILL", None, False)
            assert each["last"]["peak"] > 4 << 20
        until(lambda: node.status()["ready"], 15, "it is ready again")
        ledger = node.data / "uptime.json"
        until(lambda: json.loads(ledger.read_bytes())["first"], 20, "a busy disk has taken the ledger")
        known = gaps(node)
        node.kill("all", signal.SIGKILL)
        node.start()
        until(lambda: gaps(node)[-1]["over"], 5, "the gap is over")
        *earlier, last = gaps(node)
        assert (last["planned"], last["reason"]) == (False, KILLED)
        assert 0 < last["seconds"] < 60
        assert [gap["reason"] for gap in earlier] == [gap["reason"] for gap in known]
        assert node.status()["starts"] == 2
        assert 0 < until(lambda: node.status()["uptime_ratio"], 5, "it has been up since") < 1
