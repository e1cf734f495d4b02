"""One node becomes three while a device goes on: nothing that was acknowledged is lost, whoever dies in whichever step."""

import contextlib
import json
import os
import time
from pathlib import Path
from typing import Any

import pytest

from skerry.broker import LOG, WireClient, api, read_kept
from tests.cluster.nodes import Boxes, patiently
from tests.fixtures.node import RunningNode, until
from tests.system.fleet import Fleet

pytestmark = pytest.mark.timeout(600)
LONG = pytest.mark.skipif("SKERRY_SOAK" not in os.environ, reason='optional: a minute each; make soak ARGS="cluster"')
STEPS = ("n2 is asked", "n1 copies", "n1 has copied", "n1 restores", "n2 takes it", "n3 takes it", "n1 has done it", "n2 has it")


def state(node: RunningNode) -> str:
    """Where its server stands, as its file says; empty while it is alone."""
    with contextlib.suppress(FileNotFoundError):
        return str(json.loads((node.data / "cluster" / "servers.json").read_text())["state"])
    return ""


def reached(boxes: Boxes, step: str) -> bool:
    """Whether a step was begun."""
    saved = boxes["n1"].data / "cluster" / "saved"
    one, two, three = (state(boxes[name]) for name in boxes.names)
    return {
        "n2 is asked": two == "growing",
        "n1 copies": saved.exists(),
        "n1 has copied": (saved / "streams.json").exists(),
        "n1 restores": one == "growing",
        "n2 takes it": one == "growing" and two == "growing",
        "n3 takes it": one == "growing" and three == "growing",
        "n1 has done it": one == "whole",
        "n2 has it": two == "whole",
    }[step]


def standing(boxes: Boxes) -> None:
    """n1 has the log, n2 stands by with a copy, and says how far behind it is."""
    boxes["n1"].start()
    boxes.join("n2", "n1")
    boxes["n2"].start()
    until(lambda: shown(boxes["n2"]).get("copied"), 60, "the standby has a copy")
    assert (shown(boxes["n1"])["state"], shown(boxes["n2"])["state"]) == ("alone", "standby")
    assert shown(boxes["n2"])["behind"] is not None
    # it does not lead, and has no work: no broker runs there
    patiently(lambda: boxes.members("n1") == {"n1": "Online", "n2": "Joining"}, 60, "n2 stands by")
    patiently(lambda: set(shown(boxes["n1"])["partitions"].values()) == {"n1"}, 60, "all work is on n1")
    assert boxes.leader("n1") == "n1"


def shown(node: RunningNode) -> dict[str, Any]:
    """The cluster as the node's status has it."""
    found: dict[str, Any] = node.status()["cluster"]
    return found


async def log_of(node: RunningNode) -> dict[str, Any]:
    kept = read_kept(node.data / "broker")
    client = await WireClient.connect("127.0.0.1", kept.client_port, "$agent", kept.agent, "test")
    try:
        return await api(client, f"STREAM.INFO.{LOG}")
    finally:
        client.close()
        await client.closed


def all_whole(boxes: Boxes, fleet: Fleet) -> None:
    """All three have the log, and the devices go on."""
    until(lambda: all(state(boxes[name]) == "whole" for name in boxes.names), 180, "the log is kept by all three")
    boxes.wait_together(seconds=180)
    before = len(fleet.devices[0].acknowledged)
    until(lambda: fleet.unacknowledged is not None and len(fleet.devices[0].acknowledged) > before + 20, 120, "devices go on")


@pytest.mark.asyncio
async def test_one_becomes_three_while_devices_go_on(tmp_path: Path) -> None:
    with Boxes(tmp_path, together=False) as boxes:
        standing(boxes)
        with Fleet(boxes["n1"].mqtt, 3, 60.0) as fleet:
            boxes.join("n3", "n1")
            boxes["n3"].start()
            all_whole(boxes, fleet)
            account = boxes.settle(fleet)
        assert account.acknowledged > 100
        info = await log_of(boxes["n3"])
        assert info["config"]["num_replicas"] == 3
        for name in boxes.names:
            patiently(lambda name=name: not (boxes[name].data / "cluster" / "saved").exists(), 30, "it is cleared away")
        assert not (boxes["n1"].data / "broker" / "jetstream").exists(), "the log of before is of no use"


@LONG
@pytest.mark.parametrize("step", STEPS)
def test_each_step_is_done_again_after_a_crash(tmp_path: Path, step: str) -> None:
    with Boxes(tmp_path, together=False) as boxes:
        standing(boxes)
        with Fleet(boxes["n1"].mqtt, 3, 60.0) as fleet:
            boxes.join("n3", "n1")
            with contextlib.suppress(AssertionError):
                boxes["n3"].start(ready=False)
            until(lambda: reached(boxes, step), 120, step)
            victim = step.split(maxsplit=1)[0]
            boxes.kill(victim)
            time.sleep(1.0)
            with contextlib.suppress(AssertionError):  # it answers later on a busy machine
                boxes[victim].start(ready=False)
            all_whole(boxes, fleet)
            assert boxes.settle(fleet).acknowledged > 100


@LONG
def test_a_standby_goes_on_with_its_copy_when_a_person_says_so(tmp_path: Path) -> None:
    with Boxes(tmp_path, together=False) as boxes:
        standing(boxes)
        with Fleet(boxes["n1"].mqtt, 2, 40.0) as fleet:
            until(lambda: (fleet.unacknowledged, len(fleet.devices[0].acknowledged))[1] > 100, 60, "some are acknowledged")
        until(lambda: fleet.unacknowledged == 0, 60, "all are acknowledged")
        sent = [len(device.acknowledged) for device in fleet.devices]
        copied = shown(boxes["n2"])["copied"]
        patiently(lambda: shown(boxes["n2"])["copied"] > copied and shown(boxes["n2"])["behind"] == 0, 120, "all is copied")
        boxes.kill("n1")
        with pytest.raises(AssertionError, match="say --yes"):
            boxes["n2"].cli("cluster", "promote")
        assert state(boxes["n2"]) == "", "nobody but a person decides"
        boxes["n2"].cli("cluster", "promote", "--yes")
        until(lambda: shown(boxes["n2"])["state"] == "alone", 60, "it has the log")
        boxes["n2"].wait_ready(60)
        until(lambda: boxes["n2"].status()["ledger"]["received"] >= sum(sent), 60, "the books are those of before")


@LONG
@pytest.mark.asyncio
async def test_a_fourth_takes_the_place_of_one_that_is_gone(tmp_path: Path) -> None:
    with Boxes(tmp_path, 4, together=False) as boxes:
        three, gone = boxes.names[:3], "n3"
        boxes.grow(*three)
        until(lambda: all(state(boxes[name]) == "whole" for name in three), 180, "the log is kept by three")
        with Fleet([boxes["n1"].mqtt, boxes["n2"].mqtt], 3, 40.0) as fleet:
            boxes.join("n4", "n1")
            boxes["n4"].start()
            until(lambda: state(boxes["n4"]) == "whole", 120, "the fourth is one of them")
            boxes["n4"].wait_ready(120)
            boxes.kill(gone)
            boxes.wait_status("n1", gone, "Offline")
            boxes["n1"].cli("cluster", "remove", gone)

            def replaced() -> bool:
                file = boxes["n2"].data / "cluster" / "servers.json"
                return sorted(name for name, _ in json.loads(file.read_text())["members"]) == ["n1", "n2", "n4"]

            until(replaced, 120, "the list is the same on all")

            end = time.monotonic() + 120
            while True:
                info = (await log_of(boxes["n1"]))["cluster"]
                good = {each["name"] for each in info["replicas"] if each["current"]} | {info["leader"]}
                if good == {"n1", "n2", "n4"}:
                    break
                assert time.monotonic() < end, info
            before = len(fleet.devices[0].acknowledged)
            until(lambda: fleet.unacknowledged >= 0 and len(fleet.devices[0].acknowledged) > before + 20, 120, "devices go on")
