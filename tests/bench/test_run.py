"""Load, sink and peer together, small: what the bench says of a system that works, and of one that loses."""

import asyncio
import shutil
from collections.abc import AsyncIterator
from pathlib import Path

import msgspec
import pytest
import pytest_asyncio

from bench.load import Outcome
from bench.run import Sink, judge, load_for, run, start_load
from bench.systems import Diy, cpu_of

pytestmark = [
    pytest.mark.asyncio,
    pytest.mark.skipif(
        shutil.which("mosquitto_passwd", path="/usr/bin:/usr/local/bin:/usr/sbin") is None,
        reason="optional: mosquitto is not installed",
    ),
]


@pytest_asyncio.fixture
async def diy(tmp_path: Path) -> AsyncIterator[Diy]:
    system = Diy(tmp_path)
    try:
        await system.start()
        yield system
    finally:
        await system.stop()


@pytest_asyncio.fixture
async def sink(diy: Diy) -> AsyncIterator[Sink]:
    made = await Sink.of(diy)
    yield made
    await made.stop()


async def test_a_load_that_is_kept_up_with(diy: Diy, sink: Sink) -> None:
    found = await run(diy, sink, load_for(diy, 600.0, 3, devices=10), 10.0)
    assert (found.outcome.messages, found.outcome.acknowledged) == (960, 960)
    assert (found.missing, found.torn, found.doubled, len(found.sent_ms)) == (0, 0, 0, 30)
    assert 0 < found.p50 <= found.p99 < 10_000
    assert found.outcome.seconds == pytest.approx(1.6, abs=1.0)
    assert cpu_of(diy.pid("script")) > 0


async def test_a_script_that_is_killed_loses_windows_and_the_bench_sees_it(diy: Diy, sink: Sink) -> None:
    load = load_for(diy, 300.0, 3, devices=10)
    helper = await start_load(diy, load)
    try:
        answer = asyncio.create_task(helper.ask())
        await asyncio.sleep(1.5)
        await diy.kill("script")
        outcome = msgspec.json.decode(await answer, type=Outcome)
    finally:
        await helper.stop()
    found = judge(load, outcome, await sink.take(30, 2.0))
    assert outcome.acknowledged == 960
    assert 0 < found.missing <= 10
