"""What a new user gets wrong offline, and the sentence that comes back."""

import re
from pathlib import Path

import pytest
from onnx import TensorProto, helper

from skerry.cli import main
from skerry.cli.templates import NAMES
from tests.docs.test_quickstart import TEST, call


def model_of_width(width: int, file: Path) -> None:
    graph = helper.make_graph(
        [helper.make_node("ReduceSum", ["x", "axes"], ["score"], keepdims=0)],
        "sum",
        [helper.make_tensor_value_info("x", TensorProto.FLOAT, ["N", width])],
        [helper.make_tensor_value_info("score", TensorProto.FLOAT, ["N"])],
        [helper.make_tensor("axes", TensorProto.INT64, [1], [1])],
    )
    file.write_bytes(helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8).SerializeToString())


def edit(folder: Path, before: str, after: str) -> None:
    file = folder / "skerry.toml"
    text = file.read_text("utf-8")
    assert before in text
    file.write_text(text.replace(before, after), encoding="utf-8")


def test_a_model_of_another_width(quickstart: Path, capsys: pytest.CaptureFixture[str]) -> None:
    edit(quickstart, '["mean", "std"]', '["mean"]')
    answer = call(capsys, "pipeline", "check")
    assert answer.code == 1
    assert "takes 4 features a row" in answer.err
    assert "the pipeline makes 2" in answer.err


@pytest.mark.parametrize(("samples", "code"), [(2, 0), (3, 1)])
def test_samples_of_a_count_window_must_fit_the_model(
    quickstart: Path, capsys: pytest.CaptureFixture[str], samples: int, code: int
) -> None:
    model_of_width(4, quickstart / "overload.onnx")
    edit(quickstart, 'features = ["mean", "std"]', "features = []")
    edit(quickstart, '{ kind = "tumbling", size = "5s", lateness = "1s" }', f'{{ kind = "count", size = {samples} }}')
    answer = call(capsys, "pipeline", "check", "motor-load")
    assert answer.code == code, answer
    assert code == 0 or f"the pipeline makes {2 * samples}" in answer.err


def test_a_file_for_another_topic(quickstart: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (quickstart / "other.jsonl").write_text(
        '{"topic": "elsewhere/motor-1/motor", "payload": {"ts": 1, "current": 1, "temperature": 1}}\n'
    )
    answer = call(capsys, "pipeline", "test", "motor-load", "other.jsonl")
    assert (answer.code, answer.err) == (0, "other.jsonl: none of its messages is on a topic of devices/+/motor\n")


@pytest.mark.parametrize(
    ("content", "sentence"),
    [
        ('{"events": 5}', "error: other.json: holds something else than events"),
        ("[5]", "error: other.json: holds something else than events"),
        ("no", "error: other.json:1: is no JSON"),
    ],
)
def test_an_expectation_that_is_none(quickstart: Path, capsys: pytest.CaptureFixture[str], content: str, sentence: str) -> None:
    (quickstart / "other.json").write_text(content)
    answer = call(capsys, *TEST, "--expect", "other.json")
    assert answer.code == 1
    assert answer.err.startswith(sentence)


@pytest.mark.parametrize(
    ("before", "after", "words"),
    [
        ("lateness", "latness", ["window", "'latness'", "did you mean 'lateness'?"]),
        ("above", "abov", ["rule", "'abov'", "did you mean 'above'?"]),
        ('"5s"', '"5 parsec"', ["window", "'5 parsec' is not a duration", "us, ms, s, m, h"]),
        ('"std"]', '"sdt"]', ["features", "'sdt'", "did you mean 'std'?"]),
        ("overload@active", "overlod@active", ["model", "'overlod'", "did you mean 'overload'?"]),
        ('"event",', '"uplink",', ["sinks[0]", "'uplink'", "has no centre", "set uplink.url"]),
        ("[[models]]", "[[model]]", ["'model'", "did you mean 'models'?"]),
    ],
)
def test_a_slip_in_the_file(
    quickstart: Path, capsys: pytest.CaptureFixture[str], before: str, after: str, words: list[str]
) -> None:
    edit(quickstart, before, after)
    answer = call(capsys, "config", "check")
    assert (answer.code, answer.out) == (2, "")
    assert re.match(r"error: skerry\.toml:\d+: ", answer.err)
    assert len(answer.err.splitlines()) == 1
    assert [word for word in words if word not in answer.err] == []


@pytest.mark.parametrize("template", NAMES)
def test_what_init_writes_is_good(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, template: str) -> None:
    monkeypatch.chdir(tmp_path)
    assert main(["init", "plant", "--name", "box1", "--site", "plant", "--template", template]) == 0
    assert main(["--config", "plant/skerry.toml", "pipeline", "check"]) == 0
