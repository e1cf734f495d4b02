"""The alert rules and the dashboard of packaging/ name what a real node's /metrics gives, and nothing else."""

import json
import re
import time
import urllib.request
from collections import defaultdict
from pathlib import Path
from typing import Any

import pytest
import yaml
from prometheus_client.parser import text_string_to_metric_families

from tests.docs.blocks import ROOT
from tests.fixtures.node import RunningNode, until
from tests.system.fleet import connected
from tests.system.test_drift import TABLES, write_model

NAME = re.compile(r"\bskerry_[a-z0-9_]+")
SELECTOR = re.compile(r"\b(skerry_[a-z0-9_]+)\{([^}]*)\}")
MATCHER = re.compile(r'(\w+)\s*=~?\s*"([^"]*)"')
BY = re.compile(r"\bby \(([^)]*)\)")
SCRAPED = {"instance", "job"}
"""Labels that Prometheus puts to whatever it scrapes."""
LAST = ('skerry_messages_received_total{pipeline="watched"} 2.0', "skerry_cpu_seconds_total{", "skerry_infer_seconds_count{")
"""What is there once a node has worked for some seconds."""


class Given:
    """What one /metrics gives: names of samples, and which values each label of each has."""

    def __init__(self, text: str) -> None:
        self.names: set[str] = set()
        self.labels: dict[str, dict[str, set[str]]] = defaultdict(lambda: defaultdict(set))
        for family in text_string_to_metric_families(text):
            ends = {"counter": ["_total"], "histogram": ["_bucket", "_sum", "_count"], "summary": ["_sum", "_count"]}
            self.names |= {family.name + end for end in ends.get(family.type, [""])}
            for sample in family.samples:
                self.names.add(sample.name)
                labels = self.labels[sample.name]
                for label, value in sample.labels.items():
                    labels[label].add(value)

    def faults(self, expression: str) -> list[str]:
        """What the expression names that is not there. Labels are looked at where the metric has samples."""
        found = [f"no metric {name}" for name in NAME.findall(expression) if name not in self.names]
        for name, inside in SELECTOR.findall(expression):
            for label, value in MATCHER.findall(inside):
                known = self.labels.get(name)
                if label in SCRAPED or known is None:
                    continue
                if label not in known or ("$" not in value and value not in known[label]):
                    found.append(f'{name} has no {label}="{value}"')
        known = [self.labels[name] for name in NAME.findall(expression) if name in self.labels]
        by = {word.strip() for group in BY.findall(expression) for word in group.split(",")} - SCRAPED
        lost = [label for label in sorted(by) if known and not any(label in each for each in known)]
        return found + [f"nothing has the label {label}" for label in lost]


@pytest.fixture(scope="module")
def given(tmp_path_factory: pytest.TempPathFactory) -> Given:
    """The metrics of a node whose pipeline has scored a message and refused one."""
    folder = tmp_path_factory.mktemp("node")
    write_model(folder / "same.onnx")
    with RunningNode(folder, TABLES) as node:
        device = connected("d", node.mqtt)
        try:
            for value in (1.0, "rubbish"):
                device.publish("devices/d/level", json.dumps({"ts": time.time(), "level": value}), qos=1)

            def text() -> str:
                with urllib.request.urlopen(f"http://{node.status()['broker']['http']}/metrics", timeout=10) as answer:
                    found = str(answer.read().decode())
                return found if all(each in found for each in LAST) else ""

            return Given(until(text, 60, "the messages are in the books, and processes are measured"))
        finally:
            device.disconnect()
            device.loop_stop()


def rules() -> list[dict[str, Any]]:
    groups = yaml.safe_load((ROOT / "packaging" / "prometheus-alerts.yml").read_text("utf-8"))["groups"]
    return [rule for group in groups for rule in group["rules"]]


def dashboard() -> dict[str, Any]:
    found: dict[str, Any] = json.loads((ROOT / "packaging" / "grafana.json").read_text("utf-8"))
    return found


def test_each_alert_asks_for_what_a_node_gives(given: Given) -> None:
    assert {rule["alert"]: found for rule in rules() if (found := given.faults(rule["expr"]))} == {}


def test_each_panel_asks_for_what_a_node_gives(given: Given) -> None:
    asked = [(panel["title"], target["expr"]) for panel in dashboard()["panels"] for target in panel.get("targets", ())]
    assert len(asked) > 30
    assert [(title, found) for title, expression in asked if (found := given.faults(expression))] == []
    queries = [each["definition"] for each in dashboard()["templating"]["list"] if each["type"] == "query"]
    assert [found for query in queries if (found := given.faults(query))] == []


@pytest.mark.parametrize(
    "expression",
    [
        "skerry_redy == 0",
        "rate(skerry_events[5m])",
        'skerry_resource_used{kind="cheese"}',
        'skerry_ready{kind="x"}',
        "sum by (pipelin) (skerry_lag_messages)",
    ],
)
def test_what_is_not_there_is_found(given: Given, expression: str) -> None:
    assert given.faults(expression)


def test_each_alert_can_be_acted_on() -> None:
    found = rules()
    assert len({rule["alert"] for rule in found}) == len(found) > 15
    for rule in found:
        assert set(rule) <= {"alert", "expr", "for", "labels", "annotations"}, rule["alert"]
        assert rule["labels"]["severity"] in {"critical", "warning", "info"}
        assert re.fullmatch(r"[1-9]\d*[smh]", rule.get("for", "1s")), rule["alert"]
        assert set(rule["annotations"]) == {"summary", "description"}
        assert "$labels.instance" in rule["annotations"]["summary"]
        for left, right in ("()", "{}", "[]"):
            assert rule["expr"].count(left) == rule["expr"].count(right), rule["alert"]


def test_an_alert_s_words_use_labels_that_are_left_by_its_expression(given: Given) -> None:
    for rule in rules():
        told = set(re.findall(r"\$labels\.(\w+)", " ".join(rule["annotations"].values()))) - SCRAPED
        kept = {word.strip() for group in BY.findall(rule["expr"]) for word in group.split(",")}
        if kept:
            assert told <= kept, rule["alert"]
        else:
            known = {label for name in NAME.findall(rule["expr"]) for label in given.labels.get(name, {})}
            assert not known or told <= known, rule["alert"]


def test_the_panels_have_units_and_do_not_lie_on_each_other() -> None:
    panels = dashboard()["panels"]
    assert len({panel["id"] for panel in panels}) == len(panels)
    variables = {each["name"] for each in dashboard()["templating"]["list"]}
    used: set[tuple[int, int]] = set()
    for panel in panels:
        place = panel["gridPos"]
        cells = {(x, y) for x in range(place["x"], place["x"] + place["w"]) for y in range(place["y"], place["y"] + place["h"])}
        assert not cells & used, panel["title"]
        assert place["x"] + place["w"] <= 24
        used |= cells
        if panel["type"] != "row":
            assert panel["fieldConfig"]["defaults"]["unit"]
            assert panel["datasource"]["uid"] == "${source}"
            asked = " ".join(target["expr"] for target in panel["targets"])
            assert {name for name in re.findall(r"\$(\w+)", asked) if not name.startswith("__")} <= variables


def test_what_the_alerts_tell_to_type_exists() -> None:
    from tests.docs.test_docs import complaint

    said = " ".join(rule["annotations"]["description"] for rule in rules())
    commands = set(re.findall(r"\bskerry (?:uplink status|pipeline list|status --uptime 1d|logs --audit|top|status)\b", said))
    assert len(commands) == 6
    assert [fault for command in commands if (fault := complaint(command.split()[1:]))] == []


def test_the_documents_name_both_files() -> None:
    told = Path(ROOT / "docs" / "operations.md").read_text("utf-8")
    assert "packaging/prometheus-alerts.yml" in told
    assert "packaging/grafana.json" in told
