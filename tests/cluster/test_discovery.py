"""mDNS between machines of one LAN, really multicast; and what is made of records that are odd."""

import json
import subprocess
import sys
import time
from typing import Any

import pytest

from skerry.cluster.beacon import SERVICE, Found, instance, read_text, text_of
from tests.fixtures.netns import Lan, lan


def finder(machines: Lan, name: str, site: str, address: str) -> subprocess.Popen[str]:
    command = [sys.executable, "-m", "tests.cluster.finder", name, site, address, "60"]
    return subprocess.Popen([*machines.inside(name), *command], stdout=subprocess.PIPE, text=True)


def heard(process: "subprocess.Popen[str]", wanted: set[str]) -> dict[str, dict[str, Any]]:
    """What it printed last, as soon as that are these nodes."""
    assert process.stdout is not None
    end = time.monotonic() + 30
    for line in process.stdout:
        found = {node["id"]: node for node in json.loads(line)["nodes"]}
        if set(found) == wanted:
            return found
        assert time.monotonic() < end
    raise AssertionError("it ended")


def test_nodes_of_a_lan_find_each_other_and_hear_who_leaves() -> None:
    with lan("a", "b", "c") as machines:
        processes = {
            "a": finder(machines, "a", "plant", "10.77.0.1:7443"),
            "b": finder(machines, "b", "plant", ""),
            "c": finder(machines, "c", "another site", "10.77.0.3:7443"),
        }
        try:
            for process in processes.values():
                found = heard(process, {"a", "b", "c"})
                assert found["c"]["site"] == "another site"
                assert found["b"]["address"] == "10.77.0.2:7443", "of its addresses, where the record names none"
                assert set(found["b"]["addresses"]) == {"10.77.0.2", "fd77::2"}
                assert found["a"]["version"] == "1.2.3"
            processes["c"].kill()
            cut = finder(machines, "c", "another site", "10.77.0.3:7443")
            processes["c2"] = cut
            heard(cut, {"a", "b", "c"})
        finally:
            for process in processes.values():
                process.kill()
                process.wait(10)
                assert process.stdout is not None
                process.stdout.close()


FIND = """
import asyncio, sys
from skerry import ClusterConfig, ClusterManager
async def main():
    cluster = ClusterManager(ClusterConfig("x", site="plant", address="10.77.0.2:7443"))
    for node in await cluster.discover_nodes(20):
        print(node.id, node.status, node.address, node.reason, sep="|")
asyncio.run(main())
"""


BE_THERE = """
import asyncio
from skerry import ClusterConfig, ClusterManager
async def main():
    async with ClusterManager(ClusterConfig("y", site="plant", address="10.77.0.1:7443")):
        print("there", flush=True)
        await asyncio.sleep(60)
asyncio.run(main())
"""


def test_a_program_finds_the_nodes_of_its_own_site_that_run() -> None:
    with lan("a", "b", "c") as machines:
        running = subprocess.Popen([*machines.inside("a"), sys.executable, "-c", BE_THERE], stdout=subprocess.PIPE, text=True)
        other = finder(machines, "c", "another site", "")
        try:
            heard(other, {"c", "y"})
            done = subprocess.run(
                [*machines.inside("b"), sys.executable, "-c", FIND], capture_output=True, text=True, check=True, timeout=60
            )
            assert done.stdout.splitlines() == [
                "x|Joining|10.77.0.2:7443|it has not joined", "y|Joining|10.77.0.1:7443|it has not joined",
            ]  # fmt: skip
        finally:
            for process in (running, other):
                process.kill()
                process.wait(10)
                assert process.stdout is not None
                process.stdout.close()


def test_the_record_there_and_back() -> None:
    found = Found("a", "plant", "0.1.0", "10.0.0.1:7443", ("10.0.0.1",))
    assert read_text(text_of(found), found.addresses, 7443) == found
    assert read_text({"id": "a"}, ("fd77::1",), 7443) == Found("a", "", "", "[fd77::1]:7443", ("fd77::1",))
    assert read_text({"id": "a"}, (), 0) == Found("a", "", "", "", ())


@pytest.mark.parametrize("text", [{}, {"id": ""}, {"id": "a\x1b[2J"}, {"id": "a", "site": "x" * 201}, {"id": None}])
def test_a_record_that_no_node_writes_is_passed_over(text: dict[str, str | None]) -> None:
    assert read_text(text, ("10.0.0.1",), 1) is None


def test_the_service_has_a_name_that_fits_and_differs_by_site() -> None:
    assert instance("a", "plant") != instance("a", "farm")
    assert instance("a", "plant").endswith(f".{SERVICE}")
    assert len(instance("a" * 63, "plant").removesuffix(f".{SERVICE}")) <= 63
