"""`skerry pipeline explain`, on a template's model."""

import json
from pathlib import Path

import pytest

from tests.cli.conftest import Call


@pytest.fixture
def energy(call: Call) -> None:
    assert call("init", "--template", "energy", "--name", "b", "--site", "s").code == 0


@pytest.mark.usefixtures("energy")
def test_a_window_is_explained(call: Call, tmp_path: Path) -> None:
    text = call("pipeline", "explain", "energy", "recorded.csv", "--plot", "why.svg").out.splitlines()
    assert text[0].startswith("window ")
    assert "label leaking" in text[0]
    assert "with all at the reference (recording, 36 rows)" in text[1]
    assert text[2].split() == ["FEATURE", "VALUE", "REFERENCE", "USUAL", "WITHOUT", "ADDED"]
    assert text[3].startswith("power_")
    assert (tmp_path / "why.svg").read_text().startswith("<svg ")
    found = json.loads(call("pipeline", "explain", "energy", "recorded.csv", "--window", "0", "--json").out)
    assert (found["window"], found["reference"], found["model"]) == (0, "recording", "energy")
    assert sum(each["contribution"] for each in found["features"]) == pytest.approx(found["score"] - found["reference_score"], 1e-4)


@pytest.mark.usefixtures("energy")
def test_what_is_wrong_is_said(call: Call, tmp_path: Path) -> None:
    answer = call("pipeline", "explain", "energy", "recorded.csv", "--window", "99")
    assert (answer.code, "the recording has 36: 0 to 35" in answer.err) == (1, True)
    assert call("pipeline", "explain", "none", "recorded.csv", "--plot", "why.svg").code == 2
    assert not (tmp_path / "why.svg").exists()
    assert call("pipeline", "explain", "energy", "none.csv").code == 1
