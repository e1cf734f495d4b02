"""Events as readers see them: the stream that resumes over a restart, pages, the tail on the command line."""

import json
import subprocess
import sys
import threading
import time
from pathlib import Path
from typing import Any

import pytest

from skerry.core.errors import SkerryError
from tests.fixtures.node import RunningNode, until
from tests.system.accounts import BOTH, EVERY, ONCE, settle
from tests.system.fleet import Fleet

# every message is an event of each of them
EACH = "".join(
    f"""
[[pipelines]]
name = "{name}"
source = {{ topic = "devices/+/numbers", time = "ts", values = ["n"], max_future = "10m" }}
"""
    for name in (ONCE, EVERY)
)


class Reader:
    """Follows the event stream as a browser does: with the last id that it saw, again and again."""

    def __init__(self, node: RunningNode) -> None:
        self.seen: list[tuple[int, dict[str, Any]]] = []
        self.connections = 0
        self._node = node
        self._end = threading.Event()
        self._thread = threading.Thread(target=self._run, daemon=True)
        self._thread.start()

    def _run(self) -> None:
        while not self._end.is_set():
            last = str(self.seen[-1][0]) if self.seen else "0"
            try:
                with self._node.client() as client:
                    for message in client.stream("/api/v1/events/stream", last_id=last, silence=2.0):
                        self.connections += not self.seen or str(self.seen[-1][0]) == last
                        self.seen.append((int(message.id), json.loads(message.data)))
                        if self._end.is_set():
                            return
            except SkerryError:
                time.sleep(0.1)

    def stop(self) -> None:
        self._end.set()
        self._thread.join(5)


def test_the_stream_resumes_over_restarts_without_gap_or_repeat(tmp_path: Path) -> None:
    with RunningNode(tmp_path, EACH) as node, Fleet(node.mqtt, 4, 150) as fleet:
        reader = Reader(node)
        until(lambda: reader.seen, 10, "the first event")
        node.kill("nats-server")
        time.sleep(2.0)
        node.kill("agent")
        node.start()
        time.sleep(1.0)
        settle(node, fleet)
        listed = {name: node.events(name) for name in (ONCE, EVERY)}
        wanted = sum(map(len, listed.values()))
        until(lambda: len(reader.seen) >= wanted, 10, "the reader has seen all")
        time.sleep(0.5)
        reader.stop()
        assert reader.connections >= 2
        sequences = [sequence for sequence, _ in reader.seen]
        assert sequences == sorted(set(sequences))
        for name, events in listed.items():
            assert [event["id"] for _, event in reader.seen if event["pipeline"] == name] == [event["id"] for event in events]


def test_pages_and_the_tail_show_the_same_events(tmp_path: Path) -> None:
    with RunningNode(tmp_path, BOTH) as node, Fleet(node.mqtt, 8, 400) as fleet:
        time.sleep(2.0)
        settle(node, fleet)
        whole = [event["id"] for event in node.events(ONCE)]
        assert len(whole) >= 16
        found: list[str] = []
        after: str | None = None
        with node.client() as client:
            while True:
                query = {"pipeline": ONCE, "limit": 5, **({"after": after} if after else {})}
                page = client.get("/api/v1/events", query)
                assert len(page["events"]) <= 5
                found += [event["id"] for event in page["events"]]
                after = page["next"]
                if after is None:
                    break
            one = client.get("/api/v1/events", {"pipeline": ONCE, "key": "d3", "limit": 1000})["events"]
            assert {event["key"] for event in one} == {"d3"}
            assert len(one) * 8 == len(whole)
            since = client.get("/api/v1/events", {"pipeline": ONCE, "since": time.time() - 3600, "limit": 1000})["events"]
            assert [event["id"] for event in since] == whole
        assert found == whole
        argv = [sys.executable, "-m", "skerry.cli", "--config", str(node.file), "--json", "data", "tail", "-n", "7"]
        argv += ["--pipeline", ONCE]
        tail = subprocess.run(argv, capture_output=True, text=True, timeout=20, check=True).stdout
        assert [event["id"] for event in json.loads(tail)["events"]] == whole[-7:]


def test_status_as_json_and_the_processes_it_names(tmp_path: Path) -> None:
    with RunningNode(tmp_path, BOTH, workers=2) as node:
        argv = [sys.executable, "-m", "skerry.cli", "--config", str(node.file), "status", "--json"]
        status = json.loads(subprocess.run(argv, capture_output=True, text=True, timeout=20, check=True).stdout)
        assert {"node", "site", "version", "ready", "uptime_ratio", "pipelines", "models", "broker", "ledger"} <= set(status)
        named = {row["name"]: row["pid"] for row in status["processes"]}
        assert set(named) == {"agent", "nats-server", "worker-0", "worker-1"}
        assert set(named.values()) == {node.agent.pid} | {process.pid for process in node.children()}
        assert status["ledger"]["difference"] == 0
        code, _ = node.stop()
        assert code == 0
        with pytest.raises(subprocess.CalledProcessError) as gone:
            subprocess.run(argv, capture_output=True, text=True, timeout=20, check=True)
        assert gone.value.returncode == 3
