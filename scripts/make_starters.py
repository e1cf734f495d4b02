"""Makes what `skerry init --template` copies beside skerry.toml: a small model, a recording and the events expected of it.

    python scripts/make_starters.py [NAME ...]

Each model is a logistic regression of a few features, trained here on simulated devices with fixed seeds; the recording is
of a seed that the training has not seen. Needs the extra `image` for the pictures.
The same versions of numpy and onnx give the same files.
"""

import base64
import csv
import io
import json
import sys
import tomllib
from collections.abc import Callable, Sequence
from pathlib import Path
from random import Random
from tempfile import TemporaryDirectory

import numpy as np
import onnx
from numpy.typing import NDArray
from onnx import TensorProto, helper

from skerry.cli import starters
from skerry.cli.templates import toml
from skerry.config import load
from skerry.node import offline_test
from skerry.window.features import compute

OUT = Path(__file__).parents[1] / "src" / "skerry" / "cli" / "starters"
BEGAN = 1_772_344_800  # 2026-03-01T06:00:00Z
OPSET, IR_VERSION = 20, 9
Floats = NDArray[np.float64]
Signal = Callable[[Random, int, bool], Floats]


def vibration(rng: Random, size: int, faulty: bool) -> Floats:
    """Accelerations of a bearing at 100 Hz in m/s²: a worn one knocks a few times a second, and rings."""
    at = np.arange(size) / 100.0
    noise = np.random.default_rng(rng.randrange(1 << 30))
    speed = 2 * np.pi * (24.0 + rng.uniform(-1, 1))
    found = np.column_stack([gain * np.sin(speed * at + rng.uniform(0, 6)) for gain in (0.30, 0.22, 0.12)])
    found += noise.normal(0.0, 0.08, found.shape)
    found[:, 2] += 9.81
    if faulty:
        strength = rng.uniform(1.2, 2.5)
        for knock in range(rng.randrange(20), size, rng.randrange(18, 26)):
            ring = np.exp(-np.arange(12) / 3.0) * np.cos(1.9 * np.arange(12)) * strength
            found[knock : knock + 12, :2] += np.outer(ring[: max(0, size - knock)], (1.0, 0.7))
    return found.round(3)


def energy(rng: Random, size: int, faulty: bool) -> Floats:
    """Power of a compressor in W and the line's voltage, each ten seconds: one that leaks never rests."""
    noise = np.random.default_rng(rng.randrange(1 << 30))
    period, phase = rng.randrange(14, 22), rng.randrange(22)
    on = ((np.arange(size) + phase) % period) < (period if faulty else period * rng.uniform(0.35, 0.5))
    power = np.where(on, rng.uniform(1450, 1700), 38.0) * noise.normal(1.0, 0.02, size)
    return np.column_stack([power.round(1), noise.normal(230.0, 1.2, size).round(1)])


def cold_chain(rng: Random, size: int, faulty: bool) -> Floats:
    """Temperature of a cold store in °C and whether its door is open, each ten seconds: slow warming is a fault."""
    noise = np.random.default_rng(rng.randrange(1 << 30))
    inside, found = 4.0 + rng.uniform(-0.4, 0.4), []
    door, swing = 0, rng.uniform(0, 6)
    for step in range(size):
        door = door - 1 if door else rng.randrange(3, 7) if rng.random() < 0.02 else 0
        drift = 0.035 if faulty else (4.0 - inside) * 0.08
        inside += drift + (0.22 if door else 0.0)
        found.append((inside + 0.25 * np.sin(step / 9 + swing) + noise.normal(0, 0.05), float(door > 0)))
    return np.array(found).round(2)


LABELS = {
    "vibration": ("healthy", "worn"), "energy": ("normal", "leaking"), "cold-chain": ("cold", "warming"),
    "camera": ("closed", "open"), "text-log": ("normal", "fault"),
}  # fmt: skip
SIGNALS: dict[str, tuple[Signal, tuple[str, ...], float, int]] = {
    # signal, values, seconds between two readings, readings a window
    "vibration": (vibration, ("x", "y", "z"), 0.01, 100),
    "energy": (energy, ("power", "voltage"), 10.0, 30),
    "cold-chain": (cold_chain, ("temperature", "door"), 10.0, 60),
}
RECORDED = {  # (device, whether it is faulty in the middle), readings
    "vibration": (("pump-1", False), ("pump-2", True), 1200),
    "energy": (("compressor-1", False), ("compressor-2", True), 540),
    "cold-chain": (("store-1", False), ("store-2", True), 540),
}


def fit(rows: Floats, faulty: NDArray[np.bool_]) -> tuple[Floats, Floats]:
    """Weights `[F, 2]` and bias `[2]` of a logistic regression with a little weight decay, by Newton's method."""
    mean, scale = rows.mean(axis=0), rows.std(axis=0) + 1e-9
    x = np.column_stack([(rows - mean) / scale, np.ones(len(rows))])
    w = np.zeros(x.shape[1])
    for _ in range(60):
        p = 1 / (1 + np.exp(-np.clip(x @ w, -30, 30)))
        decay = np.r_[np.full(len(w) - 1, 1.0), 0.0]
        hessian = x.T @ (x * (p * (1 - p) + 1e-6)[:, None]) + np.diag(decay)
        step = np.linalg.solve(hessian, x.T @ (p - faulty) + decay * w)
        w -= step
        if np.abs(step).max() < 1e-9:
            break
    weights = w[:-1] / scale
    return np.column_stack([np.zeros_like(weights), weights]), np.array([0.0, w[-1] - (weights * mean).sum()])


def model(
    name: str, labels: Sequence[str], weights: Floats, bias: Floats, nodes: list[onnx.NodeProto],
    source: onnx.ValueInfoProto, trained: str,
) -> bytes:  # fmt: skip
    """`nodes` make `features` of the input; then logits and probabilities."""
    graph = helper.make_graph(
        [
            *nodes,
            helper.make_node("Gemm", ["features", "weights", "bias"], ["logits"]),
            helper.make_node("Softmax", ["logits"], ["probabilities"], axis=1),
        ],
        name,
        [source],
        [helper.make_tensor_value_info("probabilities", TensorProto.FLOAT, ["N", len(labels)])],
        [
            helper.make_tensor("weights", TensorProto.FLOAT, weights.shape, weights.astype(np.float32).ravel()),
            helper.make_tensor("bias", TensorProto.FLOAT, bias.shape, bias.astype(np.float32)),
            helper.make_tensor("rows", TensorProto.INT64, [2], [0, -1]),
        ],
    )
    made = helper.make_model(graph, opset_imports=[helper.make_opsetid("", OPSET)], ir_version=IR_VERSION, producer_name="skerry")
    helper.set_model_props(made, {"labels": json.dumps(labels), "trained_on": trained})
    onnx.checker.check_model(made, full_check=True)
    return made.SerializeToString(deterministic=True)


def from_signals(name: str, folder: Path) -> None:
    """Model and recording of a template whose input is features of windows."""
    signal, values, every, size = SIGNALS[name]
    (spec,) = (each for each in tomllib.loads(starters.pipeline(name))["pipelines"] if each["name"] == name)
    labels = LABELS[name]
    faulty = np.arange(600) % 2 == 1
    windows = [signal(Random(seed), size, bool(bad)) for seed, bad in enumerate(faulty)]
    offsets = np.arange(len(windows) + 1, dtype=np.int64) * size
    rows = compute(spec["features"], np.concatenate(windows), offsets)
    weights, bias = fit(rows, faulty)
    source = helper.make_tensor_value_info("features", TensorProto.FLOAT, ["N", rows.shape[1]])
    text = f"{len(windows)} simulated windows, half of them {labels[1]}"
    (folder / f"{folder.name}.onnx").write_bytes(model(name, labels, weights, bias, [], source, text))
    *devices, count = RECORDED[name]
    columns = {}
    for seed, (device, breaks) in enumerate(devices, start=50_000):
        rng = Random(seed)
        parts = [signal(rng, count // 3, breaks and part == 1) for part in range(3)]
        columns[device] = np.concatenate(parts)
    out = io.StringIO()
    writer = csv.writer(out, lineterminator="\n")
    writer.writerow(("device", "ts", *values))
    for step in range(count):
        for device, found in columns.items():
            writer.writerow((device, f"{BEGAN + step * every:.2f}".rstrip("0").rstrip("."), *found[step].tolist()))
    (folder / "recorded.csv").write_text(out.getvalue(), encoding="utf-8")


def camera(folder: Path) -> None:
    """Pictures of a gate by day: a grey gate, or the bright yard behind it where it stands open."""
    from PIL import Image  # late: the extra `image`

    def picture(rng: Random, opened: bool) -> Floats:
        light = rng.uniform(0.75, 1.1)
        colour = (95, 120, 165) if not opened else (150, 175, 110)
        made = np.full((32, 32, 3), colour, np.float64) * light
        made[20:] = np.array((80, 85, 90) if not opened else (190, 180, 150)) * light
        for bar in range(0, 32, 4) if not opened else ():
            made[:, bar] *= 0.6
        noise = np.random.default_rng(rng.randrange(1 << 30)).normal(0, 8, made.shape)
        return np.clip(made + noise, 0, 255).round()

    faulty = np.arange(200) % 2 == 1
    pictures = np.stack([picture(Random(seed), bool(bad)) for seed, bad in enumerate(faulty)]) / 255
    rows = pictures.mean(axis=(1, 2))
    weights, bias = fit(rows, faulty)
    nodes = [
        helper.make_node("GlobalAveragePool", ["image"], ["pooled"]),
        helper.make_node("Reshape", ["pooled", "rows"], ["features"]),
    ]
    source = helper.make_tensor_value_info("image", TensorProto.FLOAT, ["N", 3, 32, 32])
    trained = f"{len(rows)} made-up pictures of a gate, half of them open"
    (folder / f"{folder.name}.onnx").write_bytes(model("camera", LABELS["camera"], weights, bias, nodes, source, trained))
    lines = []
    for step in range(24):
        out = io.BytesIO()
        shown = picture(Random(70_000 + step), 8 <= step < 16).astype(np.uint8)
        Image.fromarray(shown, "RGB").save(out, "JPEG", quality=70)
        payload = base64.b64encode(out.getvalue()).decode()
        row = {"topic": "devices/gate-1/camera", "payload_base64": payload, "at": BEGAN + 5 * step}
        lines.append(json.dumps(row))
    (folder / "recorded.jsonl").write_text("\n".join(lines) + "\n", encoding="utf-8")


NORMAL = (
    "INFO cycle {} finished in {} s", "INFO door closed", "INFO part {} placed", "INFO temperature {} C in range",
    "WARN queue is {} parts long", "INFO operator {} logged in", "INFO tool {} changed", "WARN network was slow for {} s",
)  # fmt: skip
FAULTS = (
    "ERROR axis {} does not move: drive fault {}", "ERROR emergency stop pressed", "ERROR timeout of sensor {} after {} s",
    "WARN retry {} of axis {}: drive overload", "ERROR pressure lost in line {}", "ERROR drive fault {} on axis {}",
)  # fmt: skip


def text_log(folder: Path) -> None:
    """Lines of a machine's log; a bag of words says which of them tell of a fault."""

    def line(rng: Random, bad: bool) -> str:
        pattern = rng.choice(FAULTS if bad else NORMAL)
        return pattern.format(*(rng.randrange(1, 60) for _ in range(2)))

    faulty = np.arange(800) % 2 == 1
    lines = [line(Random(seed), bool(bad)) for seed, bad in enumerate(faulty)]
    words = sorted({word for each in lines for word in each.split(" ") if word.strip(":").isalpha()})
    rows = np.array([[each.split(" ").count(word) for word in words] for each in lines], float)
    weights, bias = fit(rows, faulty)
    nodes = [
        helper.make_node("StringSplit", ["line"], ["words", "counts"], delimiter=" "),
        helper.make_node("Reshape", ["words", "rows"], ["flat"]),
        helper.make_node(
            "TfIdfVectorizer", ["flat"], ["features"], max_gram_length=1, max_skip_count=0, min_gram_length=1, mode="TF",
            ngram_counts=[0], ngram_indexes=list(range(len(words))), pool_strings=words,
        ),
    ]  # fmt: skip
    source = helper.make_tensor_value_info("line", TensorProto.STRING, ["N", 1])
    trained = f"{len(lines)} made-up log lines, half of them of faults"
    (folder / f"{folder.name}.onnx").write_bytes(model("text-log", LABELS["text-log"], weights, bias, nodes, source, trained))
    rng = Random(90_000)
    made = []
    for step in range(60):
        payload = line(rng, 20 <= step < 26 or step == 45)
        made.append({"topic": "devices/cell-1/log", "payload": payload, "at": BEGAN + 2 * step})
    (folder / "recorded.jsonl").write_text("".join(json.dumps(row) + "\n" for row in made), encoding="utf-8")


def expected(name: str, folder: Path) -> None:
    """The events that the template's pipeline makes of the recording."""
    with TemporaryDirectory() as there:
        copy = Path(there)
        (copy / "skerry.toml").write_text(toml(name, "box", "site"), encoding="utf-8")
        for file, content in starters.contents(name).items():
            (copy / file).write_bytes(content)
        (recorded,) = copy.glob("recorded.*")
        answer = offline_test(load(copy / "skerry.toml"), name, recorded)
    events = [{key: event[key] for key in ("key", "start", "state", "label")} for event in answer["events"]]
    (folder / "expected.json").write_text(json.dumps({"events": events}, indent=1) + "\n", encoding="utf-8")
    print(f"{name}: {answer['messages']} messages, {answer['windows']} windows, events {[tuple(e.values()) for e in events]}")


def main() -> int:
    for name in sys.argv[1:] or starters.NAMES:
        folder = OUT / name
        if name in SIGNALS:
            from_signals(name, folder)
        else:
            {"camera": camera, "text-log": text_log}[name](folder)
        expected(name, folder)
    return 0


if __name__ == "__main__":
    sys.exit(main())
