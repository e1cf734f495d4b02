"""Measuring a model: what is tried, what is recommended, and what it costs in a process of its own."""

import json
import os
from pathlib import Path

import numpy as np
import pytest
from onnx import helper

from skerry.core.errors import RejectedError
from skerry.inference.engine.opening import open_session
from skerry.inference.engine.seam import EngineOptions
from skerry.inference.tools.recorded import MAX_ROWS, random_rows, read_rows, take_rows
from skerry.inference.tools.sweep import (
    Point,
    Timing,
    bench_model,
    cost_of,
    default_threads,
    fixed_batch,
    plot_sweep,
    recommend,
    time_runs,
    timing_of,
)
from tests.inference.conftest import FLOAT, INT64, STRING, MakeModel

node = helper.make_node


def point(threads: int, batch: int, p99: float, rate: float) -> Point:
    return Point(threads, batch, Timing(10, p99 / 2, p99, rate))


@pytest.fixture
def softmax(make_model: MakeModel) -> Path:
    return make_model([node("Softmax", ["x"], ["probs"], axis=1)], [("probs", FLOAT, ["N", 3])])


def test_the_smallest_setting_near_the_best_throughput_is_recommended() -> None:
    points = [point(1, 1, 1, 1000), point(1, 8, 2, 4600), point(1, 64, 9, 4900), point(2, 8, 2, 5000)]
    assert recommend(points) == points[1]
    assert recommend([*points, point(2, 64, 9, 9000)]) == point(2, 64, 9, 9000)


def test_a_bound_on_latency_leaves_out_slow_settings() -> None:
    points = [point(1, 1, 1, 1000), point(1, 64, 9, 4900), point(2, 2, 0.5, 900)]
    assert recommend(points, max_latency_ms=5) == points[0]
    assert recommend(points, max_latency_ms=0.1) == points[2]


def test_figures_of_runs() -> None:
    timing = timing_of([0.001] * 99 + [0.101], 4)
    assert timing.runs == 100
    assert timing.p50_ms == pytest.approx(1.0)
    assert timing.p99_ms == pytest.approx(2.0)
    assert timing.rows_per_second == pytest.approx(2000.0)
    assert timing_of([0.0, 0.0], 4).rows_per_second == 0.0


def test_every_setting_is_tried(softmax: Path) -> None:
    told: list[tuple[int, int]] = []
    found = bench_model(
        softmax, batches=[1, 4, 4], threads=[1, 2], seconds=0.0, progress=lambda done, whole: told.append((done, whole))
    )
    assert [(each.threads, each.batch) for each in found.points] == [(1, 1), (1, 4), (2, 1), (2, 4)]
    assert all(each.timing.runs >= 5 and each.timing.p50_ms <= each.timing.p99_ms for each in found.points)
    assert found.recommended in found.points
    assert (found.inputs, found.batching) == ("random", "")
    assert told == [(1, 4), (2, 4), (3, 4), (4, 4)]


def test_recorded_rows_are_repeated_to_fill_a_batch(softmax: Path) -> None:
    rows = {"x": np.array([[1, 2, 3], [4, 5, 6]], np.float32)}
    assert take_rows(rows, 1, 3)["x"].tolist() == [[4, 5, 6], [1, 2, 3], [4, 5, 6]]
    assert bench_model(softmax, batches=[5], threads=[1], seconds=0.0, data=rows).inputs == "recorded"


def test_a_fixed_batch_is_the_only_one(make_model: MakeModel) -> None:
    path = make_model([node("Softmax", ["x"], ["probs"], axis=1)], [("probs", FLOAT, [4, 3])], shape=(4, 3))
    found = bench_model(path, batches=[1, 2], threads=[1], seconds=0.0)
    assert [each.batch for each in found.points] == [4]
    assert found.batching == "the model's batch is fixed at 4"


def test_a_model_of_a_single_number_is_timed(make_model: MakeModel) -> None:
    path = make_model([node("Abs", ["x"], ["y"])], [("y", FLOAT, [])], shape=())
    session = open_session(path)
    assert fixed_batch(session) == 1
    assert time_runs(session, random_rows(session, 1), 0.0).runs >= 5
    session.close()


def test_threads_go_up_to_the_cores() -> None:
    counts = default_threads()
    assert counts[0] == 1
    assert list(counts) == sorted(set(counts))
    assert counts[-1] == len(os.sched_getaffinity(0))


def test_a_plot_is_a_picture(softmax: Path, tmp_path: Path) -> None:
    found = bench_model(softmax, batches=[1, 4], threads=[1, 2], seconds=0.0)
    plot_sweep(found, "m", tmp_path / "p.png")
    assert (tmp_path / "p.png").read_bytes().startswith(b"\x89PNG")
    for wrong in (tmp_path / "none" / "p.png", tmp_path / "p.nonsense"):
        with pytest.raises(RejectedError, match=r"the plot cannot be written: .*; name a \.png"):
            plot_sweep(found, "m", wrong)


def test_cost_in_a_process_of_its_own(softmax: Path, tmp_path: Path) -> None:
    cost = cost_of(softmax, EngineOptions(), batch=2, seconds=0.0)
    assert cost.load_ms > 0
    assert cost.memory >= 0
    assert cost.timing.runs >= 5
    bad = tmp_path / "bad.onnx"
    bad.write_bytes(b"no model")
    with pytest.raises(RejectedError, match=r"bad\.onnx"):
        cost_of(bad, EngineOptions())


def test_random_rows_keep_to_the_range_of_the_training_data(make_model: MakeModel) -> None:
    feature = {"edges": [15.0], "fractions": [0.5, 0.5, 0.0], "min": 10.0, "max": 20.0}
    reference = {"rows": 9, "features": dict.fromkeys("abc", feature), "format": 1}
    path = make_model(
        [node("Identity", ["x"], ["y"])], [("y", FLOAT, ["N", 3])], metadata={"drift_reference": json.dumps(reference)}
    )
    session = open_session(path)
    rows = random_rows(session, 200)["x"]
    assert rows.dtype == np.float32
    assert rows.min() >= 10
    assert rows.max() <= 20
    assert rows.std() > 1
    session.close()


def test_an_open_dimension_is_filled_with_what_the_model_takes(make_model: MakeModel) -> None:
    weights = helper.make_tensor("w", FLOAT, [8, 1], [1.0] * 8)
    path = make_model([node("MatMul", ["x", "w"], ["y"])], [("y", FLOAT, ["N", 1])], shape=("N", "wide"), constants=[weights])
    session = open_session(path)
    assert random_rows(session, 3)["x"].shape == (3, 8)
    session.close()


def test_a_model_that_no_made_up_input_fits(make_model: MakeModel) -> None:
    weights = helper.make_tensor("w", FLOAT, [7, 1], [1.0] * 7)
    path = make_model([node("MatMul", ["x", "w"], ["y"])], [("y", FLOAT, ["N", 1])], shape=("N", "wide"), constants=[weights])
    session = open_session(path)
    with pytest.raises(RejectedError, match=r"no made-up input: .*give recorded rows with --data FILE"):
        random_rows(session, 1)
    session.close()


ROWS = [[1.0, 2.0, 3.0], [4.0, 5.0, 6.5]]
TEXTS = {
    "a.csv": "time,x,y,z\nnoon,1,2,3\none,4,5,6.5\n",
    "b.csv": "1,2,3\n4,5,6.5\n",
    "c.jsonl": "[1, 2, 3]\n\n[4, 5, 6.5]\n",
    "d.jsonl": '{"at": "noon", "ok": true, "x": 1, "y": 2, "z": 3}\n{"x": 4, "y": 5, "z": 6.5}\n',
    "e.ndjson": '{"row": [1, 2, 3]}\n{"row": [4, 5, 6.5]}\n',
}


@pytest.mark.parametrize("name", TEXTS)
def test_rows_of_a_text_file(softmax: Path, tmp_path: Path, name: str) -> None:
    (tmp_path / name).write_text(TEXTS[name])
    session = open_session(softmax)
    rows = read_rows(tmp_path / name, session.inputs)["x"]
    assert rows.dtype == np.float32
    assert rows.tolist() == ROWS
    session.close()


def test_rows_of_parquet_and_npz(softmax: Path, tmp_path: Path) -> None:
    import pyarrow as pa
    from pyarrow import parquet

    columns = {"device": ["a", "b"], "x": [1.0, 4.0], "y": [2, 5], "z": [3.0, 6.5]}
    parquet.write_table(pa.table(columns), tmp_path / "r.parquet")
    np.savez(tmp_path / "r.npz", x=np.array(ROWS))
    np.savez(tmp_path / "s.npz", **{"input:x": np.zeros((MAX_ROWS + 5, 3))})
    session = open_session(softmax)
    assert read_rows(tmp_path / "r.parquet", session.inputs)["x"].tolist() == ROWS
    assert read_rows(tmp_path / "r.npz", session.inputs)["x"].tolist() == ROWS
    assert len(read_rows(tmp_path / "s.npz", session.inputs)["x"]) == MAX_ROWS
    session.close()


def test_lines_of_text_for_a_text_model(make_model: MakeModel, tmp_path: Path) -> None:
    path = make_model([node("Identity", ["x"], ["y"])], [("y", STRING, ["N", 1])], shape=("N", 1), dtype=STRING)
    (tmp_path / "r.jsonl").write_text('["disk full"]\n["all well"]\n')
    session = open_session(path)
    assert read_rows(tmp_path / "r.jsonl", session.inputs)["x"].tolist() == [["disk full"], ["all well"]]
    session.close()


@pytest.mark.parametrize(
    ("name", "text", "says"),
    [
        ("none.csv", None, "the file of recorded rows does not exist"),
        ("a.txt", "1,2,3", ".txt is no kind of recorded rows; use CSV, JSONL, Parquet or npz"),
        ("a.csv", "", "there are no rows"),
        ("a.csv", "1,2,3\n4,5\n", "line 2 does not have the 3 numbers of the first row"),
        ("a.csv", "1,2\n3,4\n", "input 'x': expected shape [N, 3], got [2, 2]"),
        ("a.jsonl", "[1, 2, 3]\n{", "line 2 is not JSON"),
        ("a.jsonl", "[1, 2, 3]\n[1, 2]\n", "the rows differ in length"),
        ("a.npz", "nonsense", "the recorded rows cannot be read"),
        ("a.parquet", "nonsense", "the recorded rows cannot be read"),
    ],
)
def test_what_cannot_be_read_says_why(softmax: Path, tmp_path: Path, name: str, text: str | None, says: str) -> None:
    if text is not None:
        (tmp_path / name).write_text(text)
    session = open_session(softmax)
    with pytest.raises(RejectedError) as raised:
        read_rows(tmp_path / name, session.inputs)
    assert says in str(raised.value)
    assert name in str(raised.value)
    session.close()


def test_two_inputs_need_npz_with_both(make_model: MakeModel, tmp_path: Path) -> None:
    path = make_model([node("Add", ["x", "z"], ["y"])], [("y", INT64, ["N", 3])], dtype=INT64, inputs=("x", "z"))
    (tmp_path / "r.csv").write_text("1,2,3\n")
    np.savez(tmp_path / "one.npz", x=np.zeros((2, 3)))
    np.savez(tmp_path / "uneven.npz", x=np.zeros((2, 3)), z=np.zeros((3, 3)))
    session = open_session(path)
    for name, says in (
        ("r.csv", "the model has 2 inputs"),
        ("one.npz", "no array 'z'"),
        ("uneven.npz", "the arrays hold 2, 3 rows"),
    ):
        with pytest.raises(RejectedError, match=says):
            read_rows(tmp_path / name, session.inputs)
    session.close()
