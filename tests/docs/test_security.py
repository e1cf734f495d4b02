"""SECURITY.md promises nothing without a test: each test that it names exists, and each row names one."""

import ast
import re

import pytest

from tests.docs.blocks import ROOT

TEXT = (ROOT / "SECURITY.md").read_text("utf-8")
NAMED = re.findall(r"`(tests/[\w/]+\.py)::(\w+)`", TEXT)
ROWS = [line for line in TEXT.splitlines() if line.startswith("| ") and not line.startswith(("| who", "| ---"))]
THREATS = ("a stolen device", "a sniffed link", "a replay", "a rogue node", "a local user", "a curious cloud", "a flood")


def functions(file: str) -> set[str]:
    tree = ast.parse((ROOT / file).read_text("utf-8"))
    return {node.name for node in ast.walk(tree) if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef)}


@pytest.mark.parametrize("file", sorted({file for file, _ in NAMED}))
def test_every_named_test_exists(file: str) -> None:
    assert [name for each, name in NAMED if each == file and name not in functions(file)] == []


def test_every_promise_names_a_test() -> None:
    assert len(ROWS) > 15
    assert [row for row in ROWS if "`tests/" not in row.split("|")[3]] == []


def test_every_threat_has_its_rows_and_nothing_is_left_out() -> None:
    for threat in THREATS:
        assert f"**{threat}**" in TEXT
    assert "\n## What is not promised\n" in TEXT


def test_reports_are_asked_for_in_private() -> None:
    assert "*Security → Report a vulnerability*, not in a public issue" in TEXT


def test_links_lead_somewhere() -> None:
    targets = re.findall(r"\]\(([^)\s]+)\)", TEXT)
    assert targets
    assert [target for target in targets if not (ROOT / target).exists()] == []
