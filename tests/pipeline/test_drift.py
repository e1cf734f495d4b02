"""Drift in a running pipeline: learned or given, judged by counts, kept over a restart, and the same again in a replay."""

from collections.abc import Iterable
from pathlib import Path
from typing import Any

import msgspec
import numpy as np
import onnx
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from onnx import TensorProto, helper

from skerry.broker import Frame
from skerry.core import log
from skerry.core.errors import ConfigError
from skerry.inference import DriftReport, DriftState, Model, load_model, reference_json, reference_of
from skerry.pipeline import PipelineState, Runner, books, decode_state, drift_report, encode_state, run_messages
from skerry.pipeline.drift import MOST_LEARNED, DriftWatch
from skerry.pipeline.partitions import redeal
from tests.fixtures.frames import ARRIVAL, events, feed, frame, letters, log_of, new_runner, run, sample, spec_of

T = ARRIVAL // 1_000_000 - 100_000
DRIFT = {"bound": 0.5, "learn": 100, "window": 100, "event": True}


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("models")


def model_of(folder: Path, version: str = "1", metadata: dict[str, str] | None = None) -> Model:
    """A model that scores a row, or all samples of a window, by their sum."""
    path = folder / f"sum{version}.onnx"
    axes = helper.make_tensor("axes", TensorProto.INT64, [1], [1])
    inputs = [helper.make_tensor_value_info("x", TensorProto.FLOAT, ["N", "F"])]
    outputs = [helper.make_tensor_value_info("score", TensorProto.FLOAT, ["N", 1])]
    graph = helper.make_graph([helper.make_node("ReduceSum", ["x", "axes"], ["score"])], "g", inputs, outputs, [axes])
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)
    helper.set_model_props(model, metadata or {})
    onnx.save(model, path)
    return load_model(path, "sum", version)


@pytest.fixture(scope="module")
def plain(folder: Path) -> Model:
    return model_of(folder)


def given_model(folder: Path, rows: Any, names: list[str], version: str = "g") -> Model:
    return model_of(folder, version, {"drift_reference": reference_json(reference_of(rows, names))})


def values(seed: int, count: int, shift: float = 0.0) -> list[float]:
    made: list[float] = np.random.default_rng(seed).normal(shift, 1, count).round(6).tolist()
    return made


def numbers(found: Iterable[float], begin: int = 1) -> list[Frame]:
    """A message a value, a second apart."""
    return [frame(at, sample(T + at, value)) for at, value in enumerate(found, start=begin)]


def drifts(runner: Runner) -> list[dict[str, Any]]:
    return [event for event in events(runner.outputs) if event["key"] == "drift"]


def runner_of(scorer: Model, state: PipelineState | None = None, **table: Any) -> Runner:
    table = {"drift": DRIFT, "rule": {"field": "score", "above": 1e9, "severity": "critical"}, **table}
    table = {key: value for key, value in table.items() if value is not None}
    return new_runner(spec_of(model="sum", **table), scorer, state)


def test_a_learned_reference_and_a_shift_give_one_event_and_one_when_it_is_back(plain: Model) -> None:
    runner = runner_of(plain)
    feed(runner, numbers([*values(1, 300), *values(2, 300, 3.0), *values(3, 300)]))
    fired, cleared = drifts(runner)
    assert (fired["state"], cleared["state"]) == ("firing", "cleared")
    assert fired["alarm_id"] == cleared["alarm_id"]
    assert fired["id"] != cleared["id"]
    assert (fired["label"], fired["severity"], fired["count"]) == ("drift", "critical", 100)
    assert fired["score"] == pytest.approx(fired["features"]["x"], abs=1e-4)
    assert fired["score"] > 1
    assert cleared["score"] < 0.4
    assert (fired["model"], fired["version"], fired["node"], fired["pipeline"]) == ("sum", "1", "rock", "p")
    assert fired["start"] < fired["end"] < cleared["start"] < cleared["end"]
    assert runner.state.ledger.events == 2
    assert books(runner.state)["difference"] == 0
    assert [output.subject for output in runner.outputs] == ["skerry.events.p.drift"] * 2


def test_the_report_says_what_was_measured(plain: Model) -> None:
    runner = runner_of(plain)
    spec = runner.spec
    assert drift_report(runner.state.drift, spec) == DriftReport(bound=0.5)
    feed(runner, numbers(values(1, 60)))
    assert drift_report(runner.state.drift, spec) == DriftReport(source="learning", reference_rows=60, bound=0.5)
    feed(runner, numbers(values(2, 90), 61))
    early = drift_report(runner.state.drift, spec)
    assert (early.source, early.reference_rows, early.rows, early.psi) == ("learned", 100, 50, {})
    assert list(early.psi_since_start) == ["x"]
    feed(runner, numbers(values(3, 150, 4.0), 151))
    found = drift_report(runner.state.drift, spec)
    assert (found.rows, found.firing, found.bound) == (200, True, 0.5)
    assert found.psi["x"] > found.psi_since_start["x"] * 0.5 > 0.25
    assert found.outside == found.outside_of["x"] > 50
    assert msgspec.json.decode(msgspec.json.encode(found), type=DriftReport) == found


def test_the_models_own_reference_is_taken_and_nothing_is_learned(folder: Path) -> None:
    scorer = given_model(folder, np.array(values(5, 1000))[:, None], ["x"])
    runner = runner_of(scorer)
    feed(runner, numbers(values(6, 100, 2.0)))
    assert [event["state"] for event in drifts(runner)] == ["firing"]
    report = drift_report(runner.state.drift, runner.spec)
    assert (report.source, report.reference_rows, report.rows) == ("metadata", 1000, 100)


def test_a_reference_that_does_not_fit_is_named_and_another_is_learned(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    log.configure()
    runner = runner_of(given_model(folder, np.array(values(5, 100))[:, None], ["other"], "o"))
    feed(runner, numbers(values(6, 10)))
    assert drift_report(runner.state.drift, runner.spec).source == "learning"
    said = capsys.readouterr()
    assert "pipeline p learns its drift reference: the model's drift reference has no feature 'x'" in said.out + said.err


def test_without_a_table_drift_is_measured_and_no_event_comes_of_it(plain: Model) -> None:
    runner = runner_of(plain, drift=None)
    feed(runner, numbers([*values(1, 500), *values(2, 500, 5.0)]))
    assert events(runner.outputs) == []
    assert runner.spec.drift is None
    report = drift_report(runner.state.drift, runner.spec)
    assert report.firing
    assert report.psi["x"] > 1


def test_without_a_model_or_when_nothing_may_be_learned_nothing_is_watched(plain: Model) -> None:
    bare = new_runner(spec_of(drift=DRIFT))
    feed(bare, numbers(values(1, 200)))
    assert bare.state.drift is None
    never = runner_of(plain, drift={**DRIFT, "learn": 0})
    feed(never, numbers(values(1, 200)))
    assert drift_report(never.state.drift, never.spec).source == ""
    allowed = runner_of(plain, decode_state(encode_state(never.state)))
    feed(allowed, numbers(values(1, 200), 201))
    assert drift_report(allowed.state.drift, allowed.spec).source == "learned"


def test_a_pipeline_that_lost_its_model_lets_its_drift_go(plain: Model) -> None:
    runner = runner_of(plain)
    feed(runner, numbers(values(1, 150)))
    bare = new_runner(spec_of(drift=DRIFT), None, decode_state(encode_state(runner.state)))
    feed(bare, numbers(values(1, 10), 151))
    assert bare.state.drift is None


def test_learning_and_counts_survive_a_restart_at_any_moment(plain: Model) -> None:
    frames = numbers([*values(1, 200), *values(2, 250, 3.0), *values(3, 200)])
    whole = runner_of(plain)
    feed(whole, frames)
    for cut in (1, 50, 99, 100, 101, 250, 300, 449):
        first = runner_of(plain)
        feed(first, frames[:cut])
        second = runner_of(plain, decode_state(encode_state(first.state)))
        feed(second, frames[cut:])
        assert first.outputs + second.outputs == whole.outputs
        assert second.state == whole.state


def test_an_older_checkpoint_begins_to_learn(plain: Model) -> None:
    fields = msgspec.msgpack.decode(encode_state(PipelineState(cursor=5)))
    old = decode_state(msgspec.msgpack.encode(fields[:-1]))
    assert old.drift is None
    runner = runner_of(plain, old)
    feed(runner, numbers(values(1, 20), 6))
    assert drift_report(runner.state.drift, runner.spec).reference_rows == 20


cuts = st.lists(st.integers(1, 90), min_size=1, max_size=6)


@settings(max_examples=15, deadline=None)
@given(
    cuts, cuts, st.integers(0, 600), st.sampled_from([{}, {"features": ["mean", "max"], "window": {"kind": "count", "size": 2}}])
)
def test_a_replay_from_any_checkpoint_in_any_reads_gives_the_same_events(
    plain: Model, some: list[int], other: list[int], cut: int, table: dict[str, Any]
) -> None:
    frames = numbers([*values(1, 250), float(2**70), *values(2, 250, 3.0), *values(3, 250)])
    one = runner_of(plain, **table)
    in_reads(one, frames, some)
    first = runner_of(plain, **table)
    in_reads(first, frames[:cut], other)
    again = runner_of(plain, decode_state(encode_state(first.state)), **table)
    in_reads(again, frames[cut:], some)
    assert first.outputs + again.outputs == one.outputs
    assert again.state == one.state


def in_reads(runner: Runner, frames: list[Frame], sizes: list[int]) -> None:
    begin, number = 0, 0
    while begin < len(frames):
        size = sizes[number % len(sizes)]
        feed(runner, frames[begin : begin + size])
        begin, number = begin + size, number + 1


def test_windows_that_fail_are_not_counted_and_those_scored_as_not_a_number_are(plain: Model) -> None:
    runner = runner_of(plain, features=["mean"], window={"kind": "count", "size": 1})
    feed(runner, numbers([*values(1, 100), 1e308, -1e308, *values(2, 50)]))
    report = drift_report(runner.state.drift, runner.spec)
    assert report.rows == 52
    assert report.outside >= 2
    assert len(letters(runner.outputs)) == 0


def test_samples_as_input_are_watched_sample_by_sample_also_with_windows_of_several_lengths(plain: Model) -> None:
    spec: dict[str, Any] = {"window": {"kind": "tumbling", "size": "2s"}, "drift": {**DRIFT, "event": True}}
    times = [T + at * 0.75 for at in range(500)]
    found = [*values(1, 250), *values(2, 250, 4.0)]
    frames = log_of(sample(time, value) for time, value in zip(times, found, strict=True))
    one, many = runner_of(plain, **spec), runner_of(plain, **spec)
    feed(one, frames)
    in_reads(many, frames, [7, 31])
    assert drift_report(one.state.drift, one.spec).rows + 100 == 500 - sum(
        len(key.panes[at].flat) // 2 for key in one.state.keys.values() for at in key.panes
    )
    assert [event["state"] for event in drifts(one)] == ["firing"]
    assert one.state.drift == many.state.drift
    assert drifts(one) == drifts(many)


def test_another_version_begins_anew_and_the_alarm_is_ended_by_its_judgement(plain: Model, folder: Path) -> None:
    runner = runner_of(plain)
    feed(runner, numbers([*values(1, 100), *values(2, 100, 4.0)]))
    (fired,) = drifts(runner)
    newer = runner_of(given_model(folder, np.array(values(7, 500, 4.0))[:, None], ["x"], "2"), runner.state)
    feed(newer, numbers(values(8, 100, 4.0), 201))
    (cleared,) = drifts(newer)
    assert (cleared["state"], cleared["version"]) == ("cleared", "2")
    assert cleared["alarm_id"] == fired["alarm_id"]
    assert newer.state.drift is not None
    assert (newer.state.drift.model, newer.state.drift.source) == ("sum@2", "metadata")
    older = runner_of(plain, newer.state)
    feed(older, numbers(values(9, 10), 301))
    assert drift_report(older.state.drift, older.spec).source == "learning"


def test_a_reference_that_changed_in_the_same_version_is_taken(plain: Model, folder: Path) -> None:
    runner = runner_of(plain)
    feed(runner, numbers(values(1, 150)))
    scorer = model_of(folder, "1", {"drift_reference": reference_json(reference_of(np.array(values(5, 300))[:, None], ["x"]))})
    changed = runner_of(scorer, runner.state)
    feed(changed, numbers(values(2, 10), 151))
    report = drift_report(changed.state.drift, changed.spec)
    assert (report.source, report.reference_rows, report.rows) == ("metadata", 300, 10)


def test_partitions_that_are_dealt_again_keep_the_reference_and_every_count(plain: Model) -> None:
    old = [runner_of(plain) for _ in range(2)]
    for at, runner in enumerate(old):
        feed(runner, numbers(values(at, 150 + 10 * at)))
    dealt = redeal([decode_state(encode_state(runner.state)) for runner in old], 3)
    first = dealt[0].drift
    assert first is not None
    assert first.reference == old[1].state.drift.reference  # type: ignore[union-attr]  # it has scored, so it has one
    assert [state.drift.rows if state.drift else -1 for state in dealt] == [60, 0, 0]
    for state in dealt:
        runner = runner_of(plain, state)
        feed(runner, numbers(values(3, 100, 5.0), 200))
        assert [event["state"] for event in drifts(runner)] == ["firing"]
    assert [one.drift for one in redeal([PipelineState(), PipelineState()], 1)] == [None]
    young = runner_of(plain)
    feed(young, numbers(values(1, 30)))
    assert [drift_report(one.drift, young.spec).reference_rows for one in redeal([young.state], 2)] == [30, 0]


def test_wide_rows_learn_from_fewer_and_the_widest_are_not_watched(plain: Model) -> None:
    spec = spec_of(model="sum", drift={**DRIFT, "learn": 5000})
    rng = np.random.default_rng(1)
    names = tuple(f"f{at}" for at in range(300))
    watch = DriftWatch(spec, "rock", None)
    windows = _windows(250)
    assert watch.observe(windows, rng.normal(size=(250, 300)), names, plain) == []
    report = drift_report(watch.state, spec)
    assert (report.source, report.reference_rows) == ("learned", MOST_LEARNED // 300)
    assert len(report.psi_since_start) == 64
    wide = DriftWatch(spec, "rock", None)
    assert wide.observe(windows, rng.normal(size=(250, 600)), tuple(f"f{at}" for at in range(600)), plain) == []
    assert wide.state is None


def _windows(count: int) -> list[Any]:
    from skerry.window.state import Closed

    return [Closed("d", at, at + 1, [], 1, 1) for at in range(count)]


def test_a_state_that_does_not_fit_its_reference_is_counted_anew(plain: Model) -> None:
    spec = spec_of(model="sum", drift=DRIFT)
    reference = reference_of(np.array(values(1, 100))[:, None], ["x"])
    bent = DriftState("sum@1", ["x"], "learned", reference, block=[[1, 2]], in_block=3, total=[[1]], judged=9, outside_of=[1, 2])
    watch = DriftWatch(spec, "rock", bent)
    watch.observe(_windows(50), np.array(values(2, 50))[:, None], ("x",), plain)
    assert drift_report(watch.state, spec).rows == 50


def test_offline_runs_put_out_the_same_events_twice(plain: Model) -> None:
    spec = spec_of(model="sum", drift=DRIFT, rule={"field": "score", "above": 1e9})
    found = [*values(1, 200), *values(2, 200, 4.0)]
    messages = [("devices/d/v", sample(T + at, value), None) for at, value in enumerate(found)]
    one, other = (run_messages(spec, plain, "rock", iter(messages)) for _ in range(2))
    assert one == other
    assert [(event["key"], event["state"]) for event in one["events"]] == [("drift", "firing")]


@pytest.mark.parametrize(
    ("table", "sentence"),
    [
        ({"bound": 0}, r"p\.drift\.bound.*0.* is no PSI"),
        ({"bound": float("nan")}, "is no PSI"),
        ({"bound": "high"}, r"p\.drift"),
        ({"bound": 0.05}, r"p\.drift\.bound.*0.05 is within what 500 learned and 500 judged rows vary.*0.09 or more"),
        ({"learn": 100, "window": 100}, r"0.25 is within what 100.*0.45 or more, or a larger learn or window"),
        ({"learn": 5}, r"p\.drift\.learn.*5 is out of range.*100 to 100000"),
        ({"learn": -100}, "is out of range"),
        ({"window": 10}, r"p\.drift\.window.*10 is out of range"),
        ({"bond": 1}, r"bond"),
        ({"event": 1}, r"p\.drift"),
    ],
)
def test_a_table_that_is_wrong_is_refused_with_its_key(table: dict[str, Any], sentence: str) -> None:
    with pytest.raises(ConfigError, match=sentence):
        spec_of(drift=table)


def test_a_table_may_be_empty(plain: Model) -> None:
    spec = spec_of(model="sum", drift={})
    assert spec.drift is not None
    assert (spec.drift.bound, spec.drift.learn, spec.drift.window, spec.drift.event) == (0.25, 500, 500, True)
    assert spec_of(model="sum").drift is None
    assert run(spec, numbers(values(1, 10)), plain).state.drift is not None
