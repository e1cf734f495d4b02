"""History in a real node: every acknowledged message is there once, whatever is killed; a full store gives up its oldest part."""

import random
import time
from pathlib import Path
from typing import Any
from urllib.parse import quote

import pytest

from skerry.core.errors import RejectedError, UnavailableError
from skerry.historian import Asked, DirectorySource, NodeSource
from skerry.historian.sources import whole
from tests.fixtures.node import RunningNode, until
from tests.system.fleet import Device, Fleet

PIPELINE = """
[[pipelines]]
name = "kept"
source = { topic = "devices/+/numbers", time = "ts", values = ["n"], max_future = "10m" }
sinks = ["event", "history"]
"""
TOPICS = '[history]\ntopics = ["devices/+/numbers"]\n'
ALL = Asked(0, 1 << 55)


def samples(node: RunningNode, name: str) -> dict[int, float]:
    """All samples of a series, in pages."""
    found: dict[int, float] = {}
    begin: int | None = 0
    with node.client() as client:
        while begin is not None:
            at = f"{begin // 1_000_000}.{begin % 1_000_000:06d}"
            page = client.get(f"/api/v1/series/{quote(name, safe='')}", {"from": at, "to": "2100-01-01T00:00:00Z", "limit": 5000})
            assert not found.keys() & set(page["times"])
            found |= dict(zip(page["times"], page["values"], strict=True))
            begin = page["next"]
    return found


def known(node: RunningNode, name: str) -> dict[int, float]:
    """As `samples`; none of a series that is not there yet."""
    try:
        return samples(node, name)
    except (RejectedError, UnavailableError):
        return {}


def history(node: RunningNode) -> dict[str, Any]:
    found: dict[str, Any] = (node.try_status() or {}).get("history") or {}
    return found


def check_all_there(node: RunningNode, fleet: Fleet) -> None:
    fleet.stop()
    until(lambda: fleet.unacknowledged == 0, 20, "all messages are acknowledged")
    for device in fleet.devices:
        name, wanted = f"{device.name}/numbers/n", {stamp: float(serial) for serial, stamp in enumerate(device.times)}
        deadline = time.monotonic() + 30
        while len(known(node, name)) < len(device.times) and time.monotonic() < deadline:
            time.sleep(0.1)
        assert samples(node, name) == wanted


def test_every_acknowledged_message_is_there_once_whatever_is_killed(tmp_path: Path) -> None:
    moments = random.Random(6)
    with RunningNode(tmp_path, PIPELINE) as node, Fleet(node.mqtt, 4, 400) as fleet:
        until(lambda: history(node).get("samples"), 10, "the first sample")
        for role in ("historian", "agent", "historian"):
            node.kill(role)
            if role == "agent":
                node.start()
            time.sleep(moments.uniform(0.2, 0.6))
        check_all_there(node, fleet)
        scores = samples(node, "kept/d0/score")
        events = [event for event in node.events("kept") if event["key"] == "d0"]
        assert sorted(scores.values()) == sorted(event["score"] for event in events)
        assert any("the historian was restarted" in warning for warning in node.status()["warnings"])


def test_topics_are_kept_without_a_pipeline_and_the_files_say_the_same_when_the_node_is_stopped(tmp_path: Path) -> None:
    with RunningNode(tmp_path, TOPICS) as node:
        device, loose = Device("d", node.mqtt), Device("q", node.mqtt, qos=0)
        for _ in range(50):
            device.publish()
            loose.publish()
            time.sleep(0.002)
        until(lambda: device.settle() == 0, 10, "all messages are acknowledged")
        until(lambda: all(len(known(node, f"{name}/numbers/n")) == 50 for name in "dq"), 20, "both devices are there")
        wanted = {stamp: float(serial) for serial, stamp in enumerate(device.times)}
        assert samples(node, "d/numbers/n") == wanted
        with pytest.raises(UnavailableError, match=r"in use by another skerry"):
            DirectorySource(node.data / "history")
        node_source = NodeSource(node.client())
        live = whole(node_source, "d/numbers/n", Asked(0, 1 << 55, 60_000_000, "count"))
        node_source.close()
        assert live.values.sum() == 50
        device.close()
        loose.close()
        assert node.stop()[0] == 0
        source = DirectorySource(node.data / "history")
        assert source.series() == ["d/numbers/n", "q/numbers/n"]
        times, values = whole(source, "d/numbers/n", ALL)
        assert dict(zip(times.tolist(), values.tolist(), strict=True)) == wanted
        source.close()


def test_a_history_comes_and_goes_with_the_configuration_and_costs_no_process_without(tmp_path: Path) -> None:
    with RunningNode(tmp_path) as node:
        assert node.status()["history"] is None
        assert node.processes("historian") == []
        assert not (node.data / "history").exists()
        with node.client() as client, pytest.raises(UnavailableError, match="keeps no history"):
            client.get("/api/v1/series")
        node.write(PIPELINE)
        with node.client() as client:
            assert client.post("/api/v1/config/reload")["changed"] == ["pipelines"]
        until(lambda: node.processes("historian"), 10, "the historian is started")
        until(lambda: history(node).get("cursor", -1) >= 0, 10, "the history is open")
        with Fleet(node.mqtt, 1, 200) as fleet:
            time.sleep(0.5)
            check_all_there(node, fleet)
        node.write("")
        with node.client() as client:
            client.post("/api/v1/config/reload")
        until(lambda: not node.processes("historian"), 10, "the historian has ended")
        assert node.status()["history"] is None
        assert node.status()["warnings"] == []
