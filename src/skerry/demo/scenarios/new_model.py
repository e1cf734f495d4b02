"""new-model: versions of a model come and go while messages flow: a good one, a broken file, one that turns out bad."""

import asyncio
import contextlib
from collections import Counter
from typing import Any

from skerry.core.errors import RejectedError, SkerryError
from skerry.core.service import cancel_and_wait
from skerry.demo.config import model_path
from skerry.demo.devices import PUMPS, Acknowledged, PumpFleet, publish_fleet
from skerry.demo.pump import PUMP_FEATURES, PUMP_VALUES
from skerry.demo.scenarios.box import Box, box
from skerry.demo.scenarios.story import Story

SAMPLES = 2
PIPELINES = """\
[[models]]
name = "pump"
file = {file!r}
[[pipelines]]
name = "pumps"
source = {{ topic = "devices/+/sensors", time = "ts", values = {values} }}
window = {{ kind = "count", size = {samples} }}
features = {features}
model = "pump@active"
"""
METADATA = 14
"""Field number of `metadata_props` in ONNX' ModelProto: a serialized message with a field appended has one value more in it."""


async def new_model(story: Story) -> None:
    """A node with the demo's model of pumps, under the readings of the demo's pump station."""
    story.do("starting a node that scores the readings of a pump station with version 1 of a model")
    text = PIPELINES.format(
        file=str(model_path("pump")), values=list(PUMP_VALUES), features=list(PUMP_FEATURES), samples=SAMPLES
    )  # fmt: skip
    async with box(story.folder, "box", text.replace("'", '"')) as node, contextlib.AsyncExitStack() as stack:
        clients = {name: await stack.enter_async_context(node.client(name, await node.admit(name))) for name in PUMPS}
        acknowledged = Acknowledged()
        fleet = PumpFleet(7, story.clock.now())
        sending = asyncio.create_task(publish_fleet(fleet, clients, story.clock, acknowledged))
        try:
            await story.until(lambda: _scored(node, "1"), "the first windows are scored")
            await story.watch(2.0, lambda: _look(node))
            await _good(story, node)
            await _broken(story, node)
            await _bad(story, node)
            await story.watch(2.0, lambda: _look(node))
        finally:
            await cancel_and_wait(sending)
        await _compare(story, node, acknowledged.count)


async def _good(story: Story, node: Box) -> None:
    file = node.folder / "good.onnx"
    file.write_bytes(_noted(model_path("pump").read_bytes(), "note", "version 2 of the demo"))
    await node.post("/api/v1/models", {"name": "pump", "file": str(file), "version": "2"})
    story.do("version 2 is added and tried beside version 1; then it is made the active one")
    began = story.seconds
    await node.post("/api/v1/models/pump/activate", {"version": "2"})
    await story.until(lambda: _scored(node, "2"), "version 2 scores")
    story.figures["swap_s"] = round(story.seconds - began, 2)
    story.see(f"version 2 scores {story.seconds - began:.1f} s later; {await _look(node)}")


async def _broken(story: Story, node: Box) -> None:
    file = node.folder / "broken.onnx"
    file.write_bytes(model_path("pump").read_bytes()[:3000])
    story.do("half a file is added as version 3")
    try:
        await node.post("/api/v1/models", {"name": "pump", "file": str(file), "version": "3"})
    except RejectedError as error:
        story.figures["broken"] = error.message
        story.check(True, f"it is refused: {error.message}")
    else:
        story.check(False, "half a file was taken")


async def _bad(story: Story, node: Box) -> None:
    """A model that does well on made-up numbers and gives NaN for those of real pumps."""
    await node.post("/api/v1/models", {"name": "pump", "file": str(model_path("unfit")), "version": "4"})
    story.do("version 4 is added: it loads and runs, but the readings of real pumps give no number; it is made the active one")
    began = story.seconds
    with contextlib.suppress(SkerryError):
        await node.post("/api/v1/models/pump/activate", {"version": "4"})
    await story.until(lambda: _taken_back(node), "version 4 is taken back")
    why = next((row["reason"] for row in await _versions(node) if row["version"] == "4"), "")
    story.figures |= {"taken_back_s": round(story.seconds - began, 2), "taken_back": why}
    story.check(bool(why), f"it is taken back by itself {story.seconds - began:.1f} s later: {why}")
    await story.until(lambda: _scored(node, "2", fresh=True), "version 2 scores again")


async def _compare(story: Story, node: Box, acknowledged: int) -> None:
    async def whole() -> bool:
        ledger = (await node.pipeline("pumps"))["ledger"]
        return int(ledger["received"]) >= acknowledged and ledger["waiting"] == 0

    story.do("the pumps stop; what they saw acknowledged is compared with what was scored")
    await story.settle(whole)
    dead = await _dead(node)
    if dead:
        story.do(f"{dead} messages had met version 4: they are dead letters, and are tried again")
        await node.post("/api/v1/pipelines/pumps/deadletters/retry")

        async def tried() -> bool:
            return await _dead(node) == 0

        await story.until(tried, "the dead letters are scored")
    events, ledger = await node.events("pumps"), (await node.pipeline("pumps"))["ledger"]
    by_version = Counter(event["version"] for event in events)
    again = sum(count - 1 for count in Counter((event["key"], event["start"], event["end"]) for event in events).values())
    story.figures |= {
        "acknowledged": acknowledged, "received": ledger["received"], "windows": len(events), "by_version": dict(by_version),
        "twice": again, "dead_letters": await _dead(node), "books_off_by": ledger["difference"],
    }  # fmt: skip
    story.see(" · ".join(f"{count:,} windows scored by version {name}" for name, count in sorted(by_version.items())))
    story.check(ledger["received"] == acknowledged, f"{acknowledged:,} messages were acknowledged, {ledger['received']:,} read")
    scored = ledger["scored"] + ledger["open"]
    story.check(scored == acknowledged, f"{scored:,} of them are scored or in a window that is open")
    story.check(again == 0, f"{again} windows were scored twice")
    story.check(set(by_version) <= {"1", "2"}, "no event is of version 3 or 4")
    story.check(ledger["difference"] == 0, f"the books are off by {ledger['difference']}")


async def _dead(node: Box) -> int:
    return sum((await node.pipeline("pumps"))["ledger"]["dead_letters"].values())


async def _scored(node: Box, version: str, fresh: bool = False) -> bool:
    newest = (await node.get("/api/v1/events", pipeline="pumps", last=len(PUMPS)))["events"]
    return bool(newest) and (all if fresh else any)(event["version"] == version for event in newest)


async def _versions(node: Box) -> list[dict[str, Any]]:
    return [row for row in (await node.get("/api/v1/models"))["models"] if row["name"] == "pump"]


async def _taken_back(node: Box) -> bool:
    rows = {row["version"]: row for row in await _versions(node)}
    return (rows["4"]["state"], rows["2"]["state"]) == ("failed", "active")


async def _look(node: Box) -> str:
    row = await node.pipeline("pumps")
    p99 = row["latency_ms"]["p99"] or 0
    return f"model {row['model']} · messages {row['ledger']['received']:,} · windows {row['windows']:,} · p99 {p99:.1f} ms"


def _noted(model: bytes, key: str, value: str) -> bytes:
    """The model with one more entry of metadata: another file, and the same network."""
    entry = b"".join(bytes((number << 3 | 2, len(text))) + text for number, text in ((1, key.encode()), (2, value.encode())))
    return model + bytes((METADATA << 3 | 2, len(entry))) + entry
