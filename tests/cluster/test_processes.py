"""Nodes as processes over one real nats-server: killed, stopped, drained; at no time do two run the same."""

import signal
import time
from pathlib import Path

import pytest

from tests.cluster.rig import nodes, overlaps, wait
from tests.fixtures.nats import NatsServer


def test_the_check_for_overlaps_finds_them() -> None:
    a, b = (("p/0", "a", 1), ("p/0", "b", 1))
    first, second = [(*a, at / 100) for at in range(0, 300, 2)], [(*b, at / 100) for at in range(201, 500, 2)]
    assert len(overlaps(sorted(first + second, key=lambda each: each[3]))) > 10
    handed = first + [each for each in second if each[3] > 3]
    assert overlaps(handed) == []
    stray = sorted([*handed, (*a, 4.001)], key=lambda each: each[3])
    assert overlaps(stray) == []


@pytest.mark.timeout(200)
def test_a_leader_that_is_stopped_and_goes_on_and_one_that_is_killed(server: NatsServer, tmp_path: Path) -> None:
    with nodes(tmp_path, f"127.0.0.1:{server.port}") as found:
        found.start("a", "b", "c")
        wait(lambda: found.settled("a", "b", "c"))
        first = found.state("a")
        leader = first["leader"]
        others = [name for name in "abc" if name != leader]

        # a zombie: it stands still, another leads, it goes on
        found.send(leader, signal.SIGSTOP)
        stopped = time.monotonic()
        wait(lambda: found.settled(*others))
        assert found.statuses(others[0])[leader] == "Offline"
        assert found.state(others[0])["epoch"] == first["epoch"] + 1
        found.send(leader, signal.SIGCONT)
        went_on = time.monotonic()
        wait(lambda: found.statuses(leader) == dict.fromkeys("abc", "Online"))
        again = [line for line in found.lines() if line[1] == leader and went_on < line[3] < went_on + 0.1]
        assert len(again) <= 7, "one step at most, of the moment when it was stopped"
        assert all(line[2] == first["epoch"] for line in again)
        assert [line for line in found.lines() if line[1] == leader and stopped + 0.1 < line[3] < went_on] == []

        # killed: what it ran is run elsewhere
        second = found.state(others[0])["leader"]
        found.send(second, signal.SIGKILL)
        left = [name for name in "abc" if name != second]
        wait(lambda: found.settled(*left))
        assert found.statuses(left[0])[second] == "Offline"

        # stopped in order: nobody waits for silence
        last = found.state(left[0])["leader"]
        rest = next(name for name in left if name != last)
        found.send(last, signal.SIGTERM)
        assert found.processes[last].wait(20) == 0
        wait(lambda: set(found.state(rest)["holders"].values()) == {rest} and found.state(rest)["leads"])
        assert found.statuses(rest)[last] == "Offline"

        epochs = [line[2] for line in found.lines() if line[0] == "leader"]
        assert epochs == sorted(epochs), "no leader after a later one"
        assert overlaps(found.lines()) == []
