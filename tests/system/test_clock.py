"""A wrong clock: skerry's own is set back and forth by an hour while the node runs; devices and the broker keep the right one."""

import time
from pathlib import Path

from tests.fixtures.node import RunningNode, until
from tests.system.accounts import BOTH, ONCE, check, settle
from tests.system.fleet import Device, Fleet


def test_a_clock_set_back_and_forward_loses_no_window_and_no_log_in(tmp_path: Path) -> None:
    offset = tmp_path / "offset"
    offset.write_text("0s")
    with RunningNode(tmp_path, BOTH, env={"SKERRY_CLOCK_FILE": str(offset)}) as node, Fleet(node.mqtt, 4, 300) as fleet:
        with node.client() as client:
            password = client.post("/api/v1/devices", {"id": "late"})["password"]
        for value in ("-1h", "1h", "0s", "-1h"):
            time.sleep(0.9)
            offset.write_text(value)
        time.sleep(0.5)

        # who logs in while the node's clock is an hour off is let in, and stays
        late = Device("late", node.mqtt, password=password)
        fleet.devices.append(late)
        for _ in range(20):
            late.publish()
        until(lambda: late.settle() == 0, 10, "a new log-in is served")
        node.kill("worker")
        assert node.stop()[0] == 0
        node.start()
        time.sleep(0.5)
        offset.write_text("1h")
        time.sleep(0.5)
        settle(node, fleet)
        account = check(node, fleet.devices)
        assert account.acknowledged == fleet.sent > 1000
        assert late.client.is_connected()
        status = node.status()
        assert 0 < status["uptime_ratio"] <= 1
        assert node.pipeline(ONCE)["ledger"]["difference"] == 0
        for word in ("Traceback", "fault of skerry", "Task exception"):
            assert word not in node.output
