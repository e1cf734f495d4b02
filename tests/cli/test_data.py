"""`skerry data tail`."""

import json
import subprocess
import sys
from pathlib import Path

from skerry.cli.data import show_event
from tests.api.fake_view import Serving, event
from tests.cli.conftest import Call
from tests.cli.test_entry import environment


def test_the_last_events(call: Call, node: Serving) -> None:
    assert call("data", "tail").out == ""
    for number in range(15):
        node.add_event(event(number, key=f"pump-{number % 2}"))
    lines = call("data", "tail").out.splitlines()
    assert len(lines) == 10
    assert lines[-1] == "2025-11-24T16:00:15.000Z  bearing  pump-0  info  score 0.5000  50 samples  2.5 ms"
    odd = json.loads(call("data", "tail", "--key", "pump-1", "-n", "2", "--json").out)
    assert odd == {"events": [node.view.log[11], node.view.log[13]]}
    assert json.loads(call("data", "tail", "--pipeline", "none", "--json").out) == {"events": []}


def test_following_misses_nothing_and_repeats_nothing(node: Serving, tmp_path: Path) -> None:
    for number in range(3):
        node.add_event(event(number))
    command = [sys.executable, "-m", "skerry.cli", "data", "tail", "--follow", "--json", "-n", "2"]
    with subprocess.Popen(command, cwd=tmp_path, env=environment(), stdout=subprocess.PIPE, text=True) as child:
        assert child.stdout is not None
        seen = [json.loads(child.stdout.readline())["id"] for _ in range(2)]
        for number in range(3, 6):
            node.add_event(event(number))
        seen += [json.loads(child.stdout.readline())["id"] for _ in range(3)]
        child.terminate()
    assert seen == [f"{number:04x}" for number in range(1, 6)]


def test_a_stream_that_breaks_ends_with_a_sentence(call: Call, node: Serving) -> None:
    node.view.broken_stream = True
    answer = call("data", "tail", "--follow", "-n", "0")
    assert (answer.code, answer.err) == (1, "error: the log does not answer; wait\n")


def test_one_event_in_one_line() -> None:
    alarm = {**event(0, key="a\x1b[2J"), "state": "firing", "severity": "warning", "label": "worn", "score": None}
    assert show_event(alarm) == (
        "2025-11-24T16:00:01.000Z  bearing  a\\x1b[2J  firing  warning  score -  label worn  50 samples  2.5 ms"
    )
    assert show_event({}) == "-  -  -  -  score -  - samples  - ms"
