"""The how-to of docs/connectors.md in the real Node-RED: its flow is imported, logs in, sends readings and shows the alarm."""

import contextlib
import json
import shutil
import subprocess
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any
from urllib.error import URLError
from urllib.request import Request, urlopen

import pytest

from tests.docs.blocks import ROOT, blocks, calls
from tests.fixtures.node import RunningNode, until
from tests.mqtt.brokers import modules

DOCUMENT = ROOT / "docs" / "connectors.md"
FLOW: list[dict[str, Any]] = json.loads((ROOT / "examples" / "node-red" / "flow.json").read_text("utf-8"))
TANK = next(block.text for block in blocks("toml", [DOCUMENT]) if 'name = "tank"' in block.text)
ADDED = next(words for _, words in calls("skerry", [DOCUMENT]) if words[:3] == ["device", "add", "nodered"])
SETTINGS = "module.exports = {uiHost: '127.0.0.1', flowFile: 'flows.json', credentialSecret: false, telemetry: {enabled: false}}"


class NodeRed:
    """Node-RED on a port of loopback, and its admin API."""

    def __init__(self, folder: Path, port: int) -> None:
        program = shutil.which("node")
        if program is None:
            pytest.skip("optional: node is not installed")
        self.url, self._log = f"http://127.0.0.1:{port}", folder / "node-red.log"
        (folder / "settings.js").write_text(SETTINGS)
        red = modules("node-red") / "node-red" / "red.js"
        argv = [program, str(red), "--userDir", str(folder), "--settings", str(folder / "settings.js"), "--port", str(port)]
        with self._log.open("wb") as log:
            self._process = subprocess.Popen(argv, cwd=folder, stdout=log, stderr=log)

    @property
    def log(self) -> str:
        return self._log.read_text("utf-8", errors="replace")

    def ready(self) -> bool:
        assert self._process.poll() is None, self.log
        with contextlib.suppress(URLError, OSError), urlopen(f"{self.url}/flows", timeout=10) as answer:
            return bool(answer.status == 200)
        return False

    def deploy(self, flow: list[dict[str, Any]]) -> None:
        """Import a flow, and run it."""
        headers = {"Content-Type": "application/json", "Node-RED-Deployment-Type": "full"}
        with urlopen(Request(f"{self.url}/flows", json.dumps(flow).encode(), headers), timeout=30) as answer:
            assert answer.status == 204

    def close(self) -> None:
        self._process.terminate()
        try:
            self._process.wait(30)
        finally:
            self._process.kill()
            self._process.wait(30)


@pytest.fixture
def red(tmp_path: Path, free_ports: Callable[[int], list[int]]) -> Iterator[NodeRed]:
    (tmp_path / "red").mkdir()
    with contextlib.closing(NodeRed(tmp_path / "red", free_ports(1)[0])) as found:
        until(found.ready, 60, "Node-RED answers")
        yield found


@pytest.mark.timeout(240)
def test_the_flow_of_the_example_sends_readings_and_shows_the_alarm(tmp_path: Path, red: NodeRed) -> None:
    (tmp_path / "node").mkdir()
    with RunningNode(tmp_path / "node", TANK) as node:
        with node.client() as client:
            topics = [ADDED[at + 1] for at, word in enumerate(ADDED) if word == "--topics"]
            client.post("/api/v1/devices", {"id": "nodered", "password": "of-a-test-alone", "topics": topics})
        host, port = node.mqtt
        there = {"broker": host, "port": str(port), "credentials": {"user": "nodered", "password": "of-a-test-alone"}}
        red.deploy([{**each, **there} if each["type"] == "mqtt-broker" else each for each in FLOW])
        until(lambda: "state: 'firing'" in red.log, 60, "Node-RED shows the alarm")
        ledger = node.pipeline("tank")["ledger"]
        assert ledger["received"] >= 1, ledger
    assert "pipeline: 'tank'" in red.log
    assert "key: 'nodered'" in red.log
    assert "Connected to broker" in red.log
