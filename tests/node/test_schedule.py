"""A node that is too small for its pipelines: who runs, who waits and why, and what is shed and comes back, with nothing lost."""

import asyncio
import json
from collections import Counter
from pathlib import Path
from typing import Any

import pytest
from prometheus_client.parser import text_string_to_metric_families

from skerry.config import load
from skerry.core.errors import ConfigError
from skerry.node import Node
from skerry.pipeline import is_scored
from tests.fixtures.nats import until
from tests.node.test_view import HEAD, come, device, running, scores, send, write

SMALL = HEAD.format(workers=1) + '[resources]\nmemory = "512MiB"\n'
P = 'resources = { memory = "200MiB" }\n'
Q = 'resources = { memory = "128MiB" }\nshed = ["sample:0.5"]\n'
R = 'resources = { memory = "150MiB" }\npriority = 5\n'
Q_WAITS = "pending: needs 128 MiB, 56 MiB free; held by p (200 MiB), agent (96 MiB), worker-0 (96 MiB) and 1 other"
SLOW = """
import time
from pathlib import Path

def features(values, offsets):
    if Path(__file__).with_name("slow").exists():
        time.sleep(0.004 * (len(offsets) - 1))
    return values[offsets[:-1], :1]
"""


def row(node: Node, name: str) -> dict[str, Any]:
    return next(each for each in node.view.pipelines() if each["name"] == name)


def metric(node: Node, name: str, pipeline: str) -> float:
    for family in text_string_to_metric_families(node.view.metrics()):
        for sample in family.samples:
            if sample.name == name and sample.labels.get("pipeline") == pipeline:
                return sample.value
    raise AssertionError(f"no {name} of {pipeline}")


async def becomes(node: Node, name: str, state: str) -> None:
    await until(lambda: _is(node, name, state), 30)


async def _is(node: Node, name: str, state: str) -> bool:
    return row(node, name)["state"] == state


@pytest.mark.asyncio
async def test_who_does_not_fit_in_waits_visibly_holds_the_log_and_misses_nothing(tmp_path: Path) -> None:
    async with running(write(tmp_path, "p", "q", head=SMALL, p=P, q=Q)) as node, device(node) as client:
        waiting = row(node, "q")
        assert (waiting["state"], waiting["reason"], waiting["priority"]) == ("pending", Q_WAITS, 0)
        assert row(node, "p")["state"] == "running"
        assert (metric(node, "skerry_pipeline_pending", "q"), metric(node, "skerry_pipeline_pending", "p")) == (1.0, 0.0)
        assert "pipeline q" not in node.resources.manager.holders()
        await send(client, "p", 1, 2)
        await send(client, "q", 3, 4)
        await come(node, "p", 1, 2)
        assert await scores(node, "q") == []
        (warning,) = [each for each in node.warnings() if each.startswith("pipeline q is ")]
        assert warning.startswith(f"pipeline q is {Q_WAITS}")

        write(tmp_path, "q", head=SMALL, q=Q)
        await node.view.reload()
        await come(node, "q", 3, 4)
        await becomes(node, "q", "running")

        write(tmp_path, "q", "r", head=SMALL, q=Q, r=R)
        await node.view.reload()
        await send(client, "q", 5)
        assert row(node, "r")["reason"] == (
            "pending: needs 150 MiB, 128 MiB free; held by q (128 MiB), agent (96 MiB), worker-0 (96 MiB) and 1 other"
        )
        await becomes(node, "q", "degraded")
        assert row(node, "q")["reason"].endswith("because it makes room for r")
        await becomes(node, "r", "running")
        await becomes(node, "q", "pending")
        await until(lambda: _parked(node), 20)
        await send(client, "q", 6, 7)
        await send(client, "r", 8)
        await come(node, "r", 8)
        assert row(node, "q")["ledger"]["received"] in (2, 3), "its books are there while it waits"

        write(tmp_path, "q", head=SMALL, q=Q)
        await node.view.reload()
        await until(lambda: _has(node, 5), 30)
        books = row(node, "q")["ledger"]
        assert (books["received"], books["difference"]) == (5, 0)
        assert books["scored"] + books["shed"] == 5
        await until(lambda: _scored(node, {3.0, 4.0, 6.0, 7.0}), 20)  # what came while it was degraded may have been shed


@pytest.mark.asyncio
async def test_what_needs_a_capability_waits_until_the_node_says_that_it_has_it(tmp_path: Path) -> None:
    file = write(tmp_path, "p", "q", q='capabilities = ["gpu", "lamp"]')
    why = "pending: needs capabilities 'gpu', 'lamp', and [node] capabilities of this node names none"
    async with running(file) as node, device(node) as client:
        assert (row(node, "p")["state"], row(node, "q")["state"], row(node, "q")["reason"]) == ("running", "pending", why)
        assert f"pipeline q is {why}" in node.warnings()
        await send(client, "q", 1)
        await send(client, "p", 2)
        await come(node, "p", 2)
        assert await scores(node, "q") == []
    file.write_text(file.read_text().replace("[node]", '[node]\ncapabilities = ["lamp", "gpu"]'))
    async with running(file) as node:
        await come(node, "q", 1)
        assert row(node, "q")["state"] == "running"


async def _parked(node: Node) -> bool:
    """Whether the worker has let go of q: it says so with the state that it has stored."""
    report = node.pool.workers[0].report.pipelines.get("q")
    return report is not None and report.state == "pending" and report.durable == report.cursor


async def _scored(node: Node, least: set[float]) -> bool:
    found = Counter(await scores(node, "q"))
    assert set(found) <= least | {5.0}
    assert set(found.values()) <= {1}
    return least <= set(found)


async def _has(node: Node, received: int) -> bool:
    return row(node, "q")["ledger"]["received"] == received


@pytest.mark.asyncio
async def test_under_pressure_a_share_of_the_keys_is_scored_and_all_of_them_again_when_it_is_over(tmp_path: Path) -> None:
    (tmp_path / "slowly.py").write_text(SLOW)
    (tmp_path / "slow").touch()
    # the lag alone is to count: the node is part of this process, which holds what all tests before have left
    limits = 'cpu = 64.0\nmemory = "64GiB"\n'
    head = HEAD.format(workers=1) + f'[resources]\nmax_lag = 100\nshed_after = "2s"\nrecover_after = "2s"\n{limits}'
    more = 'window = { kind = "count", size = 2 }\nfeatures = "slowly:features"\nshed = ["sample:0.5"]\n'
    keys, sent = [f"d{at}" for at in range(16)], 0
    async with running(write(tmp_path, "p", head=head, p=more)) as node, device(node) as client:
        async with asyncio.timeout(60):
            while not (books := row(node, "p")["ledger"])["shed"]:
                await asyncio.gather(*[client.publish(f"devices/{key}/p", json.dumps({"x": sent}).encode(), qos=1) for key in keys])
                sent += 1
        degraded = row(node, "p")
        assert degraded["state"] == "degraded"
        assert degraded["reason"].startswith("degraded: sample:0.5 since 20")
        assert "messages wait for p" in degraded["reason"]
        assert degraded["shed"]["steps"] == ["sample:0.5"]
        assert metric(node, "skerry_shed_steps", "p") == 1.0
        (tmp_path / "slow").unlink()
        await becomes(node, "p", "running")
        assert row(node, "p")["shed"] is None
        for extra in range(2 + sent % 2):
            await asyncio.gather(*[client.publish(f"devices/{key}/p", json.dumps({"x": -extra}).encode(), qos=1) for key in keys])
            sent += 1
        await until(lambda: _through(node, sent * len(keys)), 30)
        books = row(node, "p")["ledger"]
        assert books["difference"] == books["open"] == 0
        assert books["received"] == books["scored"] + books["shed"]
        assert metric(node, "skerry_shed_total", "p") == books["shed"] > 0
        total = row(node, "p")["ledger"]["windows"]
        rows = await until(lambda: _events(node, total), 30)  # the last go out after they are in the books
        counts = Counter(each["key"] for each in rows)
        assert {key: counts[key] for key in keys if is_scored(key, 0.5)} == dict.fromkeys(filter(_kept, keys), sent // 2)
        assert all(0 < counts[key] < sent // 2 for key in keys if not _kept(key)), "scored before and after"
        assert len({each["id"] for each in rows}) == len(rows)


async def _events(node: Node, least: int) -> list[dict[str, Any]]:
    """All events of `p`; none while there are fewer."""
    rows, after = await node.view.events("p", None, None, 1000, None)
    while after is not None:
        page, after = await node.view.events("p", None, None, 1000, after)
        rows += page
    return rows if len(rows) >= least else []


def _kept(key: str) -> bool:
    return is_scored(key, 0.5)


async def _through(node: Node, messages: int) -> bool:
    return row(node, "p")["ledger"]["received"] == messages


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("priority = 101\n", "101 is out of range"),
        ('shed = ["sampel:0.5"]\n', "did you mean"),
        ('shed = ["sample:0.5", "sample:0.5"]\n', "a number above 0 and under 0.5"),
        ('shed = ["sample:1"]\n', "'1' is no share"),
        ('shed = ["history-raw"]\n', "nothing of it goes into the history"),
        ('shed = ["shadow"]\n', "no model that a shadow could run beside"),
        ('shed = ["shadow", "shadow"]\n', "there twice"),
    ],
)
def test_a_step_that_is_none_is_refused_with_what_is_allowed(tmp_path: Path, text: str, said: str) -> None:
    with pytest.raises(ConfigError, match=said):
        load(write(tmp_path, "p", p=text))
