"""What a worker was doing is read from its file also after it was killed."""

import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from skerry.pipeline.trace import window_name
from skerry.window.state import Closed
from skerry.worker.trace import Doing, FileTrace, read_trace


def test_notes_are_read_as_they_were_written(tmp_path: Path) -> None:
    path = tmp_path / "trace"
    trace = FileTrace(path)
    assert read_trace(path) == Doing(1, "idle", "", "", "")
    trace.messages("p", 3, 9)
    assert read_trace(path) == Doing(2, "messages", "p", "3", "9")
    trace.windows("p", "k@5", "k@5")
    doing = read_trace(path)
    assert doing == Doing(3, "windows", "p", "k@5", "k@5")
    assert doing.single == "k@5"
    trace.idle()
    assert read_trace(path) == Doing(4, "idle", "", "", "")
    assert path.stat().st_mode & 0o077 == 0


def test_a_range_is_not_single() -> None:
    assert Doing(1, "messages", "p", "3", "9").single == ""
    assert Doing(1, "messages", "p", "3", "3").single == "3"


def test_the_next_life_counts_on(tmp_path: Path) -> None:
    path = tmp_path / "trace"
    first = FileTrace(path)
    first.messages("p", 1, 2)
    FileTrace(path)
    assert read_trace(path) == Doing(3, "idle", "", "", "")


@pytest.mark.parametrize("content", [None, b"", b"short", b"\x00" * 10, b"\x00" * 8 + b"\xff\xff" + b"rubbish", os.urandom(4096)])
def test_no_file_or_rubbish_is_nothing_known(tmp_path: Path, content: bytes | None) -> None:
    path = tmp_path / "trace"
    if content is not None:
        path.write_bytes(content)
    assert read_trace(path) is None


@pytest.mark.parametrize("key", ["a\tb", "a\nb", "ä" * 128, "日本/x y", ""])
def test_names_of_any_key_go_through(tmp_path: Path, key: str) -> None:
    path = tmp_path / "trace"
    name = window_name(Closed(key, 5, 6, [], 0, 0))
    FileTrace(path).windows("p" * 64, name, name)
    doing = read_trace(path)
    assert doing is not None
    assert doing.single == name


def test_names_of_windows_tell_keys_times_and_retries_apart() -> None:
    windows = [
        Closed("a", 1, 2, [], 0, 0),
        Closed("a", 2, 2, [], 0, 0),
        Closed("b", 1, 2, [], 0, 0),
        Closed("a", 1, 2, [], 0, 0, retried=7),
    ]
    assert len({window_name(window) for window in windows}) == 4


KILLED = """
import os, signal, sys
from pathlib import Path
from skerry.worker.trace import FileTrace
FileTrace(Path(sys.argv[1])).messages("p", 7, 7)
os.kill(os.getpid(), signal.SIGKILL)
"""


def test_it_outlives_who_wrote_it(tmp_path: Path) -> None:
    path = tmp_path / "trace"
    ended = subprocess.run([sys.executable, "-c", KILLED, str(path)], check=False, timeout=60)
    assert ended.returncode == -signal.SIGKILL
    doing = read_trace(path)
    assert doing is not None
    assert (doing.kind, doing.pipeline, doing.single) == ("messages", "p", "7")
