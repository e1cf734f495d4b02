"""Text in a pipeline: a log line is scored by a text model of scikit-learn as scikit-learn scores it."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest

from skerry.core.errors import ConfigError, RejectedError
from skerry.inference import Model, load_model
from skerry.pipeline import PipelineSpec, books, run_file
from skerry.pipeline.decode import Undecoded, decoder
from tests.fixtures.frames import events, feed, letters, log_of, new_runner, run, spec_of
from tests.fixtures.scorers import SumScorer
from tests.fixtures.text_model import LINES, SEEN, text_model

SOURCE = {"topic": "devices/+/v", "format": "string", "time": "", "values": []}


def lines(**source: Any) -> PipelineSpec:
    return spec_of(source={**SOURCE, **source}, model="log")


@pytest.fixture(scope="module")
def trained(tmp_path_factory: pytest.TempPathFactory) -> tuple[Any, Path]:
    file = tmp_path_factory.mktemp("text") / "log.onnx"
    return text_model(file), file


@pytest.fixture
def model(trained: tuple[Any, Path]) -> Model:
    return load_model(trained[1], "log")


def test_lines_are_scored_as_scikit_learn_scores_them(trained: tuple[Any, Path], model: Model) -> None:
    texts = [*LINES, *SEEN]
    runner = run(lines(), log_of(text.encode() + b"\n" for text in texts), model)
    found = events(runner.outputs)
    chances = trained[0].predict_proba([[text] for text in texts])
    np.testing.assert_allclose([event["score"] for event in found], chances[:, 1], atol=1e-5)
    assert [event["label"] for event in found] == trained[0].predict([[text] for text in texts]).tolist()
    assert {event["label"] for event in found} == {"fault", "normal"}
    assert model.runs == 1
    assert (books(runner.state)["difference"], books(runner.state)["scored"]) == (0, len(texts))


@pytest.mark.parametrize(
    ("payload", "text"), [(b"a\r\n", "a"), ("größe 5 µm".encode(), "größe 5 µm"), (b"", ""), (b"a\nb\n", "a\nb")]
)
def test_a_message_is_one_string_without_the_end_of_its_line(payload: bytes, text: str) -> None:
    rows, tensor = decoder(lines().source)(payload)
    assert isinstance(tensor, np.ndarray)
    assert (rows, tensor.dtype, tensor.tolist()) == ([(-1.0,)], object, [text])


def test_what_is_not_utf8_is_a_dead_letter_and_the_rest_is_scored(model: Model) -> None:
    runner = run(lines(max_payload="100B"), log_of([b"bearing overheated", b"\xff\xfe\x00", b"pump started", b"x" * 101]), model)
    assert [(letter.sequence, letter.reason) for letter in letters(runner.outputs)] == [(2, "undecodable"), (4, "oversized")]
    assert len(events(runner.outputs)) == 2
    assert books(runner.state)["difference"] == 0
    with pytest.raises(Undecoded, match="not UTF-8"):
        decoder(lines().source)(b"\xff")


def test_reads_do_not_matter(model: Model) -> None:
    frames = log_of(text.encode() for text in LINES)
    apart = new_runner(lines(), model)
    for one in frames:
        feed(apart, [one])
    assert [output.id for output in apart.outputs] == [output.id for output in run(lines(), frames, model).outputs]


def test_keys_are_kept_apart_by_partition(model: Model) -> None:
    frames = [log_of([b"pump started"] * at, f"devices/{at}/v")[-1] for at in range(1, 9)]
    dealt = [new_runner(lines(), model, partition=(part, 2)) for part in range(2)]
    for runner in dealt:
        feed(runner, frames)
    assert sorted(event["key"] for runner in dealt for event in events(runner.outputs)) == [str(at) for at in range(1, 9)]
    assert sum(runner.state.ledger.received for runner in dealt) == 8


def test_a_model_of_numbers_reads_no_strings_and_the_other_way_round(model: Model) -> None:
    with pytest.raises(RejectedError, match="reads strings"):
        new_runner(spec_of(source={**SOURCE, "format": "image", "width": 2, "height": 2}, model="log"), model)
    with pytest.raises(RejectedError, match="takes strings, the pipeline makes numbers"):
        model.score(np.zeros((2, 1)))
    with pytest.raises(RejectedError, match="makes 3 columns of numbers"):
        model.check_columns(3)
    assert model.features is None
    runner = run(spec_of(model="log"), log_of([b'{"ts": 1, "x": 2}']), model)
    assert [letter.reason for letter in letters(runner.outputs)] == ["model-error"]


@pytest.mark.parametrize(
    "more", [{"dedup": "time"}, {"dedup": "id"}, {"features": ["mean"]}, {"window": {"kind": "session", "gap": "1s"}}]
)
def test_strings_have_no_fields(more: dict[str, Any]) -> None:
    with pytest.raises(ConfigError):
        spec_of(source=SOURCE, model="log", **more)


def test_a_rule_needs_the_score() -> None:
    with pytest.raises(ConfigError, match="neither score nor a feature"):
        spec_of(source=SOURCE, model="log", rule={"field": "value", "above": 1})


def test_a_recorded_log(tmp_path: Path, model: Model) -> None:
    file = tmp_path / "log.jsonl"
    file.write_text(
        '{"topic": "devices/a/v", "payload": "bearing overheated, stop"}\n{"topic": "devices/a/v", "payload": "pump started"}'
    )
    answer = run_file(lines(), model, "rock", file)
    assert [event["label"] for event in answer["events"]] == ["fault", "normal"]
    assert (answer["messages"], answer["windows"], answer["dead_letters"]) == (2, 2, [])


def test_numbers_go_on_as_before() -> None:
    assert events(run(spec_of(model="sum"), log_of([b'{"ts": 1, "x": 2}']), SumScorer()).outputs)[0]["score"] == 2.0
