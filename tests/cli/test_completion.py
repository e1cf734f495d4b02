"""Completion in a real shell: bash on a terminal of its own, with the script that `skerry --show-completion` prints."""

import os
import pty
import select
import shutil
import subprocess
import sys
import time
from pathlib import Path

import pytest

BIN = Path(sys.executable).parent


class Terminal:
    """A shell on a pseudo-terminal."""

    def __init__(self, argv: list[str], home: Path) -> None:
        self.seen = ""
        self._ours, theirs = pty.openpty()
        environment = {"PATH": f"{BIN}:/usr/bin:/bin", "HOME": str(home), "PS1": "$ ", "TERM": "dumb"}
        self._shell = subprocess.Popen(
            argv, stdin=theirs, stdout=theirs, stderr=theirs, env=environment, cwd=home, start_new_session=True
        )
        os.close(theirs)

    def type(self, keys: str, until: str, seconds: float = 30.0) -> None:
        """Press these keys and wait for what is to appear after that."""
        begin = len(self.seen)
        os.write(self._ours, keys.encode())
        end = time.monotonic() + seconds
        while until not in self.seen[begin:]:
            assert time.monotonic() < end, f"no {until!r} after {keys!r}: {self.seen[begin:]!r}"
            if select.select([self._ours], [], [], 0.2)[0]:
                self.seen += os.read(self._ours, 4096).decode(errors="replace")

    def close(self) -> None:
        self._shell.kill()
        self._shell.wait()
        os.close(self._ours)


@pytest.mark.skipif(shutil.which("bash") is None, reason="optional: bash is not installed")
def test_bash_completes_commands_and_options(tmp_path: Path) -> None:
    terminal = Terminal(["bash", "--noprofile", "--norc", "-i"], tmp_path)
    try:
        terminal.type('eval "$(_SKERRY_COMPLETE=source_bash skerry)"; echo re""ady\n', "ready")
        terminal.type("skerry pipel\t", "skerry pipeline ")
        terminal.type("dead\t", "letters ")
        terminal.type("--ret\t", "retry ")
    finally:
        terminal.close()


@pytest.mark.parametrize("shell", ["bash", "zsh", "fish"])
def test_there_is_a_script_for_each_shell(shell: str) -> None:
    environment = {**os.environ, "_SKERRY_COMPLETE": f"source_{shell}"}
    done = subprocess.run([BIN / "skerry"], env=environment, capture_output=True, text=True, check=False, timeout=60)
    assert (done.returncode, done.stderr) == (0, "")
    assert "_SKERRY_COMPLETE" in done.stdout
