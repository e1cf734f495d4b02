"""link-down: the link to the centre is cut for a while and comes back."""

from skerry.demo.scenarios.box import Box, box, sending, times_seen
from skerry.demo.scenarios.link import Link
from skerry.demo.scenarios.story import Story

DEVICE = "pump-1"
DOWN_S = 6.0
RATE = 20.0
CENTRE = """\
[uplink]
receive = true
[[pipelines]]
name = "arrived"
source = { topic = "sites/+/+/raw/#", values = ["n"], time = "ts", key = "{6}" }
"""
SITE = """\
[uplink]
kind = "http"
url = "http://%s"
batch = { messages = 50, delay = "300ms" }
credentials = "centre.token"
[[pipelines]]
name = "decided"
source = { topic = "devices/+/readings", values = ["n"], time = "ts" }
sinks = ["event", { kind = "uplink", select = ["raw", "event"] }]
"""


async def link_down(story: Story) -> None:
    """A box with an uplink to another box; the link between them is cut for six seconds."""
    story.do("starting two nodes: a centre, and a box that sends what it decides to the centre")
    async with box(story.folder, "centre", CENTRE) as centre, Link(centre.http) as link:
        token = await centre.post("/api/v1/tokens", {"name": "box@demo", "scopes": ["uplink"]})
        (story.folder / "box").mkdir(mode=0o700)
        credentials = story.folder / "box" / "centre.token"
        credentials.touch(0o600)
        credentials.write_text(str(token["token"]), encoding="utf-8")
        async with box(story.folder, "box", SITE % link.address) as site:
            first, password = await site.admit("first"), await site.admit(DEVICE)
            story.see(f"centre at {centre.http}, box at {site.http}, the link between them at {link.address}")
            async with sending(site.client("first", first), "devices/first/readings", 5.0, story.clock):
                # an uplink that has never run begins with what comes from then on
                await story.until(lambda: _arrived(centre), "the uplink works")
            async with sending(site.client(DEVICE, password), f"devices/{DEVICE}/readings", RATE, story.clock) as device:
                await _down_and_up(story, centre, site, link)
                await device.stop()
                await _compare(story, centre, site, device.acknowledged)


async def _down_and_up(story: Story, centre: Box, site: Box, link: Link) -> None:
    async def look() -> str:
        status = await site.status()
        row = next(each for each in status["pipelines"] if each["name"] == "decided")
        here, there = row["events"], (await centre.pipeline("arrived"))["events"]
        p99 = row["latency_ms"]["p99"] or 0
        return f"decided here {here:,} (p99 {p99:.1f} ms) · waiting for the link {_waiting(status):,} · at the centre {there:,}"

    story.do(f"a device sends {RATE:g} messages a second; each is decided here and sent to the centre")
    await story.watch(2.0, look)
    before = (await site.pipeline("decided"))["events"]
    link.cut()
    story.do(f"the link is cut, for {DOWN_S:g} s")
    await story.watch(DOWN_S, look)
    status = await site.status()
    decided = next(each for each in status["pipelines"] if each["name"] == "decided")["events"] - before
    story.figures |= {"down_s": DOWN_S, "decided_while_down": decided, "waited_most": _waiting(status)}
    story.check(decided >= DOWN_S * RATE / 2, f"{decided:,} messages were decided on the box while the link was down")
    story.check(_waiting(status) > 0, f"{_waiting(status):,} messages wait on the disk for the link")
    link.mend()
    story.do("the link is back")
    took = await story.until(lambda: _sent(site), "what waited has left")
    story.figures["caught_up_s"] = round(took, 2)
    story.see(f"what waited has left {took:.1f} s after the link came back")


async def _compare(story: Story, centre: Box, site: Box, acknowledged: set[int]) -> None:
    async def whole() -> bool:
        return acknowledged <= set(await _numbers(centre)) and await _sent(site)

    story.do("the device stops; what it saw acknowledged is compared with what the centre has")
    await story.settle(whole)
    numbers = await _numbers(centre)
    missing, twice = times_seen(numbers, acknowledged)
    difference = (await site.pipeline("decided"))["ledger"]["difference"]
    story.figures |= {
        "acknowledged": len(acknowledged), "arrived": len(numbers), "missing": missing, "twice": twice, "books_off_by": difference,
    }  # fmt: skip
    story.check(missing == 0, f"{missing} of {len(acknowledged):,} acknowledged messages are missing at the centre")
    story.check(twice == 0, f"{twice} came twice")
    story.check(numbers == sorted(numbers), "they came in the order in which the device sent them")
    story.check(difference == 0, f"the box's books are off by {difference}")


def _waiting(status: dict[str, object]) -> int:
    uplink = status["uplink"]
    return int(uplink["waiting"]) if isinstance(uplink, dict) else 0


async def _numbers(centre: Box) -> list[float]:
    return [event["score"] for event in await centre.events("arrived") if event["key"] == DEVICE]


async def _arrived(centre: Box) -> bool:
    return bool((await centre.pipeline("arrived"))["events"])


async def _sent(site: Box) -> bool:
    return _waiting(await site.status()) == 0
