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


def test_nothing_is_loaded_before_the_first_line() -> None:
    code = "import sys; from skerry.core import log; log.get('x'); print('structlog' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True, timeout=60).stdout == "False\n"
