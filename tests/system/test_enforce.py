"""User code that leaks: the pipeline is stopped at its limit while the worker and all other pipelines go on, and quarantined."""

import time
import urllib.request
from pathlib import Path

from skerry.device import read_audit
from tests.fixtures.node import RunningNode, until
from tests.system.accounts import BOTH, check, settle
from tests.system.fleet import Fleet

LEAK = '''
import time
import numpy as np
held, last = [], time.monotonic()

def features(values, offsets):
    """The sum of each window, and ten mebibytes a second for ever."""
    global last
    now = time.monotonic()
    held.append(b"x" * int(10 * 1024 * 1024 * min(now - last, 0.5)))
    last = now
    return np.add.reduceat(values, offsets[:-1], axis=0)
'''
LEAKY = """
[[pipelines]]
name = "leaky"
source = { topic = "devices/+/numbers", time = "ts", values = ["n"], max_future = "10m" }
window = { kind = "none" }
features = "leak:features"
resources = { memory = "20MiB" }
"""
BY_MESSAGE = """
import numpy as np
held = []

def features(values, offsets):
    held.append(b"x" * (16 * 1024 * 1024 * (len(offsets) - 1)))
    return np.add.reduceat(values, offsets[:-1], axis=0)
"""
MIB = 1024 * 1024
THREAD = """
import os, threading, time
import numpy as np
held = []

def leak():
    while len(held) < 180:
        held.append(b"x" * (1 << 20))
        time.sleep(0.05)

for name in ("one", "two"):  # in two workers, once each: what grows in a thread of its own is no feed's
    try:
        os.close(os.open(os.path.join(os.path.dirname(__file__), name), os.O_CREAT | os.O_EXCL))
    except FileExistsError:
        continue
    threading.Thread(target=leak, daemon=True).start()
    break

def features(values, offsets):
    return np.add.reduceat(values, offsets[:-1], axis=0)
"""
SMALL = """
[resources]
memory = "460MiB"
"""


def test_a_leak_of_ten_mebibytes_a_second_is_stopped_at_its_limit_and_the_others_lose_nothing(tmp_path: Path) -> None:
    (tmp_path / "leak.py").write_text(LEAK)
    with RunningNode(tmp_path, BOTH + LEAKY) as node, Fleet(node.mqtt, 5, 100) as fleet:
        worker = node.processes("worker")[0]
        until(lambda: node.pipeline("leaky")["state"] == "stopped", 30, "it is stopped")
        row = node.pipeline("leaky")
        assert "of 20.0 MiB; it is tried again" in row["reason"]
        assert 20 * MIB < row["memory"] < 28 * MIB
        until(lambda: node.pipeline("leaky")["state"] == "quarantined", 40, "it is quarantined")
        row = node.pipeline("leaky")
        assert row["reason"].startswith("quarantined: used 2")
        assert row["reason"].endswith(
            " MiB of 20.0 MiB, 3 times; mend: see what its features keep, or raise its resources.memory; "
            "then skerry pipeline resume leaky"
        )
        before = row["ledger"]["received"]
        time.sleep(0.5)
        settle(node, fleet)
        check(node, fleet.devices)  # the books and each window of the others
        after = node.pipeline("leaky")
        assert after["ledger"]["received"] == before < sum(len(device.times) for device in fleet.devices)
        assert after["ledger"]["difference"] == 0
        assert node.processes("worker") == [worker]
        assert worker.memory_info().rss < 250 * MIB
        status = node.status()
        assert status["resources"]["breaches"] == {"memory": 3}
        assert any("leaky is quarantined" in warning for warning in status["warnings"])
        with urllib.request.urlopen(f"http://{status['broker']['http']}/metrics", timeout=10) as answer:
            assert b'skerry_resource_breaches_total{kind="memory"} 3.0' in answer.read()
        with node.client() as client:
            client.post("/api/v1/pipelines/leaky/resume")
        until(lambda: node.pipeline("leaky")["ledger"]["received"] > before, 20, "it reads on where it stood")
    found = [entry for entry in read_audit(node.data / "logs" / "audit.log").entries if entry["event"] == "resource-breach"]
    assert [entry["who"] for entry in found][:3] == ["leaky"] * 3


def test_a_leak_by_the_message_with_a_backlog_is_quarantined_and_no_message_is_blamed(tmp_path: Path) -> None:
    (tmp_path / "leak.py").write_text(BY_MESSAGE)
    with RunningNode(tmp_path, BOTH + LEAKY.replace("20MiB", "64MiB")) as node, Fleet(node.mqtt, 5, 100) as fleet:
        with node.client() as client:
            client.post("/api/v1/pipelines/leaky/pause")
            held = node.pipeline("leaky")["ledger"]["received"]
            until(lambda: sum(len(device.times) for device in fleet.devices) > held + 300, 20, "there is a backlog")
            client.post("/api/v1/pipelines/leaky/resume")
        until(lambda: node.pipeline("leaky")["state"] == "quarantined", 60, "it is quarantined")
        settle(node, fleet)
        check(node, fleet.devices)
        row = next(row for row in node.status()["processes"] if row["name"] == "worker-0")
        assert row["restarts"] <= 3, "what it takes in one call ends the worker; what it keeps does not, again and again"
        assert node.pipeline("leaky")["ledger"]["dead_letters"] == {}


def test_a_node_over_its_memory_ends_the_worker_that_is_furthest_over_what_it_holds(tmp_path: Path) -> None:
    (tmp_path / "leak.py").write_text(THREAD)
    with RunningNode(tmp_path, SMALL + BOTH + LEAKY.partition("resources")[0], workers=3) as node, Fleet(node.mqtt, 3, 60) as fleet:
        ended = until(lambda: [row for row in node.status()["processes"] if row["restarts"]], 60, "one is ended")
        assert len(ended) == 1
        assert ended[0]["name"].startswith("worker-")
        assert " of 460.0 MiB (resources.memory), of which it had " in ended[0]["last"]["words"]
        assert ended[0]["last"]["peak"] > 155 * MIB
        until(lambda: node.status()["ready"] and len(node.processes("worker")) == 3, 30, "it is back")
        settle(node, fleet)
        check(node, fleet.devices)
        status = node.status()
        assert status["resources"]["breaches"] == {"memory": 1}
        assert {row["state"] for row in status["pipelines"]} == {"running"}, "no pipeline is blamed for what is nobody's feed"
        assert status["resources"]["enforced_by"]["memory"] in ("watch", "cgroup-v1", "cgroup-v2")
