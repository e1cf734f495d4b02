"""Which model a reference means, and what the list says of those that do not load."""

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from onnx import helper

from skerry.core.errors import ConfigError, RejectedError
from skerry.core.settings import build
from skerry.inference import EngineHost, ModelConfig, Models, describe
from tests.inference.conftest import FLOAT, INT64, MakeModel


@pytest.fixture
def file(make_model: MakeModel) -> Path:
    return make_model([helper.make_node("Identity", ["x"], ["score"])], [("score", FLOAT, ["N", 3])])


def configs(*rows: tuple[str, str]) -> list[ModelConfig]:
    return [ModelConfig(name, f"{name}.onnx", version) for name, version in rows]


@pytest.mark.parametrize(
    ("reference", "version"), [("pump", "2"), ("pump@active", "2"), ("pump@1", "1"), ("pump@", "2"), ("fan", "9")]
)
def test_a_reference_means_a_version_the_last_being_active(reference: str, version: str) -> None:
    models = Models(configs(("pump", "1"), ("fan", "9"), ("pump", "2")), Path())
    assert models.find(reference).version == version


@pytest.mark.parametrize(
    ("reference", "text"),
    [("pmup", "did you mean 'pump'.*allowed: fan, pump"), ("pump@3", "no version '3'.*allowed: 1, active"), ("", "no model ''")],
)
def test_a_reference_to_nothing_is_refused_with_what_there_is(reference: str, text: str) -> None:
    with pytest.raises(ConfigError, match=text) as caught:
        Models(configs(("pump", "1"), ("fan", "1")), Path()).find(reference)
    assert caught.value.where == "model"


def test_the_version_that_is_marked_is_the_active_one() -> None:
    rows = [ModelConfig("pump", "a", "1", active=True), ModelConfig("pump", "b", "2")]
    assert Models(rows, Path()).find("pump").version == "1"
    assert Models(rows, Path()).find("pump@2").version == "2"


def test_labels_of_the_table_go_before_the_models(make_model: MakeModel) -> None:
    nodes = [helper.make_node("ArgMax", ["x"], ["label"], axis=1, keepdims=0)]
    file = make_model(nodes, [("label", INT64, ["N"])], metadata={"labels": '["a", "b", "c"]'})
    rows = np.eye(3)
    assert Models([ModelConfig("pump", file.name)], file.parent).load("pump").score(rows)[1] == ["a", "b", "c"]
    named = Models([ModelConfig("pump", file.name, labels=("x", "y", "z"))], file.parent)
    assert named.load("pump").score(rows)[1] == ["x", "y", "z"]


def test_a_version_may_be_there_once() -> None:
    with pytest.raises(ConfigError, match=r"models\[1\]: pump@1 is there twice"):
        Models(configs(("pump", "1"), ("pump", "1")), Path())


@pytest.mark.parametrize(
    ("more", "where"),
    [
        ({"name": ""}, "name"),
        ({"name": "a@b"}, "name"),
        ({"version": "1@2"}, "version"),
        ({"version": ""}, "version"),
        ({"memory": "much"}, "memory"),
        ({"max_delay": "1"}, "max_delay"),
    ],
)
def test_a_wrong_table_is_refused_with_its_key(more: dict[str, Any], where: str) -> None:
    with pytest.raises(ConfigError) as caught:
        build(ModelConfig, {"name": "a", "file": "a.onnx", **more}, "models[0]")
    assert caught.value.where == f"models[0].{where}"


def test_a_model_is_loaded_once_and_relative_to_the_configuration(file: Path) -> None:
    models = Models([ModelConfig("pump", file.name)], file.parent)
    loaded = models.load("pump@active")
    assert models.load("pump") is loaded
    assert (loaded.name, loaded.version, loaded.path) == ("pump", "1", str(file))
    with pytest.raises(RejectedError, match="does not exist"):
        Models([ModelConfig("pump", "other.onnx")], file.parent).load("pump")


def test_the_list_says_why_one_does_not_load_also_from_a_process_of_its_own(file: Path) -> None:
    listed = [ModelConfig("pump", file.name), ModelConfig("pump", "gone.onnx", "2")]
    rows = Models(listed, file.parent).listing()
    assert [(row["version"], row["active"], "error" in row) for row in rows] == [("1", False, False), ("2", True, True)]
    assert rows[0]["inputs"] == [{"name": "x", "dtype": "float32", "shape": (None, 3)}]
    with EngineHost() as host:
        described = [describe(config, file.parent, host) for config in listed]
    assert [{**row, "active": None} for row in described] == [{**row, "active": None} for row in json.loads(json.dumps(rows))]
