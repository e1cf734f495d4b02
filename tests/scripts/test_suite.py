"""The suite in several processes: nothing is left out, nothing runs twice."""

from pathlib import Path

from scripts import suite

TESTS = Path(__file__).resolve().parents[1]


def test_every_test_is_in_exactly_one_process() -> None:
    found = suite.groups(TESTS)
    roots = [TESTS.parent / name for group in found for name in group]
    covered = [file for root in roots for file in (root.rglob("test_*.py") if root.is_dir() else [root])]
    assert sorted(covered) == sorted(TESTS.rglob("test_*.py"))
    for group, names in zip(suite.GROUPS, found, strict=False):
        assert {f"tests/{name}" for name in group} == set(names)


def test_the_engines_do_not_meet_the_command_line_in_one_process() -> None:
    """An exit of openvino after the tests of the command line ends the process."""
    (place,) = (names for names in suite.groups(TESTS) if "tests/inference" in names)
    assert "tests/cli" not in place


def test_arguments_go_to_pytest_alone() -> None:
    assert suite.main(["--version"]) == 0
    assert suite.main(["tests/nowhere"]) != 0
