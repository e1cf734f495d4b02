"""Scenarios in words: the whole course of a failure with what each node says at each moment.

`python -m tests.cluster.test_scenarios` writes the outputs anew; look at the difference before it is kept.
"""

from pathlib import Path

import pytest

from tests.cluster.scenario import play

SCENARIOS = sorted((Path(__file__).parent / "scenarios").glob("*.txt"))


def test_there_are_scenarios() -> None:
    assert len(SCENARIOS) >= 9


@pytest.mark.parametrize("path", SCENARIOS, ids=lambda path: path.stem)
def test_scenario(path: Path) -> None:
    assert play(path) == path.read_text("utf-8")


if __name__ == "__main__":
    for each in SCENARIOS:
        each.write_text(play(each), "utf-8")
