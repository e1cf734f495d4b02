"""Connectors of a real node: from outside to an event and out again, over the death of their process and of the agent."""

import json
import urllib.request
from pathlib import Path

import pytest

from skerry.core.errors import RejectedError
from skerry.http import Client, NotFoundError, RefusedError
from tests.fixtures.node import RunningNode, until

CONFIG = """
[[connectors]]
name = "push"
kind = "http"
direction = "in"
topic = "devices/{.device}/v"
tokens = ["shop"]

[[connectors]]
name = "gone"
kind = "http"
direction = "out"
url = "http://127.0.0.1:9/hook"

[[pipelines]]
name = "p"
source = { topic = "devices/+/v", values = ["x"] }
"""
INGEST = "/api/v1/ingest/push"


def items(begin: int, end: int) -> bytes:
    return json.dumps([{"device": f"d{at}", "x": at} for at in range(begin, end)]).encode()


def keys(node: RunningNode) -> set[str]:
    return {event["key"] for event in node.events("p")}


def test_what_is_posted_becomes_events_whoever_dies(tmp_path: Path) -> None:
    with RunningNode(tmp_path, CONFIG) as node, Client(node.data / "skerry.sock") as client:
        assert client.upload(INGEST, items(0, 20), "application/json") == {"stored": 20}
        until(lambda: len(keys(node)) == 20, 30, "all became events")
        until(lambda: _row(node, "gone")["trouble"], 30, "the one that goes nowhere says so")
        assert any("connector gone waits" in each for each in node.status()["warnings"])
        node.kill("connector")
        assert client.upload(INGEST, items(20, 40), "application/json") == {"stored": 20}
        until(lambda: _row(node, "gone")["waiting"] >= 40, 40, "a new process, with all that was not taken")
        with pytest.raises(RejectedError, match="item 0 lacks"):
            client.upload(INGEST, b"{}", "application/json")
        with pytest.raises(NotFoundError, match="there are: push"):
            client.upload("/api/v1/ingest/gone", b"{}", "application/json")
        node.kill("agent")
        node.start()
        until(lambda: len(keys(node)) == 40, 40, "nothing is lost")
        with urllib.request.urlopen(f"http://{node.status()['broker']['http']}/metrics", timeout=10) as answer:
            metrics = answer.read().decode()
        assert 'skerry_connector_messages_total{connector="push"} 0.0' in metrics
        assert 'skerry_restarts_total{child="connectors"}' in metrics


def test_only_the_tokens_named_may_post(tmp_path: Path) -> None:
    with RunningNode(tmp_path, CONFIG) as node:
        with node.client() as own:
            given = {"shop": "ingest", "other": "ingest", "reader": "read"}
            made = {name: own.post("/api/v1/tokens", {"name": name, "scopes": [scope]}) for name, scope in given.items()}
        secrets = {name: answer["token"] for name, answer in made.items()}
        url = f"http://{node.status()['broker']['http']}"
        with Client(url, token=secrets["shop"]) as client:
            assert client.upload(INGEST, items(0, 1), "application/json") == {"stored": 1}
            with pytest.raises(RefusedError):
                client.get("/api/v1/node")
        with Client(url, token=secrets["other"]) as client, pytest.raises(RefusedError, match="'other' is not for"):
            client.upload(INGEST, items(0, 1), "application/json")
        with Client(url, token=secrets["reader"]) as client, pytest.raises(RefusedError):
            client.upload(INGEST, items(0, 1), "application/json")


def _row(node: RunningNode, name: str) -> dict[str, object]:
    return next(row for row in node.status()["connectors"] if row["name"] == name)
