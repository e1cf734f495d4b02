"""`skerry model`."""

import json
from pathlib import Path

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
