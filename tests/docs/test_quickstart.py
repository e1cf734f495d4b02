"""The quickstart: its files are what its script makes, its commands give what its README says, and a change is noticed."""

import importlib.util
import json
import re
from pathlib import Path
from types import ModuleType

import pytest

from skerry.cli import main
from tests.cli.conftest import Answer
from tests.docs.blocks import ROOT, blocks, calls

QUICKSTART = ROOT / "examples" / "quickstart"
README = [QUICKSTART / "README.md"]
TEST = ("pipeline", "test", "motor-load", "recorded.csv")


@pytest.fixture
def make() -> ModuleType:
    spec = importlib.util.spec_from_file_location("quickstart_make", QUICKSTART / "make.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def call(capsys: pytest.CaptureFixture[str], *arguments: str) -> Answer:
    capsys.readouterr()
    code = main(list(arguments))
    return Answer(code, *capsys.readouterr())


def test_the_files_are_what_the_script_makes(make: ModuleType) -> None:
    assert make.recording() == (QUICKSTART / "recorded.csv").read_text("utf-8")
    import onnx

    assert make.model() == onnx.load(QUICKSTART / "overload.onnx")


def test_the_commands_of_its_readme(quickstart: Path, capsys: pytest.CaptureFixture[str]) -> None:
    offline = [arguments for _, arguments in calls("skerry", README) if arguments[0] == "pipeline"]
    answers = [call(capsys, *arguments) for arguments in offline]
    assert [answer.code for answer in answers] == [0, 0, 0]
    assert answers[1].out == blocks("text", README)[0].text
    assert answers[2].err == "as expected: 2 events\n"


def test_a_changed_expectation_is_noticed(quickstart: Path, capsys: pytest.CaptureFixture[str]) -> None:
    expected = json.loads((quickstart / "expected.json").read_text("utf-8"))
    expected["events"][0]["label"] = "normal"
    (quickstart / "other.json").write_text(json.dumps(expected))
    answer = call(capsys, *TEST, "--expect", "other.json")
    assert answer.code == 1
    assert 'label should be "normal", it is "overload"' in answer.err


def test_a_changed_rule_is_noticed(quickstart: Path, capsys: pytest.CaptureFixture[str]) -> None:
    file = quickstart / "skerry.toml"
    file.write_text(file.read_text("utf-8").replace("above = 0.8", "above = 0.9"))
    answer = call(capsys, *TEST, "--expect", "expected.json")
    assert answer.code == 1
    assert re.search(r"^missing: motor-2 .* \(firing\)$", answer.err, re.MULTILINE)
