"""`broker.sync` seen from the kernel: what nats-server syncs of the log before it acknowledges, and how long after."""

import shutil
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from tests.fixtures.node import RunningNode, until
from tests.system.fleet import Device

COUNT = 30


@contextmanager
def traced(pid: int, file: Path) -> Iterator[None]:
    """The syncs of a process, with the names of the files, in `file`."""
    if (strace := shutil.which("strace")) is None:
        pytest.skip("strace is not installed: scripts/ci-packages installs it")
    command = [strace, "-f", "-y", "-e", "trace=fsync,fdatasync", "-o", str(file), "-p", str(pid)]
    with subprocess.Popen(command, stderr=subprocess.PIPE) as process:
        assert process.stderr is not None
        said = process.stderr.readline()
        try:
            if b"attached" not in said:
                pytest.skip(f"optional: strace may not look: {said.decode().strip()}")
            yield
        finally:
            process.terminate()


def syncs(file: Path) -> int:
    """How often a file of the log's messages was synced."""
    lines = file.read_text("utf-8", "replace").splitlines() if file.exists() else []
    return sum("$MQTT_msgs/msgs/" in line and "sync(" in line for line in lines)


@pytest.mark.parametrize("sync", ["always", "1s"])
def test_the_log_is_on_the_disk_before_a_puback_or_within_the_second(tmp_path: Path, sync: str) -> None:
    file = tmp_path / "trace"
    with RunningNode(tmp_path, broker=f'sync = "{sync}"') as node:
        device = Device("d0", node.mqtt)
        device.publish()
        until(lambda: device.settle() == 0, 20, "the first is acknowledged")
        with traced(node.processes("nats-server")[0].pid, file):
            before = syncs(file)
            for _ in range(COUNT):
                device.publish()
                if sync == "always":
                    until(lambda: device.settle() == 0, 20, "it is acknowledged")
            until(lambda: device.settle() == 0, 20, "all are acknowledged")
            if sync == "always":
                assert syncs(file) - before >= COUNT
            else:
                until(lambda: syncs(file) > before, 20, "the log is synced")
                assert syncs(file) - before < COUNT
        device.close()
