"""bad-device: one device sends rubbish, guesses another's password and publishes in its name, while a good one works."""

import asyncio
import contextlib
from collections.abc import Iterator
from random import Random

from skerry.core.errors import RejectedError, SkerryError
from skerry.demo.scenarios.box import Box, Numbered, box, sending, times_seen
from skerry.demo.scenarios.story import Story
from skerry.mqtt import MqttClient

RATE = 30.0
GUESSES = 8
FORGED = 5
RUBBISH = 2_000
AT_ONCE = 50
GOOD, BAD = "pump-1", "imp-1"
PIPELINES = """\
[[pipelines]]
name = "readings"
source = { topic = "devices/+/readings", values = ["n"], time = "ts" }
"""


async def bad_device(story: Story) -> None:
    """A node, a good device and a bad one: both have a password of their own."""
    story.do("starting a node with two devices: a good one and a bad one")
    async with box(story.folder, "box", PIPELINES) as node:
        good, bad = await node.admit(GOOD), await node.admit(BAD)
        async with sending(node.client(GOOD, good), f"devices/{GOOD}/readings", RATE, story.clock) as device:
            story.do(f"{GOOD} sends {RATE:g} good messages a second")
            await story.until(lambda: _decided(node), "the first events")
            await story.watch(2.0, lambda: _look(node, device))
            await _guess(story, node)
            async with node.client(BAD, bad) as imp:
                await _forge(story, imp)
                sent = await _rubbish(story, node, device, imp)
            await story.watch(1.0, lambda: _look(node, device))
            await device.stop()
            await _compare(story, node, device, sent)


async def _guess(story: Story, node: Box) -> None:
    story.do(f"{GUESSES} log-ins as {GOOD} with guessed passwords")
    refused = 0
    for number in range(GUESSES):
        try:
            async with node.client(GOOD, f"guess-{number}"):
                pass
        except RejectedError:
            refused += 1
        except SkerryError as error:
            story.see(f"no answer to a guess: {error.message}")
    story.figures |= {"guesses": GUESSES, "guesses_refused": refused}
    story.check(refused == GUESSES, f"{refused} of {GUESSES} guesses were refused; the reasons are in the audit log")


async def _forge(story: Story, imp: MqttClient) -> None:
    story.do(f"{BAD} publishes {FORGED} messages in the name of {GOOD}")
    for number in range(FORGED):
        with contextlib.suppress(SkerryError):
            await imp.publish(f"devices/{GOOD}/readings", b'{"ts": %d, "n": -1}' % (number + 1), qos=1, timeout=1.0)


async def _rubbish(story: Story, node: Box, device: Numbered, imp: MqttClient) -> int:
    """Send rubbish as fast as it is taken; how many messages were acknowledged."""
    story.do(f"{BAD} sends {RUBBISH:,} messages of rubbish on a topic of its own, as fast as it can")
    taken, began, pieces = 0, story.seconds, _pieces()
    while (story.seconds - began) < 60.0:
        batch = [piece for piece, _ in zip(pieces, range(AT_ONCE), strict=False)]
        if not batch:
            break
        done = await asyncio.gather(*[imp.publish(f"devices/{BAD}/readings", piece, 1, timeout=30.0) for piece in batch],
                                    return_exceptions=True)  # fmt: skip
        taken += sum(not isinstance(each, BaseException) for each in done)
    story.see(f"{taken:,} were acknowledged in {story.seconds - began:.1f} s; {await _look(node, device)}")
    return taken


def _pieces() -> Iterator[bytes]:
    draw = Random(7)
    kinds = (b"", b"{", b"null", b'{"n": "three"}', b'{"ts": -5, "n": 1}', b'{"ts": 1e18, "n": 1}', b'{"n": NaN}', b"[" * 500)
    for at in range(RUBBISH):
        yield draw.randbytes(draw.randrange(1, 400)) if at % 2 else kinds[at // 2 % len(kinds)]


async def _compare(story: Story, node: Box, device: Numbered, sent: int) -> None:
    async def whole() -> bool:
        decided = {event["score"] for event in await node.events("readings") if event["key"] == GOOD}
        return device.acknowledged <= decided and (await _letters(node)) >= sent

    story.do("the devices stop; what was acknowledged is compared with what became of it")
    await story.settle(whole)
    events = await node.events("readings")
    numbers = [event["score"] for event in events if event["key"] == GOOD]
    missing, twice = times_seen(numbers, device.acknowledged)
    row = await node.pipeline("readings")
    reasons = {reason: count for reason, count in row["ledger"]["dead_letters"].items() if count}
    refused = (await node.get(f"/api/v1/devices/{BAD}"))["refused"]
    story.figures |= {
        "acknowledged": len(device.acknowledged), "missing": missing, "twice": twice, "forged": numbers.count(-1.0),
        "rubbish": sent, "dead_letters": reasons, "books_off_by": row["ledger"]["difference"], "p99_ms": row["latency_ms"]["p99"],
    }  # fmt: skip
    story.check(missing == 0 and twice == 0, f"of {len(numbers):,} good messages {missing} are missing, {twice} came twice")
    story.check(numbers.count(-1.0) == 0, f"{numbers.count(-1.0)} of {FORGED} forged messages had an effect")
    story.check(bool(refused), f"the refusals stand by the device: {refused}")
    said = ", ".join(f"{count:,} {reason}" for reason, count in reasons.items())
    story.check(sum(reasons.values()) == sent, f"each of {sent:,} messages of rubbish is a dead letter with its reason: {said}")
    story.check(all(event["key"] == GOOD for event in events), "none of them became an event")
    story.check(row["ledger"]["difference"] == 0, f"the books are off by {row['ledger']['difference']}")
    restarts = sum(each["restarts"] for each in (await node.status())["processes"])
    story.check(restarts == 0, f"{restarts} processes had to be started again")


async def _letters(node: Box) -> int:
    return sum((await node.pipeline("readings"))["ledger"]["dead_letters"].values())


async def _decided(node: Box) -> bool:
    return bool((await node.pipeline("readings"))["events"])


async def _look(node: Box, device: Numbered) -> str:
    row = await node.pipeline("readings")
    letters = sum(row["ledger"]["dead_letters"].values())
    p99 = row["latency_ms"]["p99"] or 0
    heard, decided = len(device.acknowledged), row["events"]
    return f"{GOOD}: acknowledged {heard:,} · events {decided:,} · p99 {p99:.1f} ms · dead letters {letters:,}"
