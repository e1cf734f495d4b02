"""`skerry data`: the last events, and the history of a node that runs or of its files."""

import json
import subprocess
import sys
from pathlib import Path

import pytest

from skerry.cli.data import show_event
from tests.api.fake_view import Serving, event
from tests.cli.conftest import TOML, Call
from tests.cli.test_entry import environment
from tests.historian.rig import BEGIN, SECOND, filled


def test_the_last_events(call: Call, node: Serving) -> None:
    assert call("data", "tail").out == ""
    for number in range(15):
        node.add_event(event(number, key=f"pump-{number % 2}"))
    lines = call("data", "tail").out.splitlines()
    assert len(lines) == 10
    assert lines[-1] == "2025-11-24T16:00:14.000Z  bearing  pump-0  info  score 0.5000  50 samples  2.5 ms"
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
        "2025-11-24T16:00:00.000Z  bearing  a\\x1b[2J  firing  warning  score -  label worn  50 samples  2.5 ms"
    )
    assert show_event({}) == "-  -  -  -  score -  - samples  - ms"


@pytest.fixture
def stopped(tmp_path: Path) -> None:
    """The files of a node that does not run, with an hour of two series."""
    (tmp_path / "skerry.toml").write_text(TOML)
    with filled(tmp_path / "data" / "history"):
        pass


WIDE = ("--from", "2026-01-01T00:00:00Z", "--to", "2027-01-01T00:00:00Z")


def test_series_and_samples_of_a_running_node(call: Call, node: Serving) -> None:
    assert call("data", "series").err == "no series yet\n"
    node.view.history = {"a/v/x": [(BEGIN, 1.5), (BEGIN + 250_001, -2.0)], "b/v/x": []}
    assert call("data", "series").out == "a/v/x\nb/v/x\n"
    assert json.loads(call("data", "series", "--prefix", "b", "--json").out) == {"series": [{"name": "b/v/x"}]}
    lines = call("data", "query", "a/v/x", *WIDE).out.splitlines()
    assert lines == ["2026-11-24T17:40:00.000000Z  1.5", "2026-11-24T17:40:00.250001Z  -2.0"]
    found = json.loads(call("data", "query", "a/v/x", *WIDE, "--json").out)
    assert found == {"name": "a/v/x", "every": None, "agg": None, "times": [BEGIN, BEGIN + 250_001], "values": [1.5, -2.0]}
    assert call("data", "query", "b/v/x").err == "no samples in that time\n"
    call("data", "query", "a/v/x", "--every", "5m", "--agg", "max")
    assert node.view.asked == (300 * SECOND, "max")
    answer = call("data", "query", "a/v/y")
    assert (answer.code, "there is no series 'a/v/y'" in answer.err) == (1, True)


@pytest.mark.usefixtures("stopped")
def test_the_files_of_one_that_is_stopped(call: Call) -> None:
    assert call("data", "series").out == "a/v/x\nb/v/x\n"
    found = json.loads(call("data", "query", "a/v/x", *WIDE, "--every", "10m", "--agg", "count", "--json").out)
    assert (found["every"], found["agg"], found["values"]) == ("10m", "count", [600.0] * 6)
    assert found["times"] == [BEGIN + 600 * SECOND * at for at in range(6)]
    answer = call("data", "query", "a/v/y")
    assert (answer.code, "did you mean 'a/v/x'?" in answer.err) == (1, True)


@pytest.mark.usefixtures("stopped")
def test_export_to_a_file_or_stdout(call: Call, tmp_path: Path) -> None:
    lines = call("data", "export", "b/v/x", *WIDE).out.splitlines()
    assert (lines[0], len(lines), lines[1]) == ("series,time,value", 361, "b/v/x,2026-11-24T17:40:00.000000Z,0.0")
    answer = call("data", "export", *WIDE, "--out", "all.csv", "--json")
    assert json.loads(answer.out) == {"rows": 3960, "series": 2, "file": "all.csv"}
    assert len((tmp_path / "all.csv").read_text().splitlines()) == 3961
    again = call("data", "export", *WIDE, "--out", "all.csv")
    assert (again.code, "all.csv: cannot be made" in again.err) == (1, True)
    hours = call("data", "export", "--prefix", "a", *WIDE, "--every", "20m", "--out", "a.csv")
    assert hours.out == "3 rows of 1 series in a.csv\n"


@pytest.mark.usefixtures("stopped")
def test_export_as_parquet(call: Call, tmp_path: Path) -> None:
    parquet = pytest.importorskip("pyarrow.parquet", reason="optional: pyarrow is not installed")
    assert call("data", "export", "a/v/x", *WIDE, "--format", "parquet", "--out", "a.parquet").code == 0
    assert parquet.read_table(tmp_path / "a.parquet").num_rows == 3600
    answer = call("data", "export", "--format", "parquet")
    assert (answer.code, answer.err) == (1, "error: --out: needs a file to write to; name one\n")


def test_wrong_times_are_said(call: Call, node: Serving) -> None:
    assert "'yesterday' will not do" in call("data", "query", "a", "--from", "yesterday").err
    assert "is not a duration" in call("data", "query", "a", "--every", "often").err
    assert call("data", "query", "a", "--from", "-2h", "--to", "-1h").code == 1


def test_no_history_is_said(call: Call, tmp_path: Path) -> None:
    (tmp_path / "skerry.toml").write_text(TOML)
    answer = call("data", "series")
    assert (answer.code, "there is no history" in answer.err) == (1, True)
    assert not (tmp_path / "data" / "history").exists()
