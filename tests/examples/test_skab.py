"""The pump rig's example: what it computes, that it looks at nothing it may not, and that skerry runs what it writes."""

import importlib
import itertools
import json
import os
import subprocess
import sys
import tomllib
from datetime import UTC, datetime
from pathlib import Path
from types import ModuleType
from typing import Any, NamedTuple

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from skerry.inference import load_model
from skerry.pipeline import parse_pipeline, run_file
from skerry.pipeline.rule import Alarm, Rule, RuleSpec
from skerry.window.spec import WindowSpec
from skerry.window.state import Closed, KeyState
from skerry.window.windower import windower

EXAMPLE = Path(__file__).resolve().parents[2] / "examples" / "skab"
RECORDED = os.environ.get("SKERRY_SKAB_DIR", "")
BEGIN = int(datetime(2024, 5, 1, 10, 0, 0, tzinfo=UTC).timestamp())
LEVELS = np.array([0.2, 0.27, 2.1, 0.05, 80.0, 26.0, 235.0, 32.0])
NOISE = np.array([0.002, 0.002, 0.2, 0.2, 0.1, 0.02, 5.0, 0.4])


def module(name: str) -> ModuleType:
    """A module of the example, imported as its scripts import it."""
    if str(EXAMPLE) not in sys.path:
        sys.path.insert(0, str(EXAMPLE))
    return importlib.import_module(name)


def write_run(path: Path, seed: int, rows: int = 240) -> None:
    """A run in the layout of the recordings: the flow falls for 80 rows; some seconds have no row."""
    random = np.random.default_rng(seed)
    times = BEGIN + 3600 * seed + np.cumsum(random.choice([1, 1, 1, 1, 2], rows))
    onset = 75 + 10 * (seed % 7)
    faulty = (np.arange(rows) >= onset) & (np.arange(rows) < onset + 80)
    values = LEVELS * random.uniform(0.9, 1.1, 8) + NOISE * random.standard_normal((rows, 8))
    values[faulty, 7] -= 3.0
    names = module("skab_features").SENSORS
    lines = [";".join(["datetime", *names, "anomaly", "changepoint"])]
    for time, row, fault in zip(times.tolist(), values.tolist(), faulty.tolist(), strict=True):
        stamp = datetime.fromtimestamp(time, UTC).strftime("%Y-%m-%d %H:%M:%S")
        lines.append(";".join([stamp, *(f"{value:.6g}" for value in row), str(float(fault)), "0.0"]))
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text("\n".join(lines) + "\n", encoding="utf-8")


def script(name: str, *arguments: str | Path) -> str:
    """Standard output of a script of the example, run as its README says."""
    done = subprocess.run(
        [sys.executable, EXAMPLE / name, *map(str, arguments)], capture_output=True, text=True, check=False, timeout=110
    )
    assert done.returncode == 0, done.stderr
    return done.stdout


def report_of(runs: Path, out: Path) -> Any:
    """What evaluate.py says about a trained detector on the runs of a directory."""
    evaluate = module("evaluate")
    return evaluate.report(list(evaluate.with_model(module("skab_runs").read_runs(runs), out, 0)))


class Trained(NamedTuple):
    """Runs, the directory that train.py wrote, and what it said."""

    runs: Path
    out: Path
    said: str


@pytest.fixture(scope="module")
def trained(tmp_path_factory: pytest.TempPathFactory) -> Trained:
    """Six small runs and a detector trained on them."""
    runs, out = tmp_path_factory.mktemp("runs"), tmp_path_factory.mktemp("trained") / "out"
    for seed in range(6):
        write_run(runs / ("valve1", "other")[seed % 2] / f"{seed}.csv", seed)
    (runs / "anomaly-free").mkdir()
    (runs / "anomaly-free" / "anomaly-free.csv").write_text("datetime;Current\n", encoding="utf-8")
    return Trained(runs, out, script("train.py", runs, "--out", out))


def test_training_writes_a_directory_that_skerry_can_run(trained: Trained) -> None:
    assert sorted(path.name for path in trained.out.iterdir()) == ["skab.onnx", "skab_features.py", "skerry.toml"]
    assert "alarms equal" in trained.said
    model = load_model(trained.out / "skab.onnx", "skab")
    assert [(each.name, each.dtype) for each in model.inputs] == [("features", "float32")]
    assert [each.name for each in model.outputs] == ["score", "label"]
    model.check_columns(len(module("skab_features").features.columns))
    assert (trained.out / "skab.onnx").stat().st_size < 20 * 2**20


def pipeline_alarms(out: Path, rows: Path) -> dict[str, list[tuple[int, int]]]:
    """Of each device the seconds `[begin, end)` in which the pipeline's alarm is on, from the events of an offline run."""
    table = tomllib.loads((out / "skerry.toml").read_text(encoding="utf-8"))["pipelines"][0]
    result = run_file(parse_pipeline(table, "skerry.toml"), load_model(out / "skab.onnx", "skab"), "box", rows)
    assert result["dead_letters"] == []
    assert result["late"] == 0
    found: dict[str, list[tuple[int, int]]] = {}
    for event in result["events"]:
        second = int(datetime.fromisoformat(event["end"]).timestamp()) - 1
        spans = found.setdefault(event["key"], [])
        if event["state"] == "firing":
            spans.append((second, 2**62))
        else:
            spans[-1] = (spans[-1][0], second)
    return found


def agree(runs: Path, out: Path, rows: Path) -> int:
    """Compare the pipeline's alarms with the evaluation's, row by row; answers the number of rows with an alarm."""
    module("skab_runs").write_rows(module("skab_runs").read_runs(runs), rows)
    spans = pipeline_alarms(out, rows)
    detector = module("skab_export").load(out)
    alarmed = 0
    for run in module("skab_runs").read_runs(runs):
        expected = detector.alarms(run)
        alarmed += int(expected.sum())
        live = [any(a <= time < b for a, b in spans.get(run.name, [])) for time in run.times.tolist()]
        assert live == expected.tolist(), run.name
    return alarmed


def test_the_pipeline_raises_the_alarms_that_the_evaluation_counts(trained: Trained, tmp_path: Path) -> None:
    assert agree(trained.runs, trained.out, tmp_path / "rows.csv") > 300


def test_a_trained_detector_is_scored_on_unseen_runs(trained: Trained, tmp_path: Path) -> None:
    write_run(tmp_path / "valve2" / "0.csv", 20)
    report = json.loads(script("evaluate.py", tmp_path, "--model", trained.out, "--json"))
    assert [row["run"] for row in report["runs"]] == ["valve2-0"]
    assert report["all"]["f1"] > 0.8
    assert 0 <= report["runs"][0]["delay_s"] <= 30


def test_runs_are_held_out_and_scored(trained: Trained) -> None:
    report = json.loads(script("evaluate.py", trained.runs, "--folds", "2", "--json"))
    assert len(report["runs"]) == 6
    assert report["all"]["found"] == 6
    assert report["all"]["f1"] > 0.8
    assert report["all"]["false_alarm_rate"] < 0.15


def test_a_model_of_noise_scores_badly(trained: Trained, tmp_path: Path) -> None:
    """The table must be able to be bad: labels that have nothing to do with the sensors are not predicted."""
    for path in sorted(trained.runs.glob("*/?.csv")):
        lines = path.read_text(encoding="utf-8").splitlines()
        drawn = np.random.default_rng(len(lines) + int(path.stem)).permutation(len(lines) - 1) < 80
        lines[1:] = [
            ";".join([*line.split(";")[:9], str(float(fault)), "0.0"]) for line, fault in zip(lines[1:], drawn, strict=True)
        ]
        target = tmp_path / path.parent.name / path.name
        target.parent.mkdir(exist_ok=True)
        target.write_text("\n".join(lines) + "\n", encoding="utf-8")
    assert report_of(tmp_path, trained.out)["all"]["f1"] < 0.45


def test_features_have_a_name_each_and_start_from_one_row() -> None:
    features = module("skab_features").features
    rows = features(np.array([LEVELS]), np.array([0, 1]))
    assert rows.shape == (1, len(features.columns))
    assert len(set(features.columns)) == len(features.columns)
    assert np.isfinite(rows).all()


def test_change_is_the_relative_difference_of_newest_and_oldest_rows() -> None:
    features = module("skab_features").features
    values = np.tile(LEVELS, (100, 1))
    values[90:, 7] = 16.0
    found = dict(zip(features.columns, features(values, np.array([0, 100]))[0].tolist(), strict=True))
    assert found["Volume Flow RateRMS_change10"] == pytest.approx((16.0 - 32.0) / 32.2)
    assert found["Volume Flow RateRMS_change30"] == pytest.approx((80.0 / 3 - 32.0) / 32.2)
    assert found["Current_change10"] == pytest.approx(0.0, abs=1e-12)
    assert found["distance2"] < found["distance1"]


def test_a_window_does_not_depend_on_the_batch_it_is_in() -> None:
    features = module("skab_features").features
    values = LEVELS + NOISE * np.random.default_rng(1).standard_normal((900, 8))
    bounds = [(0, 1), (0, 40), (100, 700), (300, 900)]
    offsets = np.cumsum([0, *(b - a for a, b in bounds)])
    together = features(np.vstack([values[a:b] for a, b in bounds]), offsets)
    alone = np.vstack([features(values[a:b], np.array([0, b - a])) for a, b in bounds])
    assert np.array_equal(together, alone)


def random_run(seed: int, rows: int) -> Any:
    random = np.random.default_rng(seed)
    times = BEGIN + np.cumsum(random.choice([1, 1, 2, 9, 700], rows, p=[0.5, 0.3, 0.15, 0.04, 0.01]))
    return module("skab_runs").Run("valve1-0", times, LEVELS + random.standard_normal((rows, 8)), np.zeros(rows, bool))


def test_windows_look_at_nothing_later() -> None:
    runs = module("skab_runs")
    run = random_run(3, 400)
    whole = runs.windows(run)
    for rows in (1, 57, 200, 399):
        part = runs.windows(runs.Run(run.name, run.times[:rows], run.rows[:rows], run.faulty[:rows]))
        assert np.array_equal(part.newest, whole.newest[:rows])
        assert np.array_equal(part.rows, whole.rows[: len(part.rows)])


@pytest.mark.parametrize("seed", [1, 2, 3])
def test_windows_are_those_of_skerry(seed: int) -> None:
    run = random_run(seed, 250)
    table = tomllib.loads((EXAMPLE / "skerry.toml").read_text(encoding="utf-8"))["pipelines"][0]
    spec = WindowSpec(**table["window"])
    cut, state = windower(spec), KeyState()
    closed: list[Closed] = []
    for time, row in zip(run.times.tolist(), run.rows.tolist(), strict=True):
        assert cut.add(state, (time * 1e6, *row), True) is None
        closed += cut.close("k", state, state.newest)
    closed += cut.close("k", state, (int(run.times[-1]) + 1) * 1_000_000)
    features = module("skab_features").features
    live = [features(np.array(each.flat).reshape(-1, 9)[:, 1:], np.array([0, each.samples])) for each in closed]
    made = module("skab_runs").windows(run)
    assert np.array_equal(np.vstack(live).astype(np.float32), made.rows)
    assert [closed[at].end // 1_000_000 - 1 for at in made.newest.tolist()] == run.times.tolist()


@settings(max_examples=60, deadline=None)
@given(
    st.lists(st.floats(0, 1), min_size=1, max_size=60),
    st.sampled_from([0.3, 0.5, 0.6]),
    st.sampled_from([0.0, 0.1, 0.2]),
    st.integers(1, 5),
    st.integers(1, 5),
)
def test_the_rule_is_that_of_skerry(scores: list[float], above: float, gap: float, for_: int, clear_for: int) -> None:
    rule = module("skab_detector").AlarmRule(above, above - gap, for_, clear_for)
    spec = RuleSpec(above=above, clear_below=above - gap, for_=for_, clear_for=clear_for)
    alarm, live = Alarm(), []
    for at, score in enumerate(scores):
        Rule(spec).judge(alarm, score, at * 1_000_000, (at + 1) * 1_000_000, "skab", "k")
        live.append(alarm.firing)
    assert rule.alarms(np.array(scores)).tolist() == live


def test_counts_are_the_benchmarks() -> None:
    detector = module("skab_detector")
    alarms, faulty = np.array([1, 1, 0, 0, 1], bool), np.array([1, 0, 1, 0, 1], bool)
    counts = sum([detector.count(alarms, faulty), detector.count(~faulty, faulty)], detector.Counts())
    assert counts == detector.Counts(hits=2, false=3, missed=4, quiet=1)
    assert counts.f1 == pytest.approx(4 / 11)
    assert counts.false_alarm_rate == pytest.approx(3 / 4)
    assert counts.missed_rate == pytest.approx(4 / 6)


def test_delay_counts_from_the_onset_within_the_first_fault() -> None:
    detector, runs = module("skab_detector"), module("skab_runs")
    faulty = np.array([0, 0, 1, 1, 1, 0, 0], bool)
    run = runs.Run("r", BEGIN + np.array([0, 1, 2, 4, 5, 6, 7]), np.tile(LEVELS, (7, 1)), faulty)
    assert detector.delay_s(run, np.array([1, 0, 0, 1, 1, 0, 0], bool)) == 2
    assert detector.delay_s(run, np.array([0, 1, 1, 0, 0, 0, 0], bool)) == 0
    assert detector.delay_s(run, np.array([1, 1, 0, 0, 0, 1, 1], bool)) is None
    assert detector.delay_s(run._replace(faulty=~faulty | faulty), np.zeros(7, bool)) is None


def test_the_rule_is_the_middle_of_the_best_plateau() -> None:
    """Scores of 0.2 without a fault and 0.6 with one: every threshold between is perfect, none is better known than another."""
    detector, runs = module("skab_detector"), module("skab_runs")
    run = random_run(5, 60)._replace(faulty=np.arange(60) >= 40)
    made = {run.name: runs.windows(run)}
    scores = np.full(len(made[run.name].rows), 0.2)
    scores[made[run.name].newest[40] :] = 0.6
    rule, f1 = detector.choose_rule([run], {run.name: scores}, made)
    assert f1 == 1.0
    assert rule.above == 0.4


def test_folds_hold_out_whole_runs_each_once() -> None:
    runs = [random_run(seed, 3)._replace(name=f"g-{seed}") for seed in range(7)]
    parts = module("skab_detector").folds(runs, 3)
    assert sorted(run.name for part in parts for run in part) == [run.name for run in runs]
    assert all(parts)
    assert not any({a.name for a in one} & {b.name for b in two} for one, two in itertools.combinations(parts, 2))
    with pytest.raises(SystemExit, match="two labelled runs"):
        module("skab_detector").folds(runs[:1], 3)


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("datetime;anomaly\n2024-05-01 10:00:00;0.0\n", "no column"),
        ("datetime;Current\n2024-05-01 10:00:00;1.0\n", "no labelled runs"),
    ],
)
def test_a_wrong_directory_is_refused_in_one_sentence(tmp_path: Path, text: str, said: str) -> None:
    (tmp_path / "run.csv").write_text(text, encoding="utf-8")
    with pytest.raises(SystemExit, match=said):
        module("skab_runs").read_runs(tmp_path)


def test_a_directory_without_a_model_is_refused(tmp_path: Path) -> None:
    with pytest.raises(SystemExit, match=r"train\.py writes them"):
        module("skab_export").load(tmp_path)


@pytest.mark.timeout(600)
@pytest.mark.skipif(not RECORDED, reason="optional: SKERRY_SKAB_DIR names no directory with the benchmark's recordings")
def test_recorded_runs(tmp_path: Path) -> None:
    """Whole recorded runs held out: the README's figure, less a margin for other versions of the libraries."""
    command = [sys.executable, str(EXAMPLE / "evaluate.py"), RECORDED, "--json"]
    done = subprocess.run(command, capture_output=True, text=True, check=True, timeout=500)
    whole = json.loads(done.stdout)["all"]
    assert whole["f1"] >= 0.82
    script("train.py", RECORDED, "--out", tmp_path / "out")
    assert agree(Path(RECORDED), tmp_path / "out", tmp_path / "rows.csv") > 1000
