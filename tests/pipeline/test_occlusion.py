"""Why a window scored so: on the models that come with the templates, and where the answer is known by hand."""

import math
import xml.etree.ElementTree as ET
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from skerry import Pipeline, errors
from skerry.cli import main, starters
from skerry.inference import reference_json, reference_of
from tests.node.test_library import HEAD, MEAN, linear, written

RNG = np.random.default_rng(7)
ROWS: list[dict[str, Any]] = [{"device": "a", "ts": at, "h": float(RNG.normal()), "t": float(RNG.normal(100))} for at in range(200)]
ROWS[100] |= {"h": 9.0}
ROWS[101] |= {"h": 9.0}
SUM = '[[models]]\nname = "sum"\nfile = "sum.onnx"\n' + MEAN + 'model = "sum@active"\n'


@pytest.fixture
def summed(tmp_path: Path) -> Pipeline:
    """A model whose score is the sum of its two features."""
    linear(tmp_path / "sum.onnx", 2)
    return Pipeline.from_config(written(tmp_path, SUM), "mean")


def test_of_a_sum_each_feature_added_what_it_is_over_the_median(summed: Pipeline) -> None:
    events = summed.test(ROWS)
    wanted = {name: float(np.quantile([event["features"][name] for event in events], 0.5, method="inverted_cdf"))
              for name in ("h_mean", "t_mean")}  # fmt: skip
    found = summed.explain(50, ROWS)
    assert (found.window, found.key, found.reference, found.reference_rows) == (50, "a", "recording", 100)
    assert found.features[0].feature == "h_mean"
    assert found.features[0].unusual
    assert found.score == pytest.approx(events[50]["score"])
    for each in found.features:
        value = events[50]["features"][each.feature]
        assert (each.value, each.reference) == pytest.approx((value, wanted[each.feature]))
        assert each.contribution == pytest.approx(value - wanted[each.feature], abs=1e-4)
        assert each.without == pytest.approx(found.score - (value - wanted[each.feature]), abs=1e-4)
    assert found.reference_score == pytest.approx(sum(wanted.values()), abs=1e-4)


def test_a_window_is_named_by_place_event_or_not_at_all(summed: Pipeline) -> None:
    events = summed.test(ROWS)
    by_place, by_event = summed.explain(-1, ROWS), summed.explain(events[-1], ROWS)
    assert by_place == by_event == summed.explain(99, ROWS)
    assert (by_event.start, by_event.end) == (events[-1]["start"], events[-1]["end"])
    highest = max(range(100), key=lambda at: events[at]["score"])
    assert summed.explain(source=ROWS).window == highest


@pytest.mark.parametrize(
    ("window", "source", "words"),
    [
        (100, ROWS, "0 to 99"),
        (-101, ROWS, "there is no window -101"),
        ({"key": "b", "start": "x", "end": "y"}, ROWS, "no window of b"),
        (0, [], "gives no window"),
        (0, None, "needs the recording"),
        ({"key": "a", "features": {}}, None, "carries no features"),
        ({"key": "a", "features": {"h_mean": 1.0, "t_mean": 1.0}}, None, "no drift reference"),
    ],
)
def test_what_cannot_be_explained_is_said(summed: Pipeline, window: Any, source: Any, words: str) -> None:
    with pytest.raises(errors.RejectedError, match=words):
        summed.explain(window, source)


def test_a_model_that_carries_its_training_is_compared_with_that(tmp_path: Path) -> None:
    """An event alone is enough then, and the reference is the training's: its deciles, whatever the recording is like."""
    import onnx

    trained = np.column_stack([RNG.normal(5, 1, 1000), RNG.normal(50, 2, 1000)])
    model = onnx.load(linear(tmp_path / "sum.onnx", 2))
    model.metadata_props.add(key="drift_reference", value=reference_json(reference_of(trained, ["h_mean", "t_mean"])))
    onnx.save(model, tmp_path / "sum.onnx")
    pipeline = Pipeline.from_config(written(tmp_path, SUM), "mean")
    event = pipeline.test(ROWS)[50]
    found = pipeline.explain(event)
    assert (found.reference, found.reference_rows, found.window) == ("training", 1000, None)
    for at, each in enumerate(sorted(found.features, key=lambda each: each.feature)):
        cuts = np.quantile(trained[:, at], (0.5, 0.1, 0.9), method="inverted_cdf")
        assert (each.reference, each.low, each.high) == pytest.approx(tuple(cuts))
        assert each.contribution == pytest.approx(event["features"][each.feature] - cuts[0], abs=1e-4)
        assert each.unusual
    assert pipeline.explain(event, ROWS).features == found.features


@pytest.mark.parametrize("template", starters.NAMES)
def test_the_templates_models(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, template: str) -> None:
    monkeypatch.chdir(tmp_path)
    assert main(["init", "here", "--template", template, "--name", "b", "--site", "s", "-q"]) == 0
    pipeline = Pipeline.from_config(tmp_path / "here" / "skerry.toml", template)
    (recording,) = (tmp_path / "here").glob("recorded.*")
    found = pipeline.explain(source=recording)
    assert found.score > 0.9
    assert found.features
    added = [each.contribution for each in found.features]
    assert None not in added
    assert added == sorted(added, key=lambda each: -abs(each or 0.0))
    if template == "text-log":
        assert found.features[0].feature == "ERROR"
        assert found.reference_score is None
    else:
        assert found.reference_score is not None
        assert found.reference_score < 0.5, "the recording's usual window is no alarm"
        assert math.fsum(each or 0.0 for each in added) == pytest.approx(found.score - found.reference_score, abs=1e-5)
    if template == "cold-chain":
        assert found.features[0].feature.startswith("temperature")
    drawn = ET.fromstring(found.svg())
    assert len(drawn.findall("{*}rect")) == min(24, len(found.features))
    assert found.features[0].feature in found._repr_html_()


def test_without_features_the_values_are_what_is_explained(tmp_path: Path) -> None:
    """The samples are the model's input: a value is put to its median in all samples of the window."""
    linear(tmp_path / "sum.onnx", 4)
    text = SUM.replace('features = ["mean"]\n', "")
    pipeline = Pipeline.from_config(written(tmp_path, text), "mean")
    found = pipeline.explain(50, ROWS)
    assert [each.feature for each in found.features] == ["h", "t"]
    median = float(np.quantile([row["h"] for row in ROWS], 0.5, method="inverted_cdf"))
    assert found.features[0].value == 9.0
    assert found.features[0].contribution == pytest.approx(2 * (9.0 - median), abs=1e-3)


def test_without_a_model_the_first_feature_is_the_score(tmp_path: Path) -> None:
    file = tmp_path / "skerry.toml"
    file.write_text(HEAD + MEAN)
    found = Pipeline.from_config(file, "mean").explain(source=ROWS)
    assert (found.window, found.score, found.model) == (50, 9.0, None)
    assert [each.feature for each in found.features] == ["h_mean", "t_mean"]
    assert found.features[1].contribution == 0.0
