"""User code that hangs, crashes or eats the memory: the worker starts again, the message behind it is found, the rest flows on."""

import signal
import time
from pathlib import Path

import pytest

from tests.fixtures.node import RunningNode, until
from tests.system.accounts import EVERY, PIPELINE, check_ids, check_unique, windows_of
from tests.system.fleet import Device

DEEDS = '''
import ctypes, os
import numpy as np
held = []

def loop():
    while True:
        pass

DEEDS = {
    101: loop,
    102: lambda: ctypes.string_at(0),
    103: lambda: os._exit(3),
    104: lambda: held.append(bytearray(b"x") * (1 << 30)),
    105: lambda: held.append(np.ones(1 << 27)),
    106: lambda: 1 / 0,
}

def features(values, offsets):
    """The sum of each window; some numbers do something."""
    for value in values[:, 0].tolist():
        if int(value) in DOES:
            DEEDS[int(value)]()
    return np.add.reduceat(values, offsets[:-1], axis=0)
'''
CUSTOM = """
[[pipelines]]
name = "custom"
source = {{ topic = "devices/+/numbers", time = "ts", values = ["n"], max_future = "10m" }}
window = {window}
features = "{module}:features"
resources = {{ memory = "64MiB" }}
"""
EACH = '{ kind = "none" }'


def write_module(folder: Path, name: str, *deeds: int) -> None:
    (folder / f"{name}.py").write_text(f"{DEEDS}\nDOES = {deeds}\n")


def scored(node: RunningNode, name: str) -> int:
    status = node.try_status()
    return next(row["ledger"]["scored"] for row in status["pipelines"] if row["name"] == name) if status else 0


@pytest.mark.parametrize("deeds", [(101, 102), (103, 104, 105)], ids=["loop-segfault", "exit-bytearray-numpy"])
def test_a_message_that_ends_the_worker_three_times_is_poison_and_the_rest_flows_on(tmp_path: Path, deeds: tuple[int, ...]) -> None:
    write_module(tmp_path, "deeds", *deeds)
    pipelines = CUSTOM.format(window=EACH, module="deeds") + PIPELINE.format(name=EVERY, dedup="off", lateness="30s")
    with RunningNode(tmp_path, pipelines, stall="1s") as node:
        device = Device("d0", node.mqtt)
        for at in range(110):
            # the deeds stand in the middle of others, one in a burst and one alone
            device.publish()
            if at == deeds[-1] - 1:
                time.sleep(0.3)
        device.publish(60.0)
        until(lambda: device.settle() == 0, 10, "all is acknowledged, whatever the worker does")
        device.close()
        until(lambda: scored(node, "custom") >= 111 - len(deeds), 60, "the rest is scored")
        until(lambda: scored(node, EVERY) >= 110, 10, "the other pipeline is through")

        letters = node.deadletters("custom")
        assert [(letter["reason"], letter["messages"]) for letter in letters] == [("poison", 1)] * len(deeds)
        events = node.events("custom")
        check_ids(events)
        assert sorted(int(event["score"]) for event in events) == [n for n in range(111) if n not in deeds]
        books = node.pipeline("custom")["ledger"]
        assert (books["received"], books["dead_letters"], books["difference"]) == (111, {"poison": len(deeds)}, 0)

        # nothing of the other pipeline in the same worker was lost or counted twice
        others = node.events(EVERY)
        check_unique(others)
        wanted = sorted(serials for serials in windows_of([device]).values() if 110 not in serials)
        found = sorted([*range(int(e["features"]["n_min"]), int(e["features"]["n_max"]) + 1)] for e in others)
        assert found == wanted
        assert [int(event["count"]) for event in others] == [len(serials) for serials in wanted]
        assert any("poison" in warning for warning in node.status()["warnings"])


def test_a_function_that_raises_costs_its_window_alone_until_it_is_mended(tmp_path: Path) -> None:
    write_module(tmp_path, "deeds", 106)
    write_module(tmp_path, "mended")
    window = '{ kind = "count", size = 10 }'
    with RunningNode(tmp_path, CUSTOM.format(window=window, module="deeds")) as node:
        device = Device("d0", node.mqtt)
        for _ in range(200):
            device.publish()
        until(lambda: device.settle() == 0 and scored(node, "custom") >= 190, 15, "the other windows are scored")
        device.close()
        letters = node.deadletters("custom")
        assert [(letter["reason"], letter["messages"]) for letter in letters] == [("feature-error", 10)]
        assert "ZeroDivisionError" in letters[0]["detail"]
        assert len(node.events("custom")) == 19
        worker = node.processes("worker")[0].pid

        node.write(CUSTOM.format(window=window, module="mended"))
        node.kill("agent", signal.SIGHUP)
        until(lambda: [each.pid for each in node.processes("worker")] not in ([], [worker]), 10, "another worker runs")
        node.wait_ready()
        with node.client() as client:
            assert client.post("/api/v1/pipelines/custom/deadletters/retry") == {"retried": 10}
        until(lambda: scored(node, "custom") >= 200, 10, "the window is scored")
        events = node.events("custom")
        check_ids(events)
        assert sorted(int(event["score"]) for event in events) == [sum(range(at, at + 10)) for at in range(0, 200, 10)]
        assert node.deadletters("custom") == []
        assert node.pipeline("custom")["ledger"]["difference"] == 0
