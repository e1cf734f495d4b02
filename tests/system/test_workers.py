"""Several workers, and messages of every quality of service: each message is one worker's, and counted once."""

import threading
import time
from pathlib import Path

from tests.fixtures.node import RunningNode, until
from tests.system.accounts import BOTH, EVERY, ONCE, check, numbers, settle
from tests.system.fleet import Device, Fleet


def test_two_workers_share_the_keys_and_one_of_them_may_die(tmp_path: Path) -> None:
    with RunningNode(tmp_path, BOTH, workers=2) as node, Fleet(node.mqtt, 10, 500) as fleet:
        time.sleep(1.5)
        workers = node.processes("worker")
        assert len(workers) == 2
        workers[0].kill()
        time.sleep(1.5)
        settle(node, fleet)
        account = check(node, fleet.devices)
        assert account.acknowledged == fleet.sent > 1000
        after = {process.pid for process in node.processes("worker")}
        assert len(after) == 2
        assert workers[1].pid in after
        assert node.pipeline(ONCE)["keys"] == len(fleet.devices)


def test_messages_of_all_qualities_of_service_are_counted_once_each(tmp_path: Path) -> None:
    with RunningNode(tmp_path, BOTH) as node:
        devices = [Device(f"q{qos}", node.mqtt, qos=qos) for qos in (0, 1, 2)]
        until(lambda: all(device.client.is_connected() for device in devices), 10, "all are connected")
        for _ in range(300):
            for device in devices:
                device.publish()
            time.sleep(0.003)
        until(lambda: sum(device.settle() for device in devices) == 0, 10, "all is acknowledged")
        until(lambda: node.pipeline(ONCE)["ledger"]["received"] >= 900, 10, "all is received")
        for device in devices:
            device.publish(60.0)
        until(lambda: node.pipeline(EVERY)["ledger"]["scored"] >= 900, 10, "all windows are closed")
        account = check(node, devices)
        assert account.resent == 0
        by_key = {key: sum(numbers(event)[0] for event in node.events(ONCE) if event["key"] == key) for key in ("q0", "q1", "q2")}
        assert by_key == {"q0": 300, "q1": 300, "q2": 300}
        for device in devices:
            device.close()


def test_a_flood_of_qos_0_breaks_nothing(tmp_path: Path) -> None:
    with RunningNode(tmp_path, BOTH) as node, Fleet(node.mqtt, 2, 100) as fleet:
        flood = Device("flood", node.mqtt, qos=0, topic="devices/{}/other")
        end = threading.Event()

        def pour() -> None:
            while not end.is_set():
                for _ in range(50):
                    flood.publish()
                time.sleep(0.005)

        thread = threading.Thread(target=pour, daemon=True)
        thread.start()
        time.sleep(3.0)
        end.set()
        thread.join()
        flood.close()
        settle(node, fleet)
        assert check(node, fleet.devices).acknowledged == fleet.sent > 200
        assert len(flood.times) > 1000
