"""No room for the log: devices are refused and not lied to, and the node goes on by itself when there is room again."""

import contextlib
import os
import subprocess
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.fixtures.node import RunningNode, until
from tests.system.accounts import BOTH, EVERY, ONCE, check, settle
from tests.system.fleet import Fleet


@pytest.fixture
def small_disk(tmp_path: Path) -> Iterator[Path]:
    """A file system of 48 MiB of its own."""
    place = tmp_path / "disk"
    place.mkdir()
    done = subprocess.run(
        ["mount", "-t", "tmpfs", "-o", "size=48m", "skerry-test", str(place)], capture_output=True, text=True, check=False
    )
    if done.returncode:
        pytest.skip(f"optional: a file system cannot be mounted here: {done.stderr.strip()}")
    yield place
    subprocess.run(["umount", "--lazy", str(place)], check=True)


def fill(place: Path) -> Path:
    """A file that takes all the room there is."""
    file = place / "filler"
    descriptor = os.open(file, os.O_WRONLY | os.O_CREAT, 0o600)
    try:
        for size in (1 << 20, 1 << 12):
            with contextlib.suppress(OSError):
                while os.write(descriptor, b"x" * size):
                    continue
    finally:
        os.close(descriptor)
    assert os.statvfs(place).f_bavail == 0
    return file


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
        until(lambda: stalled(fleet), 10, "nothing is acknowledged on a full disk")
        assert node.agent.poll() is None
        time.sleep(1.0)
        filler.unlink()
        before = fleet.acknowledged
        until(lambda: fleet.acknowledged > before + 200, 20, "devices are served again")
        node.wait_ready(10)
        settle(node, fleet)
        assert check(node, fleet.devices).acknowledged == fleet.sent > 500


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
        fleet.stop()
        until(lambda: stalled(fleet), 10, "nothing is acknowledged by a full log")
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
