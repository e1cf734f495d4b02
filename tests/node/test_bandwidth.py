"""`resources.network` of pipelines in a node: what is counted, what waits, and that status says so."""

import asyncio
import json
from pathlib import Path

import pytest

from skerry.config import NodeConfig, load
from skerry.core.clock import SECOND, ManualClock
from skerry.core.service import cancel_and_wait
from skerry.node.bandwidth import Bandwidth
from tests.fixtures.nats import until
from tests.node.test_view import come, device, row, running, send, write

LIMIT = 'resources = {{ network = "{}" }}'


def config(folder: Path, rate: str) -> NodeConfig:
    return load(write(folder, "a", "b", a=LIMIT.format(rate) if rate else ""))


def test_what_the_uplink_sends_is_paid_for_by_the_sinks(tmp_path: Path) -> None:
    clock = ManualClock(SECOND)
    found = Bandwidth(clock)
    found.take_config(config(tmp_path, "8KiB/s"))
    assert found.limits("mqtt") == found.of
    assert found.limits("file-a") is None
    assert (found.of("b"), found.row("b", 0)) == (None, None)
    allowance = found.of("a")
    assert allowance is not None
    assert allowance.wait(8192) == 0
    found.uplink_sent({"a": 8192, "b": 5})
    assert allowance.wait(4096) == pytest.approx(0.5)
    found.uplink_sent({"a": 8192})
    found.uplink_sent({"a": 4096})  # its process began anew
    assert allowance.wait(4096) == pytest.approx(1.0)
    clock.advance(SECOND)
    assert allowance.wait(4096) == 0
    assert found.row("a", 3) == {"limit": 8192, "sent": 12288, "waiting": 3}
    found.take_config(config(tmp_path, "8KiB/s"))
    assert found.of("a") is allowance
    found.take_config(config(tmp_path, ""))
    assert found.limits("mqtt") is None


@pytest.mark.asyncio
async def test_a_node_holds_one_pipeline_and_says_what_waits(tmp_path: Path) -> None:
    file = write(tmp_path, "a", "b", a=LIMIT.format("100B/s"))
    async with running(file) as node, device(node) as client, device(node, "screen") as screen:
        seen: list[tuple[str, float]] = []

        async def watch() -> None:
            async with screen.subscribe("events/#", qos=1) as messages:
                async for message in messages:
                    seen.append((message.topic, json.loads(message.payload)["score"]))
                    await message.ack()

        watching = asyncio.create_task(watch())
        await until(lambda: row(node, "a")["network"] == {"limit": 100, "sent": 0, "waiting": 0}, 20)
        assert row(node, "b")["network"] is None
        await send(client, "a", *range(40))
        await come(node, "a", *range(40))
        await send(client, "b", 7)
        await until(lambda: ("events/b/d", 7) in seen, 30)
        assert row(node, "a")["network"]["waiting"] > 0
        assert len([each for each in seen if each[0] == "events/a/d"]) < 40
        write(tmp_path, "a", "b")
        await node.view.reload()
        await until(lambda: {("events/a/d", number) for number in range(40)} <= set(seen), 60)
        assert row(node, "a")["network"] is None
        await cancel_and_wait(watching)
