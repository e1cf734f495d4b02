"""What every engine behind `skerry.inference.engine.seam.Session` does.

Use: subclass `EngineContract` as `Test…` with a class attribute `engine`.
"""

import threading
from pathlib import Path

import numpy as np
import pytest
from onnx import TensorProto, helper, numpy_helper

from skerry.core.errors import RejectedError, UnavailableError
from skerry.inference.engine.opening import open_session
from skerry.inference.engine.seam import EngineOptions, Session
from skerry.inference.engine.signature import Signature

ROWS = np.array([[1, -2, 3], [4, 5, -6]], np.float32)


def two_outputs(path: Path) -> Path:
    """`double` = 2x and `positive` = relu(x) of `x` [N, 3]."""
    value = helper.make_tensor_value_info
    graph = helper.make_graph(
        [helper.make_node("Mul", ["x", "two"], ["double"]), helper.make_node("Relu", ["x"], ["positive"])],
        "g",
        [value("x", TensorProto.FLOAT, ["N", 3])],
        [value("double", TensorProto.FLOAT, ["N", 3]), value("positive", TensorProto.FLOAT, ["N", 3])],
        [numpy_helper.from_array(np.array(2, np.float32), "two")],
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)
    helper.set_model_props(model, {"by": "us"})
    path.write_bytes(model.SerializeToString())
    return path


class EngineContract:
    """The contract."""

    engine = ""

    @pytest.fixture
    def file(self, tmp_path: Path) -> Path:
        return two_outputs(tmp_path / "m.onnx")

    @pytest.fixture
    def session(self, file: Path) -> Session:
        return open_session(file, EngineOptions(engine=self.engine))

    def test_it_says_what_it_is_and_what_the_model_takes(self, session: Session) -> None:
        assert (session.engine, session.note) == (self.engine, "")
        assert session.inputs == [Signature("x", "float32", (None, 3))]
        assert session.outputs == [Signature("double", "float32", (None, 3)), Signature("positive", "float32", (None, 3))]
        assert session.metadata == {"by": "us"}

    def test_it_runs_any_number_of_rows(self, session: Session) -> None:
        for rows in (ROWS, ROWS[:1], np.repeat(ROWS, 50, axis=0), ROWS[::-1]):
            found = session.run({"x": rows})
            assert list(found) == ["double", "positive"]
            assert np.array_equal(found["double"], 2 * rows)
            assert np.array_equal(found["positive"], np.maximum(rows, 0))
            assert found["double"].dtype == np.float32

    def test_no_rows_are_an_answer_of_no_rows(self, session: Session) -> None:
        assert session.run({"x": ROWS[:0]})["double"].shape == (0, 3)

    def test_it_gives_only_what_is_wanted(self, session: Session) -> None:
        assert list(session.run({"x": ROWS}, ["positive"])) == ["positive"]
        with pytest.raises(RejectedError, match="there is no output 'nothing'; outputs: double, positive"):
            session.run({"x": ROWS}, ["nothing"])

    @pytest.mark.parametrize(
        ("feed", "told"),
        [
            ({"x": ROWS.astype(np.float64)}, "input 'x': expected dtype float32, got float64"),
            ({"x": ROWS[:, :2]}, r"input 'x': expected shape \[N, 3\], got \[2, 2\]"),
            ({"x": ROWS[0]}, r"input 'x': expected 2 dimensions \[N, 3\], got 1 \[3\]"),
            ({"x": ROWS.tolist()}, r"input 'x': expected a numpy array of float32 \[N, 3\], got list"),
            ({"y": ROWS}, r"input 'x' is missing: expected x float32 \[N, 3\], got y"),
            ({}, r"input 'x' is missing: .* got nothing"),
            ({"x": ROWS, "xx": ROWS}, "there is no input 'xx', did you mean 'x'"),
        ],
    )
    def test_a_feed_that_does_not_fit_is_told_by_name(self, session: Session, feed: dict, told: str) -> None:
        with pytest.raises(RejectedError, match=told):
            session.run(feed)
        assert session.run({"x": ROWS})["double"].shape == (2, 3)

    def test_an_answer_is_the_callers(self, session: Session) -> None:
        first = session.run({"x": ROWS})["double"]
        session.run({"x": ROWS + 1})
        assert np.array_equal(first, 2 * ROWS)

    def test_threads_share_it(self, session: Session) -> None:
        wrong: list[int] = []

        def work(number: int) -> None:
            expected = 2 * (ROWS + number)
            if not all(np.array_equal(session.run({"x": ROWS + number})["double"], expected) for _ in range(50)):
                wrong.append(number)

        threads = [threading.Thread(target=work, args=(number,)) for number in range(4)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        assert not wrong

    def test_nan_and_infinity_go_through(self, session: Session) -> None:
        rows = np.array([[np.nan, np.inf, -np.inf]], np.float32)
        assert np.array_equal(session.run({"x": rows})["double"], rows, equal_nan=True)

    def test_closed_it_says_so(self, session: Session) -> None:
        session.close()
        session.close()
        with pytest.raises(UnavailableError, match="unloaded"):
            session.run({"x": ROWS})

    def test_bytes_and_a_cache_give_the_same(self, file: Path, tmp_path: Path) -> None:
        options = EngineOptions(engine=self.engine)
        for source, cache in ((file.read_bytes(), None), (file, tmp_path / "c"), (file, tmp_path / "c")):
            session = open_session(source, options, cache)
            assert np.array_equal(session.run({"x": ROWS})["double"], 2 * ROWS)
            assert session.metadata == {"by": "us"}
