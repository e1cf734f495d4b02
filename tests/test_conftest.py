"""The guards of conftest.py must be able to fail: small suites of their own, run in a process of their own."""

import os
import shutil
import subprocess
import sys
from pathlib import Path

import psutil
import pytest

HERE = Path(__file__).parent

ORPHAN = """
import subprocess, sys

def test_leaves_an_orphan():
    # the middle process ends at once, as a killed agent does, so that nothing links the sleeper to pytest
    quiet = "stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL"
    code = f"import subprocess; print(subprocess.Popen(['sleep', '61.5'], {quiet}).pid)"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    open("pid", "w").write(done.stdout)
"""

CHILD = """
import subprocess

def test_leaves_a_child():
    open("pid", "w").write(str(subprocess.Popen(["sleep", "61.5"], env={}).pid))
"""

SKIP = """
import pytest

def test_skips():
    pytest.skip("{reason}")
"""

MODULE_SKIP = """
import pytest

pytest.skip("{reason}", allow_module_level=True)
"""


def run_suite(folder: Path, text: str, ci: str = "") -> subprocess.CompletedProcess[str]:
    shutil.copy(HERE / "conftest.py", folder / "conftest.py")
    (folder / "test_it.py").write_text(text)
    (folder / "pytest.ini").write_text("[pytest]\nmarkers = system\n")
    return subprocess.run(
        [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", "-p", "no:hypothesispytest", "test_it.py"],
        cwd=folder,
        env={**os.environ, "CI": ci},
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )


@pytest.mark.parametrize("text", [ORPHAN, CHILD], ids=["orphan", "child"])
def test_a_process_left_behind_fails_the_run_and_is_ended(tmp_path: Path, text: str) -> None:
    done = run_suite(tmp_path, text)
    assert done.returncode == 1, done.stdout
    assert "processes left behind" in done.stdout
    assert "sleep 61.5" in done.stdout
    pid = int((tmp_path / "pid").read_text())
    assert not psutil.pid_exists(pid) or psutil.Process(pid).status() == psutil.STATUS_ZOMBIE


@pytest.mark.parametrize(
    ("ci", "reason", "code"),
    [("true", "no broker here", 1), ("true", "optional: no recordings here", 0), ("", "no broker here", 0)],
)
def test_a_skip_fails_in_ci_unless_it_is_optional(tmp_path: Path, ci: str, reason: str, code: int) -> None:
    done = run_suite(tmp_path, SKIP.format(reason=reason), ci)
    assert done.returncode == code, done.stdout
    assert (f"skipped under CI: {reason}" in done.stdout) == bool(code)


def test_a_module_that_skips_itself_fails_in_ci(tmp_path: Path) -> None:
    done = run_suite(tmp_path, MODULE_SKIP.format(reason="library missing"), "true")
    assert done.returncode != 0, done.stdout
    assert "skipped under CI: library missing" in done.stdout


def test_free_ports_differ(free_port: int, free_ports: object) -> None:
    assert callable(free_ports)
    ports = free_ports(5)
    assert len(set(ports)) == 5
    assert all(0 < port < 65536 for port in [free_port, *ports])


def test_system_tests_are_marked_by_their_place(tmp_path: Path) -> None:
    (tmp_path / "system").mkdir()
    (tmp_path / "system" / "test_there.py").write_text("def test_there():\n    pass\n")
    shutil.copy(HERE / "conftest.py", tmp_path / "conftest.py")
    (tmp_path / "test_here.py").write_text("def test_here():\n    pass\n")
    (tmp_path / "pytest.ini").write_text("[pytest]\nmarkers = system\n")
    done = subprocess.run(
        [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", "-m", "system", "--collect-only"],
        cwd=tmp_path,
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert "test_there" in done.stdout
    assert "test_here" not in done.stdout
