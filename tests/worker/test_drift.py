"""Drift on a real broker: the reference is in the stored checkpoint, and a crash repeats and loses no event of it."""

import json
from collections.abc import AsyncIterator
from pathlib import Path

import numpy as np
import onnx
import pytest
import pytest_asyncio
from onnx import TensorProto, helper

from skerry.broker import WireClient, position, read_page
from skerry.core.clock import ManualClock
from skerry.inference import Model, load_model
from skerry.pipeline import EVENTS, EVENTS_PREFIX, begin_checkpoints
from skerry.worker.outbox import Outbox
from skerry.worker.slot import Slot
from tests.fixtures.frames import ARRIVAL, frame, new_runner, sample, spec_of
from tests.fixtures.nats import NatsServer

T = ARRIVAL // 1_000_000 - 10_000
SPEC = spec_of(
    model="same", drift={"bound": 0.5, "learn": 100, "window": 100}, rule={"field": "score", "above": 1e9, "severity": "warning"}
)


@pytest_asyncio.fixture
async def client(tmp_path: Path) -> AsyncIterator[WireClient]:
    with NatsServer(tmp_path) as server:
        found = await server.prepared()
        await begin_checkpoints(found, ["p"], 1, 0)
        yield found
        found.close()
        await found.closed


@pytest.fixture(name="same")
def model(tmp_path: Path) -> Model:
    """Scores a row by its one value."""
    values = [helper.make_tensor_value_info(name, TensorProto.FLOAT, ["N", 1]) for name in ("x", "score")]
    graph = helper.make_graph([helper.make_node("Identity", ["x"], ["score"])], "g", values[:1], values[1:])
    onnx.save(helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8), tmp_path / "same.onnx")
    return load_model(tmp_path / "same.onnx", "same")


async def new_slot(client: WireClient, scorer: Model) -> Slot:
    """As the engine makes and loads one."""
    slot = Slot(SPEC, (0, 1), ManualClock(ARRIVAL), Outbox(lambda: None))
    state = await slot.load_state(client)
    slot.take(new_runner(SPEC, scorer, state, known_letters=slot.known_letters))
    slot.outbox.attach(client)
    slot.start()
    return slot


def feed(slot: Slot, seed: int, begin: int, count: int, shift: float = 0.0) -> None:
    """Messages of the log from `begin` on, the same ones for the same arguments."""
    assert slot.runner is not None
    values = np.random.default_rng(seed).normal(shift, 1, count).round(6).tolist()
    frames = [frame(at, sample(T + at, value)) for at, value in enumerate(values, start=begin)]
    slot.runner.feed(frames, position(frames[0][1]), position(frames[-1][1]), 0.0)
    slot.release()


async def stored(client: WireClient) -> list[tuple[str, str]]:
    await client.flush()
    pages = await read_page(client, EVENTS, f"{EVENTS_PREFIX}p.drift", 0)
    return [(found["state"], found["id"]) for found in (json.loads(page.payload) for page in pages)]


@pytest.mark.asyncio
async def test_a_crash_behind_the_checkpoint_repeats_no_event_and_goes_on_counting(client: WireClient, same: Model) -> None:
    first = await new_slot(client, same)
    feed(first, 1, 1, 150)
    await first.checkpoint(client)
    feed(first, 2, 151, 150, 5.0)  # stored as an event, not as a checkpoint
    fired = await stored(client)
    assert [state for state, _ in fired] == ["firing"]

    second = await new_slot(client, same)
    report = second.report(0).drift
    assert (report.source, report.reference_rows, report.rows, report.firing) == ("learned", 100, 50, False)
    feed(second, 2, 151, 150, 5.0)
    assert await stored(client) == fired
    feed(second, 3, 301, 200)
    await second.checkpoint(client, last=True)
    ended = await stored(client)
    assert [state for state, _ in ended] == ["firing", "cleared"]
    assert ended[0] == fired[0]
    done = second.report(0)
    assert (done.drift.rows, done.drift.firing, done.events, done.books["difference"]) == (400, False, 2, 0)


@pytest.mark.asyncio
async def test_a_half_learned_reference_is_learned_to_its_end_after_a_restart(client: WireClient, same: Model) -> None:
    first = await new_slot(client, same)
    feed(first, 1, 1, 40)
    await first.checkpoint(client)
    second = await new_slot(client, same)
    assert (second.report(0).drift.source, second.report(0).drift.reference_rows) == ("learning", 40)
    feed(second, 4, 41, 80)
    assert (second.report(0).drift.source, second.report(0).drift.rows) == ("learned", 20)
