"""The second engine: the same contract, chosen by measuring, never in the way."""

import subprocess
import sys
from pathlib import Path

import numpy as np
from onnx import TensorProto, helper, numpy_helper

from skerry.inference.engine.choice import Measurement, _judge, choose_engine
from skerry.inference.engine.opening import open_session
from skerry.inference.engine.seam import EngineOptions
from tests.contracts.engine import ROWS, EngineContract, two_outputs
from tests.inference.conftest import STRING, MakeModel


class TestOpenVino(EngineContract):
    engine = "openvino"


def test_what_it_cannot_run_falls_back_with_a_sentence(make_model: MakeModel) -> None:
    text = make_model([helper.make_node("Identity", ["x"], ["y"])], [("y", STRING, ["N", 3])], dtype=STRING)
    session = open_session(text, EngineOptions(engine="openvino"))
    assert session.engine == "onnxruntime"
    assert session.note == "onnxruntime runs the model, for openvino cannot: openvino takes no string ('x')"
    words = np.array([["a", "b", "c"]], object)
    assert session.run({"x": words})["y"].tolist() == [["a", "b", "c"]]


def dense(make: MakeModel, rows: int | str = "N", layers: int = 10, width: int = 700) -> Path:
    """A model whose runs are long enough to be worth measuring."""
    weight = numpy_helper.from_array(np.full((width, width), 1e-3, np.float32), "w")
    names = ["x", *(f"h{at}" for at in range(layers - 1)), "y"]
    nodes = [helper.make_node("MatMul", [names[at], "w"], [names[at + 1]]) for at in range(layers)]
    return make(nodes, [("y", TensorProto.FLOAT, [rows, width])], shape=[rows, width], constants=[weight])


def test_runs_that_are_too_short_for_it_to_gain_are_not_measured(tmp_path: Path) -> None:
    code = "import sys; from pathlib import Path; from skerry.inference.engine.choice import choose_engine\n"
    code += "print(choose_engine(Path(sys.argv[1]))[1][1].note, 'openvino' in sys.modules)"
    path = two_outputs(tmp_path / "m.onnx")
    answer = subprocess.run([sys.executable, "-c", code, str(path)], capture_output=True, text=True, check=True, timeout=60)
    assert answer.stdout == "not measured: the runs are too short for it to gain False\n"


def test_the_choice_is_by_measuring(make_model: MakeModel) -> None:
    chosen, measured = choose_engine(dense(make_model))
    assert [each.engine for each in measured] == ["onnxruntime", "openvino"]
    assert all(set(each.seconds) == {1, 16} and each.load_seconds > 0 and not each.note for each in measured)
    assert chosen in ("onnxruntime", "openvino")


def test_a_fixed_batch_is_measured_as_it_is(make_model: MakeModel) -> None:
    assert all(set(each.seconds) == {0} for each in choose_engine(dense(make_model, rows=8))[1])


def test_it_must_be_faster_everywhere_and_right() -> None:
    def judge(theirs: dict[int, float], output: np.ndarray = ROWS) -> tuple[str, str]:
        measured = [Measurement("onnxruntime", 0.1, {1: 1.0, 16: 4.0}), Measurement("openvino", 0.1, theirs)]
        same = [{1: {"y": ROWS}, 16: {"y": ROWS}}, {1: {"y": output}, 16: {"y": ROWS}}]
        return _judge(measured, same), measured[1].note

    assert judge({1: 0.9, 16: 3.0}) == ("openvino", "")
    assert judge({1: 1.1, 16: 1.0}) == ("onnxruntime", "")
    assert judge({1: 0.95, 16: 3.9}) == ("onnxruntime", "")
    assert judge({1: 0.1, 16: 0.1}, ROWS + 1) == ("onnxruntime", "its outputs differ from onnxruntime's")
    assert judge({16: 0.1}) == ("onnxruntime", "")
