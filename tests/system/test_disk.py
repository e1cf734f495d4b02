"""No room for the log: devices are refused and not lied to, and the node goes on by itself when there is room again."""

import time
from pathlib import Path

from tests.fixtures.disk import fill
from tests.fixtures.node import RunningNode, until
from tests.historian.test_recorder import crammed
from tests.system.accounts import BOTH, EVERY, ONCE, check, settle
from tests.system.fleet import Fleet


def stalled(fleet: Fleet) -> bool:
    """Whether no PUBACK has come for a second."""
    before = fleet.acknowledged
    time.sleep(1.0)
    return fleet.acknowledged == before


def test_a_full_disk_refuses_devices_and_the_node_goes_on_when_there_is_room(tmp_path: Path, small_disk: Path) -> None:
    with (
        RunningNode(tmp_path, BOTH, data="disk/data", broker='retention = { size = "16MiB" }') as node,
        Fleet(node.mqtt, 4, 200, pad=1000) as fleet,
    ):
        time.sleep(1.5)
        filler = fill(small_disk)
        until(lambda: stalled(fleet), 20, "nothing is acknowledged on a full disk")
        assert node.agent.poll() is None
        until(lambda: shut(node), 20, "the log is shut")
        until(lambda: stored(node), 30, "what was acknowledged is in a checkpoint, on the room of the reserve")
        storage = node.status()["storage"]
        assert storage["reserve"] == 0
        assert "no acknowledgement" in storage["sentence"]
        filler.unlink()
        before = fleet.acknowledged
        until(lambda: fleet.acknowledged > before + 200, 20, "devices are served again")
        node.wait_ready(10)
        until(lambda: node.status()["storage"]["reserve"] > 0, 20, "the reserve is there again")
        settle(node, fleet)
        assert check(node, fleet.devices).acknowledged == fleet.sent > 500
        assert node.status()["ledger"]["given_up"] == 0


def shut(node: RunningNode) -> bool:
    status = node.try_status()
    return bool(status and status["storage"]["shut"])


def stored(node: RunningNode) -> bool:
    """Whether every pipeline has read all of the log, and that is on the disk."""
    status = node.try_status()
    if not status:
        return False
    last = status["broker"]["log"]["last_sequence"]
    return all(row["durable"] == row["cursor"] >= last > 0 for row in status["pipelines"])


QUOTA = """
[resources]
disk = "64MiB"
[history]
topics = ["other/#"]
max_size = "32MiB"
"""


def test_the_quota_costs_old_history_and_then_devices_wait_but_no_message_goes(tmp_path: Path) -> None:
    crammed(tmp_path / "data")
    with (
        RunningNode(tmp_path, QUOTA + BOTH) as node,
        Fleet(node.mqtt, 4, 600, pad=12_000) as fleet,
    ):
        assert node.status()["storage"]["limit"] == 64 << 20
        with node.client() as client:
            for name in (ONCE, EVERY):
                client.post(f"/api/v1/pipelines/{name}/pause")
        until(lambda: node.status()["storage"]["given_up"]["raw history"] > 0, 40, "old samples went")
        until(lambda: shut(node), 60, "nothing more is left to go")
        until(lambda: node.status()["broker"]["refused"].get("disk-full", 0) > 0, 20, "the gate is shut")
        until(lambda: stalled(fleet), 20, "nothing is acknowledged")
        fleet.stop()
        status = node.status()
        assert fleet.unacknowledged > 0
        assert status["ready"]
        parts = {part["name"]: part for part in status["storage"]["parts"]}
        assert parts["log"]["bytes"] > 16 << 20
        assert parts["history"]["limit"] == 32 << 20
        assert any("the disk is short" in warning for warning in status["warnings"]), status["warnings"]
        with node.client() as client:
            for name in (ONCE, EVERY):
                client.post(f"/api/v1/pipelines/{name}/resume")
        settle(node, fleet, seconds=60)
        assert check(node, fleet.devices).acknowledged == fleet.sent > 1500
        until(lambda: not shut(node), 20, "the log is open again")
        assert node.status()["ledger"]["given_up"] == 0


def test_a_full_log_shuts_the_gate_and_flows_on_when_the_pipeline_goes_on(tmp_path: Path) -> None:
    with (
        RunningNode(tmp_path, BOTH, broker='retention = { size = "16MiB" }') as node,
        Fleet(node.mqtt, 4, 800, pad=8000) as fleet,
    ):
        time.sleep(0.5)
        with node.client() as client:
            for name in (ONCE, EVERY):
                client.post(f"/api/v1/pipelines/{name}/pause")
        until(lambda: node.status()["broker"]["log"]["fill"] > 0.95, 15, "the log is full")
        until(lambda: stalled(fleet), 20, "nothing is acknowledged by a full log")
        fleet.stop()
        status = node.status()
        assert fleet.unacknowledged > 0
        assert any("% full" in warning for warning in status["warnings"]), status["warnings"]
        until(lambda: node.status()["broker"]["refused"].get("log-full", 0) > 0, 10, "the gate is shut")
        assert status["broker"]["given_up"] == 0
        with node.client() as client:
            for name in (ONCE, EVERY):
                client.post(f"/api/v1/pipelines/{name}/resume")
        settle(node, fleet)
        assert check(node, fleet.devices).acknowledged == fleet.sent > 1500
