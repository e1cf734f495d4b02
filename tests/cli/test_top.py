"""`skerry top`: its pictures from given answers, and itself in a real terminal over a real node."""

import json
import secrets
import shutil
import subprocess
import sys
from collections import deque
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from skerry.cli.top import BARS, KEPT, History, screen, sparkline, watch
from skerry.core.clock import SECOND, ManualClock
from skerry.core.errors import UnavailableError
from tests.api.fake_view import Serving
from tests.cli.conftest import Call
from tests.fixtures.node import RunningNode, until
from tests.fixtures.raw_mqtt import RawMqtt

PIPELINE = """
[[pipelines]]
name = "level"
source = { topic = "devices/+/v", format = "json", values = ["x"] }
"""


def answer(received: int = 0, cpu_s: float = 0.0, **more: Any) -> dict[str, Any]:
    pipeline = {
        "name": "p", "state": "running", "rate": 7.0, "lag": 1234, "latency_ms": {"p50": 1.25, "p99": None},
        "ledger": {"received": received},
    }  # fmt: skip
    process = {
        "name": "worker-0", "pid": 42, "memory": 96 << 20, "peak": 128 << 20, "cpu_s": cpu_s, "restarts": 2, "quarantined": False,
        "last": {"words": "ended by SIGKILL"},
    }  # fmt: skip
    return {
        "node": "rock", "site": "sea", "version": "0.1.0", "ready": True, "uptime_ratio": 0.5, "pipelines": [pipeline],
        "processes": [process], "promises": {"bandwidth": {"sentence": "1.0 MiB in"}}, **more,
    }  # fmt: skip


def test_rates_are_what_counters_grow_by() -> None:
    history = History()
    history.take(answer(100, 1.0), 10.0)
    assert (list(history.rates["p"]), history.cpu) == ([7.0], {"worker-0": 0.0})
    history.take(answer(300, 1.5), 12.0)
    assert (list(history.rates["p"]), history.cpu) == ([7.0, 100.0], {"worker-0": 0.25})
    history.take(answer(250, 0.1), 13.0)
    assert (history.rates["p"][-1], history.cpu) == (0.0, {"worker-0": 0.0})


def test_another_process_of_the_same_name_begins_anew() -> None:
    history = History()
    history.take(answer(), 10.0)
    other = answer(cpu_s=5.0)
    other["processes"][0]["pid"] = 43
    history.take(other, 11.0)
    assert history.cpu == {"worker-0": 0.0}


def test_it_remembers_a_minute_of_what_is_there() -> None:
    history = History()
    for second in range(200):
        history.take(answer(second * 10), float(second))
    assert len(history.rates["p"]) == KEPT
    assert len(history._before) == 2
    history.take({"pipelines": [], "processes": []}, 200.0)
    assert (history.rates, history.cpu, history._before) == ({}, {}, {})


@pytest.mark.parametrize(
    ("values", "line"),
    [([], ""), ([0, 0], "▁▁"), ([5], "█"), ([0, 1, 2, 4, 8], "▁▁▂▄█"[:1] + BARS[1] + BARS[2] + BARS[4] + "█")],
)
def test_a_sparkline(values: list[float], line: str) -> None:
    assert sparkline(values) == line


def test_a_sparkline_is_of_the_last_values() -> None:
    assert len(sparkline(list(range(100)), 24)) == 24
    assert sparkline([100, 1, 2], 2) == "▅█"


def test_a_picture() -> None:
    history = History()
    history.take(answer(), 0.0)
    history.take(answer(1000, 0.5), 1.0)
    lines = screen(answer(warnings=["the disk is\x1b full"]), history, 120)
    assert lines[0] == "rock at sea, skerry 0.1.0: ready, up 50.000 %"
    assert lines[1] == "warning: the disk is\\x1b full"
    assert lines[3].split() == ["PIPELINE", "STATE", "RATE/S", "LAG", "P50", "MS", "P99", "MS", "LAST", "MINUTE"]
    assert lines[4].split() == ["p", "running", "1,000.0", "1,234", "1.2", "-", "▁█"]
    assert lines[7].split() == ["worker-0", "42", "50.0", "96.0", "MiB", "128.0", "MiB", "2", "ended", "by", "SIGKILL"]
    assert lines[9:] == ["bandwidth: 1.0 MiB in", "", "q: end"]


def test_a_picture_fits_and_says_what_is_wrong() -> None:
    status = answer(ready=False, reason="the broker is starting", pipelines=[], warnings=["w" * 200] * 9)
    status["processes"][0]["quarantined"] = True
    lines = screen(status, History(), 80)
    assert max(map(len, lines)) == 80
    assert lines[0] == "rock at sea, skerry 0.1.0: NOT READY: the broker is starting, up 50.000 %"
    assert sum(line.startswith("warning") for line in lines) == 3
    assert "no pipelines" in lines
    assert any("quarantined" in line for line in screen(status, History(), 200))
    assert screen({}, History())[-1] == "q: end"


def test_it_asks_again_until_a_key_ends_it() -> None:
    """A node that does not answer for a while is said, and seen again when it does."""
    clock, drawn = ManualClock(), []
    answers: deque[dict[str, Any] | None] = deque([answer(0), None, answer(500)])
    keys = deque(["", "x", "q"])

    def ask() -> dict[str, Any]:
        found = answers.popleft()
        if found is None:
            raise UnavailableError("the node does not answer", mend="start it")
        return found

    def typed(seconds: float) -> str:
        clock.advance(round(seconds * SECOND))
        return keys.popleft()

    watch(ask, drawn.append, typed, clock, 2.5, lambda: 100)
    rock = "rock at sea, skerry 0.1.0"
    assert [lines[0].partition(":")[0] for lines in drawn] == [rock, "the node does not answer; start it", rock]
    assert "100.0" in drawn[2][3]
    assert not answers


def test_without_a_terminal_it_is_one_picture(call: Call, node: Serving) -> None:
    found = call("top")
    assert (found.code, found.out.splitlines()[0]) == (0, "box at quay, skerry 0.1.0: ready, up 99.987 %")
    assert "bearing" in found.out
    assert json.loads(call("top", "--json").out)["node"] == "box"
    assert call("top", "--every", "0").code == 2


def test_a_node_that_is_not_there(call: Call) -> None:
    assert call("top", "--url", "http://127.0.0.1:9").code == 3


class Terminal:
    """A terminal in tmux, on a server of its own."""

    def __init__(self, folder: Path) -> None:
        self._server = ""
        self._folder = folder

    def tmux(self, *arguments: str) -> str:
        done = subprocess.run(
            ["tmux", "-S", self._server, "-f", "/dev/null", *arguments], capture_output=True, text=True, check=False, timeout=20
        )
        return done.stdout

    def start(self, *arguments: str) -> None:
        self._server = str(self._folder / secrets.token_hex(2))  # another each time: one that was just ended may still hold its own
        words = [sys.executable, "-m", "skerry.cli", *arguments]
        command = f"{' '.join(words)}; echo ended with $?; exec sleep 60"
        self.tmux("new-session", "-d", "-x", "110", "-y", "40", "-c", str(self._folder), command)

    @property
    def shown(self) -> str:
        return self.tmux("capture-pane", "-p")

    def close(self) -> None:
        if self._server:
            self.tmux("kill-server")


@pytest.fixture
def terminal(tmp_path: Path) -> Iterator[Terminal]:
    if shutil.which("tmux") is None:
        pytest.skip(reason="tmux is not installed: scripts/ci-packages installs it")
    found = Terminal(tmp_path)
    yield found
    found.close()


def test_in_a_real_terminal(tmp_path: Path, terminal: Terminal) -> None:
    """Through the socket and over --url: it draws itself again while messages come, and `q` gives the terminal back."""
    with RunningNode(tmp_path, PIPELINE) as node:
        url = str(node.status()["broker"]["url"])
        for where in (["--config", str(node.file)], ["--url", url]):
            terminal.start(*where, "top", "--every", "0.2")
            until(lambda: "worker-0" in terminal.shown, 10, "the processes are shown")
            with RawMqtt(node.mqtt[1]) as device:
                for number in range(40):
                    assert device.publish(b"devices/d/v", json.dumps({"x": number}).encode())
            until(lambda: any(bar in terminal.shown for bar in BARS[1:]), 10, "the rate has its bars")
            shown = terminal.shown
            assert shown.startswith("rock at sea")
            assert all(word in shown for word in ("level", "nats-server", "agent", "CPU %", "efficiency: ", "q: end"))
            terminal.tmux("send-keys", "q")
            until(lambda: "ended with 0" in terminal.shown, 10, "q ends it")
            assert "worker-0" not in terminal.shown
            terminal.close()
