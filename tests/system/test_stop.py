"""The end of a node and its next beginning: SIGTERM under load, what a killed agent leaves behind, who else is there."""

import signal
import socket
import time
from pathlib import Path

import psutil

from tests.fixtures.node import RunningNode, until
from tests.system.accounts import BOTH, check, settle
from tests.system.fleet import Device, Fleet


def test_sigterm_under_load_drains_and_the_next_start_goes_on_from_there(tmp_path: Path) -> None:
    with RunningNode(tmp_path, BOTH) as node, Fleet(node.mqtt, 8, 700) as fleet:
        time.sleep(2.5)
        code, seconds = node.stop()
        assert code == 0
        assert seconds <= 5.0
        assert node.left() == []
        assert [path.name for path in (node.data / "run").glob("*.pid")] == []
        # the worker says so when what it had read could not be checkpointed
        for word in ("read again at the next start", "was killed", "Traceback", "Task exception"):
            assert word not in node.output
        node.start()
        settle(node, fleet)
        account = check(node, fleet.devices)
        assert account.acknowledged == fleet.sent > 1000
        assert node.status()["starts"] == 2


def test_a_node_without_work_ends_at_once_and_leaves_nothing(tmp_path: Path) -> None:
    with RunningNode(tmp_path) as node:
        assert node.status()["pipelines"] == []
        code, seconds = node.stop()
        assert (code, node.left()) == (0, [])
        assert seconds < 3
        assert not (node.data / "skerry.sock").exists()


def test_a_server_that_a_killed_agent_left_behind_is_ended_and_the_log_goes_on(tmp_path: Path) -> None:
    with RunningNode(tmp_path, BOTH) as node, Fleet(node.mqtt, 2, 100) as fleet:
        time.sleep(1.0)
        (server,) = node.processes("nats-server")
        # a stopped process does not hear that its parent died
        server.send_signal(signal.SIGSTOP)
        node.kill("agent")
        assert server.is_running()
        node.start()
        assert not server.is_running() or server.status() == psutil.STATUS_ZOMBIE
        assert f"pid {server.pid}" in node.output
        settle(node, fleet)
        assert check(node, fleet.devices).acknowledged == fleet.sent > 50


def test_a_second_node_on_one_data_directory_says_so_and_ends(tmp_path: Path) -> None:
    with RunningNode(tmp_path) as node:
        pids = {process.pid for process in node.children()}
        second = node.launch()
        assert second.wait(15) == 1
        (line,) = [line for line in node.output.splitlines() if "in use" in line]
        assert str(node.agent.pid) in line
        assert str(node.data) in line
        node.wait_ready(5)
        assert {process.pid for process in node.children()} == pids


def test_a_port_that_is_taken_is_named_and_had_when_it_is_free_again(tmp_path: Path) -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        node = RunningNode(tmp_path, BOTH, mqtt=f"127.0.0.1:{port}")
        try:
            node.start(ready=False)
            until(lambda: str(port) in node.status()["broker"]["sentence"], 10, "the port is named")
            with node.client() as client:
                assert client.get("/healthz") == {"status": "ok"}
            status = node.status()
            assert not status["ready"]
            assert str(port) in status["reason"]
            taken.close()
            node.wait_ready(20)
            device = Device("d0", ("127.0.0.1", port))
            device.publish()
            until(lambda: device.settle() == 0, 10, "a device is served")
            device.close()
        finally:
            node.close()
