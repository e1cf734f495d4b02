"""What a power cut leaves: checkpoints that are newer than the log. The node starts, says so, and takes new messages for new."""

import shutil
import time
from functools import partial
from pathlib import Path

from tests.fixtures.node import RunningNode, until
from tests.system.accounts import BOTH, EVERY, ONCE, check_unique, numbers
from tests.system.fleet import Device


def publish(node: RunningNode, device: Device, count: int, ahead: float = 0.0) -> None:
    """Publish so many messages, and wait until both pipelines have received them."""
    for _ in range(count):
        device.publish(ahead)
    until(lambda: device.settle() == 0, 15, "all is acknowledged")
    for name in (ONCE, EVERY):
        until(partial(_received, node, name, len(device.times)), 10, f"{name} has received all")


def _received(node: RunningNode, name: str, count: int) -> bool:
    return bool(node.pipeline(name)["ledger"]["received"] >= count)


def test_a_log_that_lost_its_tail_gives_no_new_message_an_old_number(tmp_path: Path) -> None:
    streams = tmp_path / "data/broker/jetstream/jetstream/AGENT/streams"
    saved = tmp_path / "saved"
    with RunningNode(tmp_path, BOTH) as node:
        device = Device("d0", node.mqtt)
        publish(node, device, 100)
        node.stop()
        shutil.copytree(streams / "$MQTT_msgs", saved)
        node.start()
        publish(node, device, 100)
        until(lambda: node.pipeline(ONCE)["durable"] >= 200, 5, "the checkpoint is stored")
        node.kill("all")

        # the tail of the log was not on the disk yet, the checkpoints behind it were
        shutil.rmtree(streams / "$MQTT_msgs")
        shutil.copytree(saved, streams / "$MQTT_msgs")
        node.start()
        assert "had lost its last 100 messages" in node.output
        publish(node, device, 100)
        publish(node, device, 1, 60.0)
        until(lambda: node.pipeline(ONCE)["ledger"]["scored"] >= 300, 10, "all windows are closed")
        for name in (ONCE, EVERY):
            events = node.events(name)
            check_unique(events)
            assert sum(numbers(event)[0] for event in events) == 300
            assert sum(numbers(event)[3] for event in events) == sum(range(300))
            books = node.pipeline(name)["ledger"]
            assert (books["received"], books["difference"], books["dead_letters"]) == (301, 0, {})
        device.close()


def test_a_log_cut_short_in_the_middle_of_a_block_is_read_as_far_as_it_goes(tmp_path: Path) -> None:
    blocks = tmp_path / "data/broker/jetstream/jetstream/AGENT/streams/$MQTT_msgs/msgs"
    with RunningNode(tmp_path, BOTH) as node:
        device = Device("d0", node.mqtt)
        with node.client() as client:
            for name in (ONCE, EVERY):
                client.post(f"/api/v1/pipelines/{name}/pause")
        for _ in range(200):
            device.publish()
        until(lambda: device.settle() == 0, 15, "all is acknowledged")
        node.kill("all")

        last = max(blocks.glob("*.blk"), key=lambda path: int(path.stem))
        whole = last.read_bytes()
        last.write_bytes(whole[: len(whole) * 3 // 4 + 5])
        (blocks / "index.db").unlink(missing_ok=True)
        node.start()
        with node.client() as client:
            for name in (ONCE, EVERY):
                client.post(f"/api/v1/pipelines/{name}/resume")
        publish_and_close(node, device)
        for name in (ONCE, EVERY):
            events = node.events(name)
            check_unique(events)
            serials = sum(numbers(event)[0] for event in events)
            # a power cut may take what was not synced; what is left is a beginning of it, and all that came later
            assert 140 <= serials - 50 < 200
            kept = int(serials) - 50
            assert sum(numbers(event)[3] for event in events) == sum(range(kept)) + sum(range(200, 250))
            assert node.pipeline(name)["ledger"]["difference"] == 0
        device.close()


def publish_and_close(node: RunningNode, device: Device) -> None:
    """50 more messages and the one that closes their windows."""
    time.sleep(1.1)
    for _ in range(50):
        device.publish()
    device.publish(60.0)
    until(lambda: device.settle() == 0, 15, "all is acknowledged")
    for name in (ONCE, EVERY):
        until(partial(_through, node, name, device), 10, f"{name} is through")


def _through(node: RunningNode, name: str, device: Device) -> bool:
    """Whether all but the device's last message are in closed windows."""
    return max((int(numbers(event)[2]) for event in node.events(name)), default=0) == len(device.times) - 2
