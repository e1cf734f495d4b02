"""`skerry model`."""

import json
import re
from pathlib import Path

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper, numpy_helper

from skerry.cli.model import _draw_live
from skerry.cli.session import Paper
from skerry.runtime import DirectoryLock
from tests.api.fake_view import Serving
from tests.cli.conftest import TOML, Call


def test_list(call: Call, node: Serving) -> None:
    head, old, new = call("model", "list").out.splitlines()
    assert head.split() == ["MODEL", "VERSION", "ACTIVE", "FILE", "INPUT"]
    assert old.split(maxsplit=4) == ["bearing", "1", "error", "old.onnx", "the file does not exist"]
    assert new.split(maxsplit=4) == ["bearing", "2", "yes", "new.onnx", "x tensor(float) [N, 18]"]
    assert json.loads(call("model", "list", "--json").out) == {"models": node.view.models()}


def test_show(call: Call, node: Serving) -> None:
    assert call("model", "show", "bearing").out.splitlines() == [
        "bearing@2 (active): new.onnx",
        "input  x tensor(float) [N, 18]",
        "labels: good, bad",
    ]
    assert "it does not load: the file does not exist" in call("model", "show", "bearing@1").out
    assert json.loads(call("model", "show", "bearing@active", "--json").out)["version"] == "2"
    answer = call("model", "show", "baering")
    assert (answer.code, answer.out) == (1, "")
    assert answer.err.startswith("error: there is no model 'baering'")


def test_without_a_node_the_file_is_read(call: Call, tmp_path: Path, free_port: int) -> None:
    (tmp_path / "skerry.toml").write_text(TOML + '[[models]]\nname = "m"\nfile = "none.onnx"\n')
    answer = call("model", "list")
    assert answer.code == 0
    assert "the model file does not exist" in answer.out
    assert answer.err == "no node is running: this is what the configuration says\n"
    assert call("model", "list", "--url", f"http://127.0.0.1:{free_port}").code == 3
    (tmp_path / "skerry.toml").write_text(TOML)
    assert call("model", "list").out == "no models: name one in [[models]] of skerry.toml\n"


def test_a_running_node_is_asked(call: Call, node: Serving) -> None:
    added = call("model", "add", "bearing", "new.onnx", "--labels", "a, b")
    assert added.out == "bearing@3 is staged; it runs after `skerry model activate bearing 3`\n", added.err
    refused = call("model", "add", "bearing", "new.txt")
    assert (refused.code, refused.out) == (1, "")
    assert "the file is no ONNX model" in refused.err
    assert call("model", "activate", "bearing", "2").out == "bearing@2 is active\n"
    assert call("model", "rollback", "bearing").out == "bearing@1 is active again\n"
    assert call("model", "shadow", "bearing", "2").out == "bearing@2 runs in the shadow\n"
    assert node.view.shadow == "2"
    assert call("model", "remove", "bearing", "2").out == "removed bearing@2\n"
    assert node.view.gone == {"bearing@2"}
    assert call("model", "activate", "baering@2").code == 1


def test_behind_the_back_of_a_node_that_does_not_answer_nothing_is_changed(call: Call, tmp_path: Path) -> None:
    (tmp_path / "skerry.toml").write_text(TOML)
    model = write_model(tmp_path / "one.onnx")
    (tmp_path / "data").mkdir()
    lock = DirectoryLock(tmp_path / "data")
    lock.take()  # as a node does that is starting, or hangs
    try:
        for command in (("add", "pump", model), ("activate", "pump", "1"), ("rollback", "pump"), ("remove", "pump", "1")):
            answer = call("model", *command)
            assert (answer.code, answer.out) == (1, "")
            told = r"data: is in use by another skerry \(pid \d+\), which does not answer; nothing was changed;"
            assert re.search(told, answer.err)
    finally:
        lock.release()
    assert call("model", "add", "pump", model).code == 0


def test_only_so_many_versions_stay_without_a_node_too(call: Call, tmp_path: Path) -> None:
    (tmp_path / "skerry.toml").write_text(TOML + "[runtime]\nkeep_versions = 2\n")
    for at in range(4):
        assert call("model", "add", "pump", write_model(tmp_path / f"{at}.onnx", turn=str(at))).code == 0
    stay = {"1": ["1", "3", "4"], "3": ["1", "3", "4"], "4": ["3", "4"]}  # the newest, the active one, what a rollback goes to
    for version, expected in stay.items():
        assert call("model", "activate", "pump", version).code == 0
        rows = json.loads(call("model", "list", "--json").out)["models"]
        assert [row["version"] for row in rows] == expected


def write_model(path: Path, **metadata: str) -> Path:
    """Adds 1 to `x`."""
    tensors = [helper.make_tensor_value_info(name, TensorProto.FLOAT, ["N", 3]) for name in ("x", "score")]
    one = numpy_helper.from_array(np.ones(3, np.float32), "one")
    graph = helper.make_graph([helper.make_node("Add", ["x", "one"], ["score"])], "g", tensors[:1], tensors[1:], [one])
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)
    helper.set_model_props(model, metadata)
    onnx.save(model, path)
    return path


def test_add_activate_rollback_remove_without_a_node(call: Call, tmp_path: Path) -> None:
    (tmp_path / "skerry.toml").write_text(TOML)
    first = write_model(tmp_path / "one.onnx", labels='["a", "b"]')
    added = call("model", "add", "pump", first, "--threshold", "0.5", "--features", "f1, f2,f3")
    assert added.code == 0, added.err
    lines = added.out.splitlines()
    assert lines[0] == "pump@1 is staged; it runs after `skerry model activate pump 1`"
    assert lines[1:3] == ["input  x float32 [N, 3]", "output score float32 [N, 3]"]
    assert re.fullmatch(r"IR 8, opset 17 \(the engine takes IR \d+, opset \d+\)", lines[3])
    assert lines[4].startswith("engine onnxruntime, batch symbolic")
    assert re.fullmatch(r"a row [\d.]+ ms, load [\d.]+ ms, memory [\d.]+ MiB", lines[5])
    assert call("model", "activate", "pump@1").out == "pump@1 is active\n"
    assert call("model", "add", "pump", write_model(tmp_path / "two.onnx"), "--version", "v2").code == 0
    rows = json.loads(call("model", "list", "--json").out)["models"]
    assert [(row["version"], row["state"], row["active"]) for row in rows] == [("1", "active", True), ("v2", "staged", False)]
    assert (rows[0]["labels"], rows[0]["threshold"], rows[0]["features"]) == (["a", "b"], 0.5, ["f1", "f2", "f3"])
    assert call("model", "shadow", "pump@v2").out == "pump@v2 runs in the shadow\n"
    assert call("model", "shadow", "pump").out == "pump has no shadow\n"
    assert call("model", "activate", "pump", "v2").code == 0
    assert "(active)" in call("model", "show", "pump@v2").out
    assert call("model", "rollback", "pump").out == "pump@1 is active again\n"
    refused = call("model", "remove", "pump@1")
    assert (refused.code, refused.err) == (1, "error: pump@1 is active; activate another version first\n")
    assert call("model", "remove", "pump@v2").out == "removed pump@v2\n"
    assert [row["version"] for row in json.loads(call("model", "list", "--json").out)["models"]] == ["1"]


def test_an_opset_too_old_is_offered_conversion(call: Call, tmp_path: Path) -> None:
    (tmp_path / "skerry.toml").write_text(TOML)
    old = tmp_path / "old.onnx"
    tensors = [helper.make_tensor_value_info(name, TensorProto.FLOAT, [1, 3]) for name in ("x", "score")]
    graph = helper.make_graph([helper.make_node("Add", ["x", "x"], ["score"])], "g", tensors[:1], tensors[1:])
    onnx.save(helper.make_model(graph, opset_imports=[helper.make_opsetid("", 6)], ir_version=3), old)
    refused = call("model", "add", "pump", old)
    assert refused.code == 1
    assert refused.err.endswith("add --convert\n")
    added = call("model", "add", "pump", old, "--convert")
    assert added.code == 0, added.err
    assert "opset 13" in added.out


def test_what_cannot_be_added_is_said_in_one_sentence(call: Call, tmp_path: Path) -> None:
    (tmp_path / "skerry.toml").write_text(TOML)
    (tmp_path / "bad.onnx").write_text("no model")
    for arguments, text in (
        (("add", "pump", "bad.onnx"), "no ONNX file"),
        (("add", "pump", "gone.onnx"), "does not exist"),
        (("activate", "pump"), "without a version"),
        (("activate", "pump@3"), "there is no model 'pump'"),
        (("rollback", "pump"), "there is no model 'pump'"),
    ):
        answer = call("model", *arguments)
        assert answer.code in (1, 2)
        assert text in answer.err
        assert answer.err.count("\n") == 1


def test_what_is_loaded_is_shown_with_its_memory_and_the_time_it_took(capsys: pytest.CaptureFixture[str]) -> None:
    charged = [
        {"version": "2", "copies": 2, "memory": 102068224, "most": 51073024, "load_seconds": 0.7594},
        {"version": "1", "copies": 1, "memory": 1 << 20, "load_seconds": 0.004},
    ]
    _draw_live(Paper(), {"charged": charged})
    assert capsys.readouterr().out.splitlines() == [
        "loaded 2: 97.3 MiB of memory in 2 copies, 0.76 s to load",
        "loaded 1: 1.0 MiB of memory in 1 copy, 0.00 s to load",
    ]
