"""The demo's configuration: valid TOML whose pipelines are accepted and whose models are there."""

import tomllib
from pathlib import Path

import pytest

from skerry.demo.computer import COMPUTER, COMPUTER_FEATURES, COMPUTER_VALUES, readings_topic, sensors_topic
from skerry.demo.config import COMPUTER_ALARMS, PIPELINES, PUMP_ALARMS, PUMP_WINDOWS, demo_config, model_path
from skerry.demo.pump import PUMP_FEATURES, PUMP_VALUES
from skerry.pipeline.spec import PipelineSpec, parse_pipeline


def pipelines() -> dict[str, PipelineSpec]:
    tables = tomllib.loads(demo_config("data", "127.0.0.1:1883", "127.0.0.1:8080"))["pipelines"]
    return {table["name"]: parse_pipeline(table, f"pipelines.{table['name']}") for table in tables}


def test_what_is_asked_for_is_in_the_file() -> None:
    config = tomllib.loads(demo_config("some dir", "0.0.0.0:1999", "127.0.0.1:1", name="n", site="s", disk="2GiB"))
    assert config["node"] == {"name": "n", "site": "s", "data_dir": "some dir"}
    assert config["broker"] == {"mqtt": "0.0.0.0:1999", "sync": "1s"}
    assert config["api"] == {"listen": "127.0.0.1:1"}
    assert config["resources"] == {"disk": "2GiB"}


@pytest.mark.parametrize("path", ['C:\\data\\"x"', "tab\tand\nline", "smörgås/日本/😀", "del\x7f"])
def test_any_path_survives_toml(path: str) -> None:
    assert tomllib.loads(demo_config(path, "a:1", "b:2"))["node"]["data_dir"] == path


def test_models_are_there_and_used() -> None:
    config = tomllib.loads(demo_config("data", "a:1", "b:2"))
    assert {model["name"] for model in config["models"]} == {"pump", "computer"}
    for model in config["models"]:
        assert Path(model["file"]) == model_path(model["name"])
        assert Path(model["file"]).is_file()
    used = {spec.model.partition("@")[0] for spec in pipelines().values()}
    assert used == {"pump", "computer"}


def test_pipelines_are_accepted_and_feed_the_models_what_they_learnt_from() -> None:
    specs = pipelines()
    assert tuple(specs) == PIPELINES
    for name in (PUMP_ALARMS, PUMP_WINDOWS):
        assert (specs[name].source.values, specs[name].features) == (PUMP_VALUES, PUMP_FEATURES)
    assert specs[COMPUTER_ALARMS].source.values == COMPUTER_VALUES
    assert specs[COMPUTER_ALARMS].features == COMPUTER_FEATURES
    assert {spec.window.size_us for spec in specs.values()} == {1_000_000}


def test_windows_are_the_same_with_and_without_a_rule() -> None:
    specs = pipelines()
    assert specs[PUMP_WINDOWS].rule is None
    assert specs[PUMP_ALARMS].rule is not None
    assert specs[PUMP_WINDOWS].window_digest == specs[PUMP_ALARMS].window_digest


def test_topics_of_the_devices_are_the_sources_topics() -> None:
    specs = pipelines()
    assert specs[PUMP_ALARMS].source.topic.replace("+", "pump-1") == sensors_topic("pump-1")
    assert specs[COMPUTER_ALARMS].source.topic.replace("+", COMPUTER) == readings_topic()
