"""What a trained detector is on disk: a directory that `skerry` runs as it is."""

import re
import shutil
import tomllib
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import onnx
import onnxruntime
from onnx import TensorProto, helper, numpy_helper
from skab_detector import AlarmRule
from skab_features import Floats, features
from skab_runs import Run, Windows, windows
from skl2onnx import to_onnx

HERE = Path(__file__).parent
MODEL, CONFIG, MODULE = "skab.onnx", "skerry.toml", "skab_features.py"
OPSET = 17


class Detector(NamedTuple):
    """A detector read back: the model's session and the rule of skerry.toml."""

    session: Any
    rule: AlarmRule

    def scores(self, made: Windows) -> Floats:
        """Score of each window, as the pipeline has it."""
        (score,) = self.session.run(["score"], {self.session.get_inputs()[0].name: made.rows})
        return np.asarray(score, np.float64)

    def alarms(self, run: Run) -> Any:
        """Whether the alarm is on after each row of a run, `[n]` bool."""
        made = windows(run)
        return self.rule.alarms(self.scores(made))[made.newest]


def save(forest: Any, rule: AlarmRule, out: Path) -> None:
    """Write model, pipeline and feature function into a directory."""
    out.mkdir(parents=True, exist_ok=True)
    onnx.save(to_model(forest), out / MODEL)
    (out / CONFIG).write_text(_config(rule), encoding="utf-8")
    shutil.copyfile(HERE / MODULE, out / MODULE)


def to_model(forest: Any) -> onnx.ModelProto:
    """The forest as ONNX: input `features` float32 `[N, F]`, outputs `score` `[N]` (probability of a fault) and `label` `[N]`."""
    width = len(features.columns)  # type: ignore[attr-defined]  # functions take attributes, their type does not say so
    labelled = forest.__class__(**forest.get_params())
    labelled.__dict__.update(forest.__dict__)
    labelled.classes_ = np.array([0, 1], np.int64)
    model: onnx.ModelProto = to_onnx(
        labelled,
        np.zeros((1, width), np.float32),
        options={id(labelled): {"zipmap": False}},
        target_opset=OPSET,
    )
    graph = model.graph
    label, chances = (output.name for output in graph.output)
    graph.initializer.append(numpy_helper.from_array(np.array(1, np.int64), "faulty"))
    graph.node.append(helper.make_node("Gather", [chances, "faulty"], ["score"], axis=1))
    del graph.output[:]
    graph.output.extend(
        [
            helper.make_tensor_value_info("score", TensorProto.FLOAT, ["N"]),
            helper.make_tensor_value_info(label, TensorProto.INT64, ["N"]),
        ]
    )
    _rename(graph, graph.input[0].name, "features")
    _rename(graph, label, "label")
    onnx.checker.check_model(model)
    return model


def _rename(graph: onnx.GraphProto, old: str, new: str) -> None:
    for value in (*graph.input, *graph.output):
        value.name = new if value.name == old else value.name
    for node in graph.node:
        for names in (node.input, node.output):
            names[:] = [new if name == old else name for name in names]


def _config(rule: AlarmRule) -> str:
    """skerry.toml with the chosen rule in the place of the one written there."""
    line = (
        f'rule = {{ field = "score", above = {rule.above}, clear_below = {rule.clear_below}, '
        f'for = {rule.for_}, clear_for = {rule.clear_for}, severity = "warning" }}'
    )
    text, found = re.subn(r"(?m)^rule = .*$", line, (HERE / CONFIG).read_text(encoding="utf-8"))
    if found != 1:
        raise SystemExit(f"{HERE / CONFIG}: one line `rule = …` is expected, not {found}")
    return text


def load(out: Path) -> Detector:
    """Read back what `save` wrote. Raises `SystemExit` when it is not there."""
    if not (out / MODEL).is_file() or not (out / CONFIG).is_file():
        raise SystemExit(f"{out}: {MODEL} and {CONFIG} are expected there; train.py writes them")
    rule = tomllib.loads((out / CONFIG).read_text(encoding="utf-8"))["pipelines"][0]["rule"]
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = 1
    session = onnxruntime.InferenceSession(out / MODEL, options, providers=["CPUExecutionProvider"])
    return Detector(session, AlarmRule(rule["above"], rule["clear_below"], rule["for"], rule["clear_for"]))
