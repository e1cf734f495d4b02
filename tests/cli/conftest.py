"""Calling the command line in this process, and a node in memory that it can ask."""

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import NamedTuple

import pytest

from skerry.cli import main
from tests.api.fake_view import Serving

TOML = '[node]\nname = "box"\nsite = "quay"\n'


class Answer(NamedTuple):
    """What a command left behind."""

    code: int
    out: str
    err: str


Call = Callable[..., Answer]


@pytest.fixture
def call(capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Call:
    """Runs one command in an empty directory."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv("SKERRY_CONFIG", raising=False)

    def run(*arguments: object) -> Answer:
        capsys.readouterr()
        code = main([str(argument) for argument in arguments])
        captured = capsys.readouterr()
        return Answer(code, captured.out, captured.err)

    return run


@pytest.fixture
def node(tmp_path: Path) -> Iterator[Serving]:
    """A node in memory behind the socket of the configuration in the test's directory."""
    (tmp_path / "skerry.toml").write_text(TOML)
    (tmp_path / "data").mkdir()
    with Serving(tmp_path / "data" / "skerry.sock").running() as serving:
        yield serving
