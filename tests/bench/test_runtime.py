"""The rows "runtime", small: memory of mixed sizes with the pool and without, a crowd of devices, a probe in an agent's loop."""

import asyncio
import subprocess
import sys
from pathlib import Path

import msgspec
import pytest

from bench.crowd import Counts, Crowd
from bench.fragments import Found
from bench.packets import connect
from bench.run import Helper
from bench.runtime import Probed, crowded, p99, stacking
from bench.systems import ROOT
from skerry.runtime import MemoryPool


@pytest.mark.parametrize("kind", ["pool", "plain"])
def test_what_is_alive_is_resident(kind: str) -> None:
    # in a process of its own: what else this one holds and gives back would count too
    command = [sys.executable, "-m", "bench.fragments", kind, "0.3"]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, check=True, timeout=60)
    found = msgspec.json.decode(done.stdout, type=Found)
    assert found.rounds > 400
    assert 0.3 < found.worst < 100


def test_stacking_is_timed_with_a_pool_and_without() -> None:
    assert 0 < stacking((64, 24), None, 0.02) < 10_000
    pool = MemoryPool(8192, 2)
    assert 0 < stacking((64, 24), pool, 0.02) < 10_000
    assert pool.hits > 0


def test_p99_is_of_all() -> None:
    assert p99([float(at) for at in range(101)]) == 99.0


def test_a_clean_session_is_asked_for() -> None:
    kept, clean = connect("a"), connect("a", clean=True)
    assert [at for at in range(len(kept)) if kept[at] != clean[at]] == [9]
    assert clean[9] == 2


@pytest.mark.asyncio
async def test_a_crowd_is_acknowledged_and_the_loop_is_probed(tmp_path: Path) -> None:
    system = Probed(tmp_path)
    crowded(system)
    try:
        await system.start()
        helper = await Helper.start("bench.crowd", msgspec.json.encode(Crowd(system.port, 20, 0.5)).decode())
        try:
            async with asyncio.timeout(30):
                while (counts := msgspec.json.decode(await helper.ask(), type=Counts)).acknowledged < 40:  # noqa: ASYNC110 - another process
                    await asyncio.sleep(0.1)
        finally:
            await helper.stop()
        assert (counts.up, counts.lost) == (20, 0)
        lags = await system.take()
        assert len(lags) > 20
        assert all(0 <= own <= lag for lag, own in lags)
    finally:
        await system.stop()
