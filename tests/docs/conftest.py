"""The quickstart as a user has it."""

import shutil
from pathlib import Path

import pytest

from tests.docs.blocks import ROOT


@pytest.fixture
def quickstart(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A copy of the example, as the current directory."""
    folder = tmp_path / "quickstart"
    shutil.copytree(ROOT / "examples" / "quickstart", folder, ignore=shutil.ignore_patterns("data", "__pycache__"))
    monkeypatch.chdir(folder)
    return folder
