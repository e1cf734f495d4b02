"""The suite in several processes: nothing is left out, nothing runs twice."""

import re
from pathlib import Path

import pytest

from scripts import suite

TESTS = Path(__file__).resolve().parents[1]


def test_every_test_is_in_exactly_one_process() -> None:
    found = suite.groups(TESTS)
    roots = [TESTS.parent / name for group in found for name in group]
    covered = [file for root in roots for file in (root.rglob("test_*.py") if root.is_dir() else [root])]
    assert sorted(covered) == sorted(TESTS.rglob("test_*.py"))
    for group, names in zip(suite.GROUPS, found[2:], strict=False):
        assert {f"tests/{name}" for name in group} == set(names)


def test_the_engines_do_not_meet_the_command_line_in_one_process() -> None:
    """An exit of openvino after the tests of the command line ends the process."""
    (place,) = (names for names in suite.groups(TESTS) if "tests/inference" in names)
    assert "tests/cli" not in place


def test_arguments_go_to_pytest_alone() -> None:
    assert suite.main(["--version"]) == 0
    assert suite.main(["tests/nowhere"]) != 0


ONCE = """
from pathlib import Path

def test_fails_the_first_time():
    seen = Path(__file__).with_name("seen")
    if not seen.exists():
        seen.write_text("")
        raise AssertionError
"""
ALWAYS = "def test_fails():\n    raise AssertionError\n"
KILLED = """
import os
from pathlib import Path

def test_ends_the_process_the_first_time():
    seen = Path(__file__).with_name("seen")
    if not seen.exists():
        seen.write_text("")
        os.kill(os.getpid(), 9)
"""
PASSES = "def test_passes():\n    pass\n"


@pytest.mark.parametrize(
    ("files", "code", "runs_of_it"),
    [
        pytest.param({"a": PASSES, "b": PASSES}, 0, 1, id="all pass"),
        pytest.param({"a": ONCE, "b": PASSES}, 0, 2, id="one passes alone"),
        pytest.param({"a": ONCE, "b": ALWAYS}, 1, 2, id="one fails alone too"),
        pytest.param(dict.fromkeys("abcdefg", ALWAYS), 1, 1, id="too many for accidents"),
        pytest.param({"a": KILLED, "b": PASSES}, 0, 2, id="a process dies once"),
        pytest.param({"a": "import nothing_of_this_name\n", "b": ONCE}, 2, 1, id="one cannot be read"),
    ],
)
def test_what_failed_beside_others_runs_once_more_alone(
    files: dict[str, str],
    code: int,
    runs_of_it: int,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capfd: pytest.CaptureFixture[str],
) -> None:
    for name, text in files.items():
        (tmp_path / "tests" / name).mkdir(parents=True)
        (tmp_path / "tests" / name / f"test_{name}.py").write_text(text)
    monkeypatch.setattr(suite, "ROOT", tmp_path)
    assert suite.main([]) == code
    said = capfd.readouterr().out
    ended = "passed" if code == 0 else f"ended with {code}"
    assert re.search(rf"^{ended} in [0-9]+ s: tests/a", said, re.MULTILINE), said
    assert ("once more, with nothing beside" in said) == (runs_of_it == 2)
    assert ("passed alone: tests/a" in said) == (code == 0 and runs_of_it == 2)
