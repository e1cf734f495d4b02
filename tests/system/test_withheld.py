"""A real node with a real device: what is marked occurs in nothing that left, and the audit log says how often it was held back."""

import json
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import msgspec

from skerry.uplink import decode
from skerry.uplink.envelope import read_envelope
from skerry.uplink.item import Item
from tests.fixtures.node import RunningNode, until
from tests.system.fleet import connected
from tests.uplink.search import encodings, found_in, numbers

DEVICE, OPERATOR, LATITUDE = "Zq94-serial-77x", "Anna-Qvist-55", 59.334912
TOML = """\
[uplink]
kind = "file"
url = "%s"
batch = { messages = 10, delay = "300ms" }
redact = ["gps.*", "operator", { field = "key", how = "hash" }]
[[pipelines]]
name = "p"
source = { topic = "devices/+/v", values = ["x", "gps.lat"], time = "ts" }
window = { kind = "count", size = 5 }
features = ["mean", "max"]
sinks = ["event", { kind = "uplink", select = ["raw", "event", "features"] }]
"""


def items_of(folder: Path) -> list[Item]:
    return [item for file in sorted(folder.glob("*.skup")) for _, item in read_envelope(file.read_bytes()).items]


def rows_of(folder: Path) -> dict[str, int]:
    found: dict[str, int] = {}
    for item in items_of(folder):
        found[item.kind] = found.get(item.kind, 0) + item.rows
    return found


def test_what_is_marked_does_not_leave_a_node(tmp_path: Path) -> None:
    stick, site = tmp_path / "stick", tmp_path / "site"
    stick.mkdir()
    site.mkdir()
    with RunningNode(site, TOML % stick) as node:
        client = connected(DEVICE, node.mqtt)
        try:
            until(client.is_connected, 20, "the device is connected")
            for at in range(20):
                body = {"ts": time.time(), "x": float(at), "gps": {"lat": LATITUDE, "lon": 18.07}, "operator": OPERATOR}
                client.publish(f"devices/{DEVICE}/v", json.dumps(body), qos=1).wait_for_publish(20)
        finally:
            client.disconnect()
            client.loop_stop()
        until(lambda: rows_of(stick) == {"raw": 20, "event": 4}, 30, "all has left")
        withheld = until(lambda: withheld_of(node, 28), 20, "status counts it")
        assert withheld["gps.*: drop"] == 28  # a value of each sample, two features of each event
        items = items_of(stick)
        records = [record for file in stick.iterdir() for record in decode(file.read_bytes())]
        assert seen_live(node, site) > 0
        node.stop()
    needles = [*encodings(DEVICE), *encodings(OPERATOR), *numbers(LATITUDE)]
    assert found_in(items, needles) == []
    assert {record.key for record in records} == {next(iter(records)).key}
    assert sorted(record.values["x"] for record in records if record.kind == "raw") == [float(at) for at in range(20)]
    assert sorted(record.values["score"] for record in records if record.kind == "event") == [2.0, 7.0, 12.0, 17.0]
    assert all(set(record.values) == {"x"} for record in records if record.kind == "raw")
    noted = [msgspec.json.decode(line) for line in (site / "data" / "logs" / "audit.log").read_bytes().splitlines()]
    told = {line["reason"]: line["total"] for line in noted if line["event"] == "fields withheld"}
    assert told["gps.*: drop"] > 28
    assert told["key: hash"] > 0


def seen_live(node: RunningNode, site: Path) -> int:
    """How many samples a preview shows of what comes while it looks."""
    command = [sys.executable, "-m", "skerry.cli", "--config", str(site / "skerry.toml"), "--json", "uplink", "preview", "p"]
    with (site / "shown.json").open("wb") as file:
        shown = subprocess.Popen([*command, "--live", "3s"], stdout=file)
    client = connected("other", node.mqtt)
    try:
        for _ in range(2000):
            if shown.poll() is not None:
                break
            client.publish("devices/other/v", json.dumps({"ts": time.time(), "x": 1.0, "gps": {"lat": LATITUDE}}), qos=1)
            time.sleep(0.02)
    finally:
        client.disconnect()
        client.loop_stop()
    assert shown.returncode == 0
    answer = json.loads((site / "shown.json").read_bytes())
    assert answer["withheld"]["gps.*: drop"] >= answer["pipelines"]["p"]["messages"]
    assert not any(needle in json.dumps(answer).encode() for needle in numbers(LATITUDE) if len(needle) > 6)
    return len([record for record in answer["records"] if record["kind"] == "raw"])


def withheld_of(node: RunningNode, count: int) -> dict[str, Any] | None:
    saved = ((node.status().get("uplink") or {}).get("saved") or {}).get("withheld") or {}
    return saved if saved.get("gps.*: drop", 0) >= count else None


def test_the_command_shows_what_would_leave(tmp_path: Path) -> None:
    (tmp_path / "skerry.toml").write_text(TOML % tmp_path, encoding="utf-8")
    bodies = [{"ts": 1_700_000_000 + at, "x": at, "gps": {"lat": LATITUDE}} for at in range(10)]
    lines = [{"topic": f"devices/{DEVICE}/v", "payload": body} for body in bodies]
    (tmp_path / "sample.jsonl").write_text("\n".join(map(json.dumps, lines)), encoding="utf-8")
    command = [sys.executable, "-m", "skerry.cli", "--config", "skerry.toml", "--json", "uplink", "preview", "p", "sample.jsonl"]
    done = subprocess.run(command, cwd=tmp_path, capture_output=True, check=True)
    answer = json.loads(done.stdout)
    assert [record["kind"] for record in answer["records"]].count("raw") == 10
    assert answer["withheld"]["gps.*: drop"] == 10 + 2 * 2
    assert not any(needle in done.stdout for needle in [*encodings(DEVICE), repr(LATITUDE).encode()])
