"""node-down: three boxes as one cluster, and kill -9 of the one that the device is connected to."""

from contextlib import AsyncExitStack

from skerry.core.errors import SkerryError
from skerry.demo.scenarios.box import Box, Numbered, sending, times_seen
from skerry.demo.scenarios.story import Story

RATE = 50.0
TOGETHER_S = 240.0
CLUSTER = """\
[cluster]
enabled = true
listen = "{host}:0"
discovery = "seeds"
[[pipelines]]
name = "count"
source = {{ topic = "devices/+/readings", values = ["n"], time = "ts" }}
dedup = "id"
dedup_field = "n"
"""


async def node_down(story: Story) -> None:
    """Three boxes on this machine, each with an address of its own; one of them is killed with all its processes."""
    async with AsyncExitStack() as stack:
        boxes = [Box(story.folder, f"box{at}", CLUSTER.format(host=f"127.0.0.{at}"), f"127.0.0.{at}") for at in (1, 2, 3)]
        for each in boxes:
            stack.push_async_callback(each.stop)
        await _together(story, *boxes)
        first, *others = boxes
        password = await first.admit("pump-1")
        client = first.client("pump-1", password, *[each.mqtt for each in others])
        async with sending(client, "devices/pump-1/readings", RATE, story.clock) as device:
            story.do(f"a device of {first.name} sends {RATE:g} messages a second, each with a number; each becomes an event")
            await story.until(lambda: _follows(others, 0), "the first events")
            await story.watch(2.0, lambda: _look(others, device))
            await _kill(story, first, others, device)
            await story.watch(2.0, lambda: _look(others, device))
            await device.stop()
            await _compare(story, others, device)


async def _together(story: Story, first: Box, *others: Box) -> None:
    story.do(f"starting {first.name}, a cluster of one; {' and '.join(each.name for each in others)} join it, each with a token")
    await first.start()
    for each in others:
        token = (await first.post("/api/v1/cluster/tokens", {}))["token"]
        await each.command("cluster", "join", "--token", str(token))
        await each.start()
        story.see(f"{each.name} has joined and runs")

    async def whole() -> bool:
        states = [((await each.status())["cluster"] or {}).get("state") for each in (first, *others)]
        ready = [(await each.status())["ready"] for each in (first, *others)]
        return states == ["whole"] * len(states) and all(ready)

    took = await story.until(whole, "the three boxes are one", TOGETHER_S)
    story.figures["together_s"] = round(took, 2)
    leader = (await first.get("/api/v1/cluster/leader"))["leader"]
    story.see(f"the three are one, {took:.1f} s later: each message is kept by all three, {leader} leads")


async def _kill(story: Story, killed: Box, others: list[Box], device: Numbered) -> None:
    sent = device.sent
    pids = await killed.kill("agent")
    story.do(f"kill -9 of {killed.name}, all of its {len(pids)} processes: the device's broker, and what ran there, is gone")
    took = await story.until(lambda: _follows(others, sent), "events again, of another box", 120.0)
    story.figures["taken_over_s"] = round(took, 2)
    members = (await others[0].get("/api/v1/cluster/members"))["members"]
    said = ", ".join(f"{each['id']} {each['status']}" for each in members)
    story.see(f"the device is at another box, and events come again {took:.1f} s after the kill ({said})")


async def _compare(story: Story, boxes: list[Box], device: Numbered) -> None:
    async def whole() -> bool:
        return device.acknowledged <= set(await _numbers(boxes))

    story.do("the device stops; what it saw acknowledged is compared with the events that the two boxes have")
    await story.settle(whole)
    numbers = await _numbers(boxes)
    missing, twice = times_seen(numbers, device.acknowledged)
    story.figures |= {
        "sent": device.sent, "acknowledged": len(device.acknowledged), "events": len(numbers), "missing": missing, "twice": twice,
    }  # fmt: skip
    story.check(missing == 0, f"{missing} of {len(device.acknowledged):,} acknowledged messages have no event")
    story.check(twice == 0, f"{twice} have more than one")


async def _numbers(boxes: list[Box]) -> list[float]:
    """Of all events, from the first box that answers."""
    for each in boxes[:-1]:
        try:
            return [event["score"] for event in await each.events("count")]
        except SkerryError:
            continue
    return [event["score"] for event in await boxes[-1].events("count")]


async def _follows(boxes: list[Box], after: int) -> bool:
    """Whether a message that was sent after some number is an event."""
    return any(number > after for number in await _numbers(boxes))


async def _look(boxes: list[Box], device: Numbered) -> str:
    return f"acknowledged to the device {len(device.acknowledged):,} · events {len(await _numbers(boxes)):,}"
