"""Features by a user's own Python function: what it may answer, and that its failures stay its own."""

import sys
from pathlib import Path

import pytest

from skerry.core.errors import ConfigError
from skerry.pipeline import books
from tests.fixtures.frames import ARRIVAL, events, letters, log_of, new_runner, run, sample, spec_of
from tests.fixtures.scorers import SumScorer

T = ARRIVAL // 1_000_000 - 1000
FUNCTIONS = """
import numpy as np

def plain(values, offsets):
    return np.add.reduceat(values, offsets[:-1], axis=0)

plain.columns = ["total"]

def unnamed(values, offsets):
    return np.column_stack([np.diff(offsets), np.diff(offsets)])

def flat(values, offsets):
    return np.zeros(len(offsets) - 1)

def nothing(values, offsets):
    return None

def raises(values, offsets):
    if (values > 100).any():
        raise ZeroDivisionError("over a hundred")
    return values[offsets[:-1]]

def undefined(values, offsets):
    return np.where(values[offsets[:-1]] > 100, np.nan, values[offsets[:-1]])

def second(values, offsets):
    first = values[offsets[:-1], 0]
    return np.column_stack([np.ones(len(first)), np.where(first > 100, np.nan, first)])

number = 5
"""


@pytest.fixture
def functions(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> str:
    name = f"features_of_{tmp_path.name}"
    (tmp_path / f"{name}.py").write_text(FUNCTIONS)
    (tmp_path / f"{name}_broken.py").write_text("1 / 0")
    monkeypatch.syspath_prepend(str(tmp_path))
    return name


def test_a_users_function_makes_the_features(functions: str) -> None:
    spec = spec_of(window={"kind": "count", "size": 2}, features=f"{functions}:plain")
    assert [event["features"] for event in events(run(spec, log_of(sample(T, value) for value in (1, 2, 3, 4))).outputs)] == [
        {"total": 3.0},
        {"total": 7.0},
    ]
    spec = spec_of(features=f"{functions}:unnamed")
    assert events(run(spec, log_of([sample(T, 1)])).outputs)[0]["features"] == {"f0": 1.0, "f1": 1.0}


@pytest.mark.parametrize(
    ("name", "text"), [("flat", "shape (1,)"), ("nothing", "feature function"), ("raises", "ZeroDivisionError: over a hundred")]
)
def test_a_function_that_fails_fails_window_by_window(functions: str, name: str, text: str) -> None:
    runner = run(spec_of(features=f"{functions}:{name}"), log_of([sample(T, 1), sample(T, 101), sample(T, 2)]))
    found = letters(runner.outputs)
    assert [letter.reason for letter in found] == ["feature-error"] * (1 if name == "raises" else 3)
    assert text in found[0].detail
    assert books(runner.state)["difference"] == 0


def test_a_score_that_is_not_a_number_is_a_dead_letter(functions: str) -> None:
    table = {"features": f"{functions}:undefined", "model": "sum"}
    runner = run(spec_of(**table), log_of([sample(T, 1), sample(T, 101)]), SumScorer())
    assert [letter.reason for letter in letters(runner.outputs)] == ["score-nan"]


def test_a_value_that_is_no_number_neither_speaks_for_an_alarm_nor_against_it(functions: str) -> None:
    spec = spec_of(features=f"{functions}:second", rule={"field": "f1", "below": 50, "for": 2, "flap": "0s"})
    runner = run(spec, log_of(sample(T + at, value) for at, value in enumerate([1, 101, 2, 101, 60])))
    found = events(runner.outputs)
    assert [(event["state"], event["features"]["f1"]) for event in found] == [("firing", 2.0), ("cleared", 60.0)]
    ruleless = events(run(spec_of(features=f"{functions}:second"), log_of([sample(T, 101)])).outputs)
    assert ruleless[0]["features"] == {"f0": 1.0, "f1": None}


@pytest.mark.parametrize(
    ("tail", "text"),
    [
        (":missing", "missing"),
        (":number", "not a function"),
        ("_broken:f", "fails when it is imported"),
        ("_none:f", "beside skerry.toml"),
    ],
)
def test_a_function_that_is_not_there_is_a_mistake_in_the_configuration(functions: str, tail: str, text: str) -> None:
    with pytest.raises(ConfigError, match=text) as caught:
        new_runner(spec_of(features=functions + tail))
    assert caught.value.where == "features"
    sys.modules.pop(f"{functions}_broken", None)
