"""`Pipeline` as a library, and what can be checked without a node."""

import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper, numpy_helper

from skerry import Pipeline, errors
from skerry.config import load
from skerry.node import check_pipelines, offline_test

HEAD = '[node]\nname = "box"\n'
MEAN = """
[[pipelines]]
name = "mean"
source = { topic = "devices/+/level", format = "json", time = "ts", values = ["h", "t"] }
window = { kind = "count", size = 2 }
features = ["mean"]
"""
ROWS = [{"device": "a", "ts": at / 10, "h": at, "t": -at} for at in range(6)]


def written(folder: Path, text: str) -> Path:
    file = folder / "skerry.toml"
    file.write_text(HEAD + text)
    return file


def linear(path: Path, width: int) -> Path:
    """A model whose score is the sum of its inputs."""
    ones = numpy_helper.from_array(np.ones((width, 1), np.float32), "w")
    graph = helper.make_graph(
        [helper.make_node("MatMul", ["x", "w"], ["score"])],
        "g",
        [helper.make_tensor_value_info("x", TensorProto.FLOAT, ["N", width])],
        [helper.make_tensor_value_info("score", TensorProto.FLOAT, ["N", 1])],
        [ones],
    )
    onnx.save(helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=10), path)
    return path


def test_rows_give_events(tmp_path: Path) -> None:
    pipeline = Pipeline.from_config(written(tmp_path, MEAN), "mean")
    events = pipeline.test(ROWS)
    assert [event["score"] for event in events] == [0.5, 2.5, 4.5]
    assert events[0]["features"] == {"h_mean": 0.5, "t_mean": -0.5}
    assert (events[0]["node"], events[0]["key"], events[0]["latency_ms"], events[0]["state"]) == ("box", "a", 0.0, "info")
    assert pipeline.test(iter(ROWS)) == events == pipeline.test(ROWS), "no state is kept from one call to the next"
    messages = [{"topic": "devices/a/level", "payload": {"ts": row["ts"], "h": row["h"], "t": row["t"]}} for row in ROWS]
    assert pipeline.test(messages) == events
    assert pipeline.test([]) == []


def test_a_file_as_text_or_path_gives_what_the_command_gives(tmp_path: Path) -> None:
    file = tmp_path / "rows.csv"
    file.write_text("device,ts,h,t\n" + "".join(f"a,{row['ts']},{row['h']},{row['t']}\n" for row in ROWS))
    config = written(tmp_path, MEAN)
    pipeline = Pipeline.from_config(str(config), "mean")
    answer = pipeline.run(file)
    assert answer == pipeline.run(str(file)) == offline_test(load(config), "mean", file)
    assert answer["events"] == pipeline.test(ROWS)
    assert answer["ledger"]["difference"] == 0
    assert {"events", "messages", "windows", "late", "dead_letters"} <= set(answer)


def test_a_model_scores_the_features(tmp_path: Path) -> None:
    linear(tmp_path / "sum.onnx", 2)
    text = '[[models]]\nname = "sum"\nfile = "sum.onnx"\nversion = "7"\n' + MEAN.replace(
        'values = ["h", "t"]', 'values = ["h", "h2"]'
    )
    pipeline = Pipeline.from_config(written(tmp_path, text + 'model = "sum@active"\n'), "mean")
    events = pipeline.test([{"device": "a", "ts": row["ts"], "h": row["h"], "h2": 10} for row in ROWS])
    assert [event["score"] for event in events] == [10.5, 12.5, 14.5]
    assert (events[0]["model"], events[0]["version"]) == ("sum", "7")


def test_what_is_wrong_is_an_error_of_ours(tmp_path: Path) -> None:
    config = written(tmp_path, MEAN)
    with pytest.raises(errors.ConfigError, match="there is no pipeline 'maen', did you mean 'mean'"):
        Pipeline.from_config(config, "maen")
    with pytest.raises(errors.ConfigError, match="cannot be read"):
        Pipeline.from_config(tmp_path / "none.toml", "mean")
    pipeline = Pipeline.from_config(config, "mean")
    (tmp_path / "latin.csv").write_bytes("device,ts,h,t\nä,1,1,1\n".encode("latin-1"))
    wrong: list[Any] = [
        tmp_path / "latin.csv",
        tmp_path / "none.csv",
        tmp_path,
        [5],
        ["topic"],
        [{}],
        [{"topic": 5}],
        [{"device": "a"}],
    ]
    for source in wrong:
        with pytest.raises(errors.RejectedError):
            pipeline.test(source)


def test_check_says_what_each_pipeline_lacks(tmp_path: Path) -> None:
    linear(tmp_path / "two.onnx", 2)
    (tmp_path / "noise.onnx").write_bytes(b"no model")
    (tmp_path / "check_features.py").write_text("def good(values, offsets):\n    return values[offsets[:-1]]\nbad = 5\n")
    (tmp_path / "check_broken.py").write_text("1 / 0\n")

    def named(name: str, more: str) -> str:
        return MEAN.replace('"mean"\nsource', f'"{name}"\nsource') + more

    models = "".join(f'[[models]]\nname = "{name}"\nfile = "{name}.onnx"\n' for name in ("two", "noise", "none"))
    own = MEAN.replace('features = ["mean"]\n', "")
    texts = [
        named("fits", 'model = "two"\n'),
        MEAN.replace('name = "mean"', 'name = "wide"').replace('["mean"]', '["mean", "std"]') + 'model = "two"\n',
        named("noisy", 'model = "noise"\n'),
        named("missing", 'model = "none"\n'),
        own.replace('"mean"', '"own"') + 'features = "check_features:good"\n',
        own.replace('"mean"', '"number"') + 'features = "check_features:bad"\n',
        own.replace('"mean"', '"absent"') + 'features = "check_features:absent"\n',
        own.replace('"mean"', '"broken"') + 'features = "check_broken:f"\n',
        own.replace('"mean"', '"nowhere"') + 'features = "check_nowhere:f"\n',
    ]
    rows = {row["name"]: row for row in check_pipelines(load(written(tmp_path, models + "".join(texts))))}
    assert [name for name, row in rows.items() if row["ok"]] == ["fits", "own"]
    for name, words in {
        "wide": "4", "noisy": "noise.onnx", "missing": "none.onnx", "number": "not a function", "absent": "absent",
        "broken": "ZeroDivisionError", "nowhere": "cannot be imported",
    }.items():  # fmt: skip
        assert words in rows[name]["problem"], rows[name]
    assert rows["fits"]["columns"] == ["h_mean", "t_mean"]


LIBRARY = """
import sys
from skerry import Pipeline
rows = [{"device": f"d{at % 7}", "ts": at / 10, "h": at % 13, "t": 0.1 * at} for at in range(200)]
print(Pipeline.from_config(sys.argv[1], "mean").test(rows))
"""


def test_two_processes_say_the_same(tmp_path: Path) -> None:
    config = written(tmp_path, MEAN)
    said = set()
    for seed in ("1", "99"):
        env = {**os.environ, "PYTHONHASHSEED": seed}
        command = [sys.executable, "-c", LIBRARY, str(config)]
        said.add(subprocess.run(command, env=env, capture_output=True, check=True, text=True, cwd=tmp_path).stdout)
    assert len(said) == 1
    assert "h_mean" in said.pop()
