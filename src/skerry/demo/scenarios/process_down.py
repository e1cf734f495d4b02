"""process-down: kill -9 of a worker, of nats-server, and of all of one box at once, under traffic."""

from skerry.demo.scenarios.box import Box, Numbered, box, sending, times_seen
from skerry.demo.scenarios.story import Story

RATE = 50.0
PIPELINES = """\
[[pipelines]]
name = "count"
source = { topic = "devices/+/readings", values = ["n"], time = "ts" }
dedup = "id"
dedup_field = "n"
"""


async def process_down(story: Story) -> None:
    """One box: its processes are killed one after the other, then all at once."""
    story.do("starting a node: an agent, a nats-server, a worker")
    story.see("this is one box, which starts again; that another box takes over is the scenario node-down")
    async with box(story.folder, "box", PIPELINES) as node:
        password = await node.admit("pump-1")
        async with sending(node.client("pump-1", password), "devices/pump-1/readings", RATE, story.clock) as device:
            story.do(f"a device sends {RATE:g} messages a second, each with a number; each becomes an event")
            await story.until(lambda: _follows(node, device), "the first events")
            await story.watch(2.0, lambda: _look(node, device))
            for name in ("worker-0", "nats-server"):
                await _kill_one(story, node, device, name)
            await _kill_all(story, node, device)
            await story.watch(2.0, lambda: _look(node, device))
            await device.stop()
            await _compare(story, node, device)


async def _kill_one(story: Story, node: Box, device: Numbered, name: str) -> None:
    pids = await node.kill(name)
    story.do(f"kill -9 {pids[0]}: the {name}")
    sent = device.sent
    took = await story.until(lambda: _follows(node, device, sent, pids[0]), f"events again after the kill of {name}")
    story.figures[f"{name}_down_s"] = round(took, 2)
    story.see(f"events again {took:.1f} s after the kill; {await _look(node, device)}")


async def _kill_all(story: Story, node: Box, device: Numbered) -> None:
    pids = await node.kill("agent")
    story.do(f"kill -9 of the whole node at once, as when the power goes: {len(pids)} processes")
    sent, began = device.sent, story.seconds
    await node.start()
    story.see(f"`skerry run` again; it is ready {story.seconds - began:.1f} s after the kill")
    await story.until(lambda: _follows(node, device, sent), "events again after the new start")
    story.figures["node_down_s"] = round(story.seconds - began, 2)
    story.see(f"events again {story.seconds - began:.1f} s after the kill; {await _look(node, device)}")


async def _compare(story: Story, node: Box, device: Numbered) -> None:
    async def whole() -> bool:
        return device.acknowledged <= {event["score"] for event in await node.events("count")}

    story.do("the device stops; what it saw acknowledged is compared with the events")
    await story.settle(whole)
    numbers = [event["score"] for event in await node.events("count")]
    missing, twice = times_seen(numbers, device.acknowledged)
    difference = (await node.pipeline("count"))["ledger"]["difference"]
    story.figures |= {
        "sent": device.sent, "acknowledged": len(device.acknowledged), "events": len(numbers), "missing": missing, "twice": twice,
        "books_off_by": difference,
    }  # fmt: skip
    story.check(missing == 0, f"{missing} of {len(device.acknowledged):,} acknowledged messages have no event")
    story.check(twice == 0, f"{twice} have more than one")
    story.check(difference == 0, f"the books are off by {difference}")


async def _follows(node: Box, device: Numbered, after: int = 0, killed: int = 0) -> bool:
    """Whether a message that was sent after some number is an event, and the process that was killed is another one now."""
    status = await node.status()
    if any(row["pid"] == killed for row in status["processes"]):
        return False
    newest = (await node.get("/api/v1/events", pipeline="count", last=1))["events"]
    return bool(newest) and newest[-1]["score"] > after


async def _look(node: Box, device: Numbered) -> str:
    row = await node.pipeline("count")
    if row["state"] != "running":
        return f"acknowledged to the device {len(device.acknowledged):,} · the worker starts"
    return f"acknowledged to the device {len(device.acknowledged):,} · events {row['events']:,} · waiting {row['lag']:,}"
