"""Makes the files of this example: `overload.onnx`, a small model put together by hand, and `recorded.csv`, what two motors sent.

Run it with `python make.py`; the files are the same each time.
"""

import json
import math
from pathlib import Path

import onnx
from onnx import TensorProto, helper

HERE = Path(__file__).resolve().parent
COLUMNS = ("current_mean", "current_std", "temperature_mean", "temperature_std")
LABELS = ("normal", "overload")
SECONDS = 60
OVERLOAD = range(20, 40)


def model() -> onnx.ModelProto:
    """Input `[N, 4]` float32, output `probabilities` `[N, 2]`: even odds at 8 A and 60 °C, odds × e² per ampere."""
    weights = [0.0, 2.0, 0.0, 0.0, 0.0, 0.2, 0.0, 0.0]
    bias = [0.0, -2.0 * 8.0 - 0.2 * 60.0]
    graph = helper.make_graph(
        [
            helper.make_node("Gemm", ["features", "weights", "bias"], ["logits"]),
            helper.make_node("Softmax", ["logits"], ["probabilities"], axis=1),
        ],
        "overload",
        [helper.make_tensor_value_info("features", TensorProto.FLOAT, ["N", len(COLUMNS)])],
        [helper.make_tensor_value_info("probabilities", TensorProto.FLOAT, ["N", len(LABELS)])],
        [
            helper.make_tensor("weights", TensorProto.FLOAT, [len(COLUMNS), len(LABELS)], weights),
            helper.make_tensor("bias", TensorProto.FLOAT, [len(LABELS)], bias),
        ],
    )
    made = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8, producer_name="skerry-quickstart")
    helper.set_model_props(made, {"labels": json.dumps(LABELS)})
    onnx.checker.check_model(made, full_check=True)
    return made


def recording() -> str:
    """A reading a second of two motors for a minute; `motor-2` takes 10 A and warms up in the middle third of it."""
    lines = ["device,ts,current,temperature"]
    warm = 45.0
    for second in range(SECONDS):
        loaded = second in OVERLOAD
        warm += 0.8 if loaded else -0.4 if warm > 45.4 else 0.0
        ripple = 0.2 * math.sin(second)
        stamp = f"2026-03-01T06:00:{second:02d}Z"
        lines.append(f"motor-1,{stamp},{5.0 + ripple:.2f},45.0")
        lines.append(f"motor-2,{stamp},{(10.0 if loaded else 5.0) - ripple:.2f},{warm:.1f}")
    return "\n".join(lines) + "\n"


def main() -> None:
    (HERE / "overload.onnx").write_bytes(model().SerializeToString(deterministic=True))
    (HERE / "recorded.csv").write_text(recording(), encoding="utf-8")


if __name__ == "__main__":
    main()
