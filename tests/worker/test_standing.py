"""What a slot is given of the node: a share of its keys that a replay decides the same, and nothing at all while it is held."""

import pytest

from skerry.broker import WireClient, to_subject
from skerry.pipeline import MQTT_PREFIX, CheckpointStore, Standing, books, is_scored
from skerry.worker.slot import Slot
from tests.fixtures.frames import new_runner
from tests.fixtures.nats import put
from tests.worker import test_slot
from tests.worker.test_slot import SECONDS, SPEC, events, feed

client = test_slot.client
SHARE = 0.5


async def new_slot(client: WireClient, share: float = 1.0) -> Slot:
    slot = await test_slot.new_slot(client)
    slot.standing = Standing(share=share)
    return slot


def test_the_device_of_these_tests_is_not_among_those_that_stay() -> None:
    assert not is_scored("d", SHARE)


@pytest.mark.asyncio
async def test_a_share_is_stored_before_anything_that_was_decided_by_it_is_published(client: WireClient) -> None:
    slot = await new_slot(client)
    feed(slot, SECONDS[:3])
    await slot.checkpoint(client)
    assert len(await events(client)) == 2
    slot.standing = Standing(share=SHARE)
    assert slot.follow_share()
    feed(slot, SECONDS[3:5], 4)
    assert len(await events(client)) == 2, "held"
    await slot.checkpoint(client)
    assert slot.runner is not None
    assert slot.runner.state.ledger.shed == 2
    state = await CheckpointStore("p", 0, 1).load(client)
    assert state is not None
    assert (state.cursor, state.share) == (5, SHARE), "the next life sheds the same from there on"


@pytest.mark.asyncio
async def test_what_an_earlier_life_put_out_is_not_shed_in_a_replay(client: WireClient) -> None:
    slot = await new_slot(client)
    feed(slot, SECONDS[:3])
    assert len(await events(client)) == 2
    for payload in SECONDS:
        await put(client, MQTT_PREFIX + to_subject("devices/d/v"), payload)
    slot = await new_slot(client, share=SHARE)
    assert not slot.follow_share(), "its events are there, behind the checkpoint"
    feed(slot, SECONDS[:3])
    assert slot.follow_share()
    feed(slot, SECONDS[3:6], 4)
    await slot.checkpoint(client)
    assert slot.runner is not None
    account = books(slot.runner.state)
    assert (account["scored"], account["shed"], account["open"], account["difference"]) == (2, 3, 1, 0)
    assert len(await events(client)) == 2


@pytest.mark.asyncio
async def test_a_held_slot_lets_go_of_what_is_stored_and_goes_on_there(client: WireClient) -> None:
    slot = await new_slot(client)
    feed(slot, SECONDS[:3])
    slot.standing = Standing(held=True)
    assert slot.idle
    assert not slot.park(), "not before it is stored"
    await slot.checkpoint(client, last=True)
    assert slot.park()
    assert slot.runner is None
    report = slot.report(0)
    assert (report.state, report.cursor, report.durable, report.books["scored"]) == ("pending", 3, 3, 2)
    slot.standing = Standing()
    assert slot.report(0).state == "starting"
    slot.take(new_runner(SPEC, state=await slot.load_state(client)))
    slot.start()
    feed(slot, SECONDS[3:6], 4)
    await slot.checkpoint(client)
    assert len(await events(client)) == 5
