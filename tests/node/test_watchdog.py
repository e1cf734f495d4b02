"""What the service manager hears: ready once, and signs of life only while the pipelines move. With a real socket and node."""

import asyncio
import signal
import socket
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from skerry.core.clock import SECOND, ManualClock
from skerry.core.service import cancel_and_wait
from skerry.node.watchdog import STILL_S, UNREADY_S, Movement, Watchdog
from skerry.runtime import Notifier
from skerry.worker import PipelineReport, Report
from tests.fixtures.node import RunningNode, until
from tests.fixtures.raw_mqtt import RawMqtt

PIPELINE = """
[[pipelines]]
name = "p"
source = { topic = "devices/+/v", format = "json", values = ["x"] }
"""


def report(*, state: str = "running", lag: int = 5, cursor: int = 1, windows: int = 0, events: int = 0) -> Report:
    return Report(True, {"p": PipelineReport(state, lag=lag, cursor=cursor, windows=windows, events=events)})


def test_a_pipeline_that_gets_nowhere_stands_still() -> None:
    movement = Movement(10)
    assert movement.still([report()], 1, 0) == []
    assert movement.still([report()], 1, 9.9) == []
    assert movement.still([report()], 1, 10) == ["p"]
    assert movement.still([report(cursor=2)], 1, 11) == []
    assert movement.still([report(cursor=2)], 1, 20) == []
    assert movement.still([report(cursor=2)], 1, 21) == ["p"]


def test_a_worker_that_says_nothing_any_more_is_seen_by_the_log() -> None:
    movement = Movement(10)
    silent = report(lag=0, cursor=4)
    assert movement.still([silent], 4, 0) == []
    assert movement.still([silent], 4, 100) == []
    assert movement.still([silent], 5, 101) == []
    assert movement.still([silent], 9, 111) == ["p"]


@pytest.mark.parametrize(
    "then", [report(lag=0), report(state="paused"), report(state="failed: no model"), report(windows=1), report(events=1)]
)
def test_one_without_work_or_with_progress_does_not(then: Report) -> None:
    movement = Movement(10)
    movement.still([report()], 1, 0)
    assert movement.still([then], 1, 10) == []
    assert movement.still([report()], 1, 11) == []


def test_each_worker_is_looked_at() -> None:
    movement = Movement(10)
    movement.still([report(cursor=1), report(cursor=7)], 1, 0)
    assert movement.still([report(cursor=2), report(cursor=7)], 1, 10) == ["p"]


def test_a_worker_that_is_started_again_begins_anew() -> None:
    movement = Movement(10)
    movement.still([report()], 1, 0)
    assert movement.still([Report(False)], 1, 10) == []
    assert movement.still([report()], 1, 11) == []
    assert movement.still([report()], 1, 20.9) == []


class Standing:
    """A node of which all is known."""

    def __init__(self) -> None:
        self.state = (False, "the broker is starting")
        self.said = [report(lag=0)]

    def ready(self) -> tuple[bool, str]:
        return self.state

    def reports(self) -> list[Report]:
        return self.said

    def log_end(self) -> int:
        return 1


class Listener:
    """Who listens in the service manager's place."""

    def __init__(self, folder: Path) -> None:
        self.path = folder / "notify"
        self.socket = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
        self.socket.bind(str(self.path))
        self.socket.setblocking(False)
        self.all: list[str] = []

    def heard(self) -> list[str]:
        """What has come since the last call."""
        new = []
        while True:
            try:
                new.append(self.socket.recv(4096).decode())
            except BlockingIOError:
                self.all += new
                return new


@pytest.fixture
def listener(tmp_path: Path) -> Iterator[Listener]:
    found = Listener(tmp_path)
    yield found
    found.socket.close()


@pytest.fixture
def clock() -> ManualClock:
    return ManualClock()


@pytest.fixture
def node() -> Standing:
    return Standing()


@pytest.fixture
def watchdog(listener: Listener, node: Standing, clock: ManualClock) -> Watchdog:
    return Watchdog(node, Notifier({"NOTIFY_SOCKET": str(listener.path), "WATCHDOG_USEC": "30000000"}), clock)


def test_ready_is_said_once_and_when_it_is_true(watchdog: Watchdog, listener: Listener, node: Standing) -> None:
    watchdog.tell()
    assert listener.heard() == ["STATUS=the broker is starting", "WATCHDOG=1"]
    node.state = (True, "devices may connect")
    watchdog.tell()
    assert listener.heard() == ["READY=1", "STATUS=devices may connect", "WATCHDOG=1"]
    watchdog.tell()
    assert listener.heard() == ["WATCHDOG=1"]


def test_no_sign_of_life_of_pipelines_that_stand_still(
    watchdog: Watchdog, listener: Listener, node: Standing, clock: ManualClock
) -> None:
    node.state, node.said = (True, "ready"), [report()]
    watchdog.tell()
    clock.advance(round(STILL_S * SECOND))
    listener.heard()
    watchdog.tell()
    assert listener.heard() == ["STATUS=pipelines stand still: p"]
    node.said = [report(cursor=2)]
    watchdog.tell()
    assert listener.heard() == ["STATUS=ready", "WATCHDOG=1"]


def test_a_node_that_works_on_it_lives_for_a_while(
    watchdog: Watchdog, listener: Listener, node: Standing, clock: ManualClock
) -> None:
    node.said = [report()]
    clock.advance(round(UNREADY_S * SECOND) - 1)
    watchdog.tell()
    assert listener.heard()[-1] == "WATCHDOG=1"
    clock.advance(1)
    watchdog.tell()
    assert listener.heard() == ["STATUS=it has not been ready for 900 s"]


@pytest.mark.asyncio
async def test_it_goes_on_until_cancelled_and_ends_at_once_where_nobody_listens(
    node: Standing, listener: Listener, clock: ManualClock
) -> None:
    await Watchdog(node, Notifier({}), clock).run()
    often = Notifier({"NOTIFY_SOCKET": str(listener.path), "WATCHDOG_USEC": "60000"})
    running = asyncio.create_task(Watchdog(node, often, clock).run())
    async with asyncio.timeout(5):
        while listener.all.count("WATCHDOG=1") < 4:
            listener.heard()
            await asyncio.sleep(0.01)
    await cancel_and_wait(running)


def test_a_node_under_a_service_manager(tmp_path: Path, listener: Listener) -> None:
    """Ready when devices may connect; signs of life until its worker hangs, and again when that goes on; stopping at the end."""
    environment = {"NOTIFY_SOCKET": str(listener.path), "WATCHDOG_USEC": "600000"}
    with RunningNode(tmp_path, PIPELINE, env=environment) as node:
        until(lambda: listener.heard() and "READY=1" in listener.all, 5, "it says that it is ready")
        until(lambda: "WATCHDOG=1" in listener.heard(), 5, "it says that it lives")
        node.kill("worker", signal.SIGSTOP)
        with RawMqtt(node.mqtt[1]) as device:
            assert device.publish(b"devices/d/v", b'{"x": 1}')
        until(lambda: "STATUS=pipelines stand still: p" in listener.heard(), 8, "it says that it hangs")
        time.sleep(0.5)
        assert listener.heard() == []
        node.kill("worker", signal.SIGCONT)
        until(lambda: "WATCHDOG=1" in listener.heard(), 5, "it lives again")
        code, _ = node.stop()
    assert (code, listener.heard()[-1:]) in ((0, []), (0, ["STOPPING=1"]))
    assert listener.all.count("STOPPING=1") == listener.all.count("READY=1") == 1
