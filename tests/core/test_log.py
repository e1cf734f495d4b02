"""The log: JSON lines in a file of its owner's only, and nothing loaded before the first line."""

import json
import logging
import subprocess
import sys
from pathlib import Path

import pytest

from skerry.core import log


@pytest.fixture(autouse=True)
def _as_it_was() -> object:
    root = logging.getLogger()
    handlers, level = root.handlers[:], root.level
    yield None
    for handler in root.handlers[:]:
        if handler not in handlers:
            root.removeHandler(handler)
            handler.close()
    root.handlers[:] = handlers
    root.setLevel(level)


def test_lines_are_json_in_a_file_that_only_its_owner_reads(tmp_path: Path) -> None:
    path = tmp_path / "deep" / "skerry.log"
    log.configure("info", path, quiet=True)
    room = log.get("broker")
    room.info("ready", port=5)
    room.debug("not this")
    logging.getLogger("other").warning("from a library")
    lines = [json.loads(line) for line in path.read_text().splitlines()]
    assert [(line["event"], line["level"]) for line in lines] == [("ready", "info"), ("from a library", "warning")]
    assert lines[0]["port"] == 5
    assert lines[0]["timestamp"].endswith("Z")
    assert path.stat().st_mode & 0o077 == 0


def test_text_from_outside_does_not_drive_the_terminal(capsys: pytest.CaptureFixture[str]) -> None:
    log.configure("info")
    log.get("audit").warning("log-in refused", device="\x1b]0;mine\x07\x1b[2J\x9b31m", why="a\nb")
    shown = capsys.readouterr().err
    assert shown.isascii()
    assert not [sign for sign in shown if not sign.isprintable() and sign != "\n"]
    assert shown.count("\n") == 1
    assert r"device=\x1b]0;mine\x07\x1b[2J\x9b31m" in shown


def test_a_failure_is_shown_in_lines(capsys: pytest.CaptureFixture[str]) -> None:
    log.configure("info")
    try:
        raise ValueError("odd \x1b[2J")
    except ValueError:
        logging.getLogger("other").exception("it failed")
    shown = capsys.readouterr().err
    assert "Traceback (most recent call last):\n" in shown
    assert "\x1b" not in shown
    assert r"ValueError: odd \x1b[2J" in shown


def test_nothing_is_loaded_before_the_first_line() -> None:
    code = "import sys; from skerry.core import log; log.get('x'); print('structlog' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True, timeout=60).stdout == "False\n"


def test_a_process_of_the_node_does_not_load_what_draws_tracebacks_and_can_still_load_it() -> None:
    code = "import sys; from skerry.core import log; log.configure(); "
    code += "print([m in sys.modules for m in ('structlog', 'rich', 'pygments')]); import rich; print(rich.__name__)"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True, timeout=60)
    assert done.stdout == "[True, False, False]\nrich\n"


def test_a_program_that_sets_up_nothing_keeps_its_stdout() -> None:
    code = """
from skerry.core import log
room = log.get("mqtt")
room.info("nobody asked for this")
room.warning("the connection was lost", client="c")
"""
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout == ""
    assert done.stderr == "the connection was lost client=c\n"
