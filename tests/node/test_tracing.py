"""One message followed through a real node: every step is there, they follow on each other, and what became of it is said."""

import asyncio
from pathlib import Path
from typing import Any

import pytest

from skerry.core.clock import SystemClock
from skerry.core.errors import RejectedError, UnavailableError
from skerry.mqtt import MqttClient
from skerry.node.life import Node
from tests.node.test_view import device, running, send, write

pytestmark = pytest.mark.asyncio
WINDOW = 'window = { kind = "tumbling", size = "1s", lateness = "0s" }\nfeatures = ["mean"]'
RULE = 'rule = { field = "score", above = 100.0 }'
AT_ONCE = ["log", "turn", "decode", "window", "features", "model", "rule", "stored", "sink mqtt"]


async def traced(
    node: Node, client: MqttClient, pipeline: str, *values: float, key: str = "", pause: float = 0.0
) -> dict[str, Any]:
    """The trace of the first of these messages that it is asked for."""
    asking = asyncio.create_task(node.view.trace(pipeline, key, 30))
    await asyncio.sleep(0.5)  # the order reaches the worker over its pipe
    for value in values:
        await send(client, pipeline, value)
        await asyncio.sleep(pause)
    return await asyncio.wait_for(asking, 45)


def steps(found: dict[str, Any]) -> list[str]:
    for before, after in zip(found["spans"], found["spans"][1:], strict=False):
        assert after["begin"] == pytest.approx(before["begin"] + before["ms"], abs=0.002)
    assert all(span["ms"] >= 0 for span in found["spans"])
    assert found["total_ms"] == pytest.approx(sum(span["ms"] for span in found["spans"]), abs=0.01)
    return [span["step"] for span in found["spans"]]


async def test_each_step_of_a_message_is_told(tmp_path: Path) -> None:
    file = write(tmp_path, "a", "b", "c", b=WINDOW, c=RULE)
    async with running(file) as node, device(node) as client:
        found = await traced(node, client, "a", 1.5)
        assert [each for each in steps(found) if each != "open"] == AT_ONCE
        assert (found["key"], found["topic"], found["outcome"], found["batch"]) == ("d", "devices/d/a", "event", 1)
        rows, _ = await node.view.events("a", None, None, 10, None)
        assert found["event"] == rows[-1]["id"]

        found = await traced(node, client, "b", *range(4), pause=0.6)
        assert [each for each in steps(found) if each != "open"] == AT_ONCE
        waited = next(span["ms"] for span in found["spans"] if span["step"] == "open")
        assert waited > 100
        assert found["window"]["samples"] >= 1

        found = await traced(node, client, "c", 1.0)
        assert found["outcome"] == "no event: the rule had nothing new to say"
        assert steps(found)[-1] == "rule"
        # nothing of it is left in the worker: what comes then is read as before
        await send(client, "a", 2.5)
        again = await traced(node, client, "a", 3.5, key="d")
        assert again["sequence"] > found["sequence"]


async def test_what_comes_to_no_end_is_told_too(tmp_path: Path) -> None:
    file = write(tmp_path, "a")
    async with running(file) as node, device(node) as client:
        asking = asyncio.create_task(node.view.trace("a", "", 30))
        await asyncio.sleep(0.5)
        await client.publish("devices/d/a", b"rubbish", qos=1)
        found = await asyncio.wait_for(asking, 45)
        assert found["outcome"] == "dead letter: undecodable"
        assert found["event"] is None
        with pytest.raises(UnavailableError, match=r"no message of other came for pipeline a within 0\.3 s"):
            await node.view.trace("a", "other", 0.3)
        for wrong in (0.0, 301.0):
            with pytest.raises(RejectedError, match="is out of range"):
                await node.view.trace("a", "", wrong)


async def test_two_at_once_and_the_workers_share_of_keys(tmp_path: Path) -> None:
    file = write(tmp_path, "a", workers=2)
    async with running(file) as node, device(node) as client:
        clock = SystemClock()
        before = clock.now()
        found = await traced(node, client, "a", 1.0)
        assert found["outcome"] == "event"
        assert clock.now() - before < 60_000_000
        asked = [asyncio.create_task(node.view.trace("a", "", 5)) for _ in range(2)]
        await asyncio.sleep(0.5)
        await send(client, "a", 2.0)
        answers = await asyncio.gather(*asked, return_exceptions=True)
        assert any(isinstance(each, dict) and each["outcome"] == "event" for each in answers)
