"""A backup of a node under load, restored into another directory: what was acknowledged is processed there, once."""

import contextlib
import json
import os
import shutil
import signal
import subprocess
import sys
import time
from collections import Counter
from pathlib import Path
from typing import Any

from skerry.http import Client
from tests.fixtures.node import RunningNode, until
from tests.system.accounts import BOTH, EVERY, ONCE, PIPELINE, check_ids, numbers, windows_of
from tests.system.fleet import Device, Fleet

QUICK = "".join(PIPELINE.format(name=name, dedup="time", lateness="500ms") for name in (ONCE, EVERY))
HISTORY = '\n[history]\ntopics = ["devices/#"]\n'


def skerry(file: Path, *arguments: str, env: dict[str, str] | None = None) -> subprocess.CompletedProcess[str]:
    argv = [sys.executable, "-m", "skerry.cli", "--config", str(file), "--json", *arguments]
    return subprocess.run(argv, capture_output=True, text=True, check=False, env={**os.environ, **(env or {})}, timeout=120)


def made(file: Path, *arguments: str) -> dict[str, Any]:
    done = skerry(file, *arguments)
    assert done.returncode == 0, done.stderr
    found: dict[str, Any] = json.loads(done.stdout)
    return found


def processed(node: RunningNode, wanted: int) -> bool:
    status = node.try_status()
    return bool(status) and all(row["ledger"]["received"] >= wanted for row in status["pipelines"])


def test_a_backup_under_load_goes_on_elsewhere_where_it_stopped(tmp_path: Path) -> None:
    here, there = tmp_path / "here", tmp_path / "there"
    here.mkdir()
    there.mkdir()
    backup = tmp_path / "node.backup"
    with RunningNode(here, QUICK + HISTORY) as node:
        with node.client() as client:
            client.post("/api/v1/kv/colour", {"value": "grey"})
            client.post("/api/v1/devices", {"id": "gauge"})
        with Fleet(node.mqtt, 3, 300) as fleet:
            until(lambda: fleet.acknowledged > 600, 20, "there is something to back up")
            with node.client() as client:
                client.post(f"/api/v1/pipelines/{EVERY}/pause")
            until(lambda: fleet.acknowledged > 900, 20, "the log holds what a paused pipeline has not read")
            before = {device.name: set(device.acknowledged) for device in fleet.devices}
            answer = made(node.file, "backup", "create", str(backup))
            fleet.stop()
        assert answer["streams"]
        assert "$MQTT_msgs" in answer["streams"]
        assert "keys/issuer.seed" in answer["left_out"]
        assert backup.stat().st_mode & 0o777 == 0o600
        assert not (node.data / "backup").exists()
        events = {event["id"]: event for event in node.events(ONCE)}
    whole = made(node.file, "backup", "verify", str(backup))
    assert (whole["node"], whole["secrets"]) == ("rock", False)
    target = there / "skerry.toml"
    restored = made(target, "backup", "restore", str(backup))
    assert restored["data_dir"] == str(there / "data")
    second = RunningNode(there, QUICK + HISTORY)
    with second:
        with second.client() as client:
            assert client.get("/api/v1/kv/colour")["value"] == "grey"
            assert [row["id"] for row in client.get("/api/v1/devices")["devices"]] == ["gauge"]
            assert second.pipeline(EVERY)["state"] == "paused"
            client.post(f"/api/v1/pipelines/{EVERY}/resume")
        acknowledged = sum(map(len, before.values()))
        until(lambda: processed(second, acknowledged), 40, "every message acknowledged before the backup is processed")
        with Fleet(second.mqtt, 3, 1) as closing:
            closing.stop()
            closing.close_windows()
            until(lambda: closing.unacknowledged == 0, 20, "windows are closed")
            until(lambda: windows_closed(second, fleet.devices, before), 40, "every window is an event")
        check_windows(second, fleet.devices, before)
        # what was put out before is there with the same id, and nothing is there twice
        after = second.events(ONCE)
        check_ids(after)
        again = {event["id"]: event for event in after}
        same = events.keys() & again.keys()
        assert len(same) > 3
        assert {at: numbers(again[at]) for at in same} == {at: numbers(events[at]) for at in same}
        until(lambda: kept(second, "d0") >= len(before["d0"]), 30, "the history has every sample")


def windows_closed(node: RunningNode, devices: list[Device], before: dict[str, set[int]]) -> bool:
    try:
        check_windows(node, devices, before)
    except AssertionError:
        return False
    return True


def check_windows(node: RunningNode, devices: list[Device], before: dict[str, set[int]]) -> None:
    """Each message that was acknowledged before the backup is in its window of both pipelines; no window is there twice."""
    expected = windows_of(devices)
    for name in (ONCE, EVERY):
        found = {(event["key"], event["start"]): event for event in node.events(name)}
        counts = Counter((event["key"], event["start"]) for event in node.events(name))
        assert max(counts.values()) == 1
        for (key, start), serials in expected.items():
            mine = [serial for serial in serials if serial in before[key]]
            if not mine:
                continue
            count, low, _, _ = numbers(found[key, start])
            assert count >= len(mine), (name, key, start)
            assert low == serials[0]


def kept(node: RunningNode, device: str) -> int:
    with node.client() as client:
        rows = client.get(f"/api/v1/series/{device}%2Fnumbers%2Fn", {"from": "2020-01-01", "to": "2100-01-01", "limit": 1000})
    return len(rows["times"])


def test_a_killed_backup_leaves_no_file_and_the_next_one_is_made(tmp_path: Path) -> None:
    with RunningNode(tmp_path, BOTH) as node:
        with (node.data / "large").open("wb") as large:
            for _ in range(48):
                large.write(os.urandom(1 << 20))
        target = tmp_path / "a.backup"
        argv = [sys.executable, "-m", "skerry.cli", "--config", str(node.file), "backup", "create", str(target)]
        running = subprocess.Popen(argv, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
        part = tmp_path / ".a.backup.part"
        until(lambda: part.exists() and part.stat().st_size > 0, 20, "it has begun to write")
        running.send_signal(signal.SIGKILL)
        running.wait(10)
        assert not target.exists()
        if part.exists():
            assert skerry(node.file, "backup", "verify", str(part)).returncode == 1
        time.sleep(0.1)

        def made_again() -> bool:
            return skerry(node.file, "backup", "create", str(target)).returncode == 0

        until(made_again, 40, "the next one is made")
        assert not part.exists()
        made(node.file, "backup", "verify", str(target))
        again = skerry(node.file, "backup", "create", str(target))
        assert again.returncode == 1
        assert "is there already" in again.stderr
        refused = skerry(node.file, "backup", "restore", str(target))
        assert refused.returncode == 1
        assert "in use by another skerry" in refused.stderr or "is not empty" in refused.stderr


def test_a_stopped_node_with_its_secrets_goes_on_as_the_same_one(tmp_path: Path) -> None:
    here, there = tmp_path / "here", tmp_path / "there"
    here.mkdir()
    there.mkdir()
    words = tmp_path / "words"
    words.write_text("twelve stones in a row\n")
    with RunningNode(here, BOTH) as node:
        with Fleet(node.mqtt, 1, 100) as fleet:
            until(lambda: fleet.acknowledged > 50, 20, "something is there")
            fleet.stop()
            until(lambda: processed(node, fleet.sent), 20, "all is processed")
        with Client(node.data / "skerry.sock") as client:
            token = client.post("/api/v1/tokens", {"name": "ops", "scopes": ["admin"]})["token"]
        node.stop()
        received = fleet.sent
        backup = tmp_path / "b.backup"
        assert skerry(node.file, "backup", "create", str(backup), "--with-secrets", "--passphrase-file", str(words)).returncode == 0
        seed = (node.data / "keys" / "issuer.seed").read_bytes()
    assert seed not in backup.read_bytes()
    target = there / "skerry.toml"
    none = skerry(target, "backup", "restore", str(backup))
    assert none.returncode == 1
    assert "under a passphrase" in none.stderr
    wrong = skerry(target, "backup", "restore", str(backup), env={"SKERRY_PASSPHRASE": "thirteen stones in a row"})
    assert wrong.returncode == 1
    assert "passphrase is wrong" in wrong.stderr
    assert not (there / "data").exists() or list((there / "data").iterdir()) == []
    made(target, "backup", "restore", str(backup), "--passphrase-file", str(words))
    assert (there / "data" / "keys" / "issuer.seed").read_bytes() == seed
    full = skerry(target, "backup", "restore", str(backup), "--passphrase-file", str(words))
    assert full.returncode == 1
    assert "is not empty" in full.stderr
    with RunningNode(there, BOTH) as second:
        assert second.pipeline(ONCE)["ledger"]["received"] == received
        with Client(f"http://{second.status()['broker']['http']}", token=token) as client:
            assert client.get("/api/v1/tokens")["tokens"][0]["name"] == "ops"
    with contextlib.suppress(FileNotFoundError):
        shutil.rmtree(there)
