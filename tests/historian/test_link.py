"""The agent's side over real children: one while there is something to keep, another when it was killed or hung."""

import asyncio
import errno
import json
import os
import signal
from collections.abc import AsyncIterator
from pathlib import Path

import pytest
import pytest_asyncio

from skerry.core.clock import SystemClock
from skerry.core.errors import OverloadedError, RejectedError, UnavailableError
from skerry.core.service import cancel_and_wait
from skerry.historian import Historian, Place, Question
from skerry.historian import link as link_module
from skerry.store import Archive, StorageConfig, SyncKeyValueStore
from tests.fixtures.nats import NatsServer, put, until
from tests.historian.rig import assigned, filled
from tests.store.disk import compiled, environment

pytestmark = pytest.mark.asyncio
NOW = SystemClock().now() // 1_000_000


@pytest_asyncio.fixture
async def historian(tmp_path: Path) -> AsyncIterator[Historian]:
    found = Historian(tmp_path / "run", SystemClock())
    running = asyncio.create_task(found.run())
    yield found
    await cancel_and_wait(running)
    assert found.pid is None


async def test_without_an_assignment_there_is_no_child(historian: Historian) -> None:
    await asyncio.sleep(0.05)
    assert (historian.pid, historian.durable()) == (None, None)
    with pytest.raises(UnavailableError, match="keeps no history"):
        await historian.ask(Question())


async def test_one_life_from_the_log_to_an_answer(historian: Historian, tmp_path: Path) -> None:
    with NatsServer(tmp_path) as server:
        client = await server.prepared()
        historian.assign(assigned(tmp_path))
        with pytest.raises(UnavailableError, match="not open yet"):
            await historian.ask(Question())
        await asyncio.wait_for(historian.ready.wait(), 20)
        assert historian.durable() == 0
        await historian.place(Place("127.0.0.1", server.port, "agent", "pw"))
        await put(client, "$MQTT.msgs.devices.d.v", json.dumps({"ts": NOW, "x": 7}).encode())
        await until(lambda: historian.report is not None and historian.report.samples == 1)
        await until(lambda: historian.durable() == 1, 20)
        answer = await historian.ask(Question("d/v/x", 0, 1 << 55))
        assert memoryview(answer.values).cast("d").tolist() == [7.0]
        with pytest.raises(RejectedError, match="unknown aggregate"):
            await historian.ask(Question("d/v/x", 0, 1 << 55, 60, "median"))
        first = historian.pid
        assert first is not None
        os.kill(first, signal.SIGKILL)
        await until(lambda: historian.pid not in (None, first) and historian.ready.is_set(), 20)
        assert historian.restarts.total == 1
        assert historian.last_words == "ended by SIGKILL"
        assert memoryview((await historian.ask(Question("d/v/x", 0, 1 << 55))).values).cast("d").tolist() == [7.0]
        client.close()


async def test_another_assignment_is_another_child_and_none_is_none(historian: Historian, tmp_path: Path) -> None:
    historian.assign(assigned(tmp_path))
    await asyncio.wait_for(historian.ready.wait(), 20)
    first = historian.pid
    historian.assign(assigned(tmp_path))
    historian.assign(assigned(tmp_path, topics=["devices/#"]))
    assert historian.durable() is None
    await until(lambda: historian.pid not in (None, first) and historian.ready.is_set(), 20)
    historian.assign(None)
    await until(lambda: historian.pid is None)
    assert historian.restarts.total == 0


async def test_an_io_error_ends_a_life_and_the_next_one_stores_what_was_not(
    historian: Historian, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with NatsServer(tmp_path) as server:
        client = await server.prepared()
        await put(client, "$MQTT.msgs.devices.d.v", json.dumps({"ts": NOW, "x": 7}).encode())
        given = assigned(tmp_path)
        with filled(Path(given.directory)) as archive:
            archive.flush({"mine": 1})  # its tables are there: the first sync is that of samples
        fault = environment(compiled(tmp_path), Path(given.directory), None, f"sync:1:{errno.EIO}:1")
        for name in ("LD_PRELOAD", "DISK_ROOT", "DISK_FAULT"):
            monkeypatch.setenv(name, fault[name])
        historian.assign(given)
        await historian.place(Place("127.0.0.1", server.port, "agent", "pw"))
        await until(lambda: historian.restarts.total, 30)
        for name in ("LD_PRELOAD", "DISK_ROOT", "DISK_FAULT"):
            monkeypatch.delenv(name)
        await until(lambda: historian.durable() == 1, 30)
        assert "the history takes nothing since an I/O error" in historian.last_words
        answer = await historian.ask(Question("d/v/x", 0, 1 << 55))
        assert memoryview(answer.values).cast("d").tolist() == [7.0]
        client.close()


async def test_one_that_hangs_is_ended(historian: Historian, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    historian.assign(assigned(tmp_path))
    await asyncio.wait_for(historian.ready.wait(), 20)
    first = historian.pid
    assert first is not None
    monkeypatch.setattr(Historian, "stall_s", 4.0)
    historian.reported.clear()
    await asyncio.wait_for(historian.reported.wait(), 30)  # the wait that is under way may be one of 30 s, the next is not
    os.kill(first, signal.SIGSTOP)
    await until(lambda: historian.last_words == "it said nothing", 60)
    monkeypatch.setattr(Historian, "stall_s", 30.0)
    await until(historian.ready.is_set, 30)


async def test_a_store_that_another_has_is_told_in_its_last_words(historian: Historian, tmp_path: Path) -> None:
    other = Historian(tmp_path / "other", SystemClock())
    running = asyncio.create_task(other.run())
    other.assign(assigned(tmp_path))
    await asyncio.wait_for(other.ready.wait(), 20)
    historian.assign(assigned(tmp_path, socket=str(tmp_path / "second.sock")))
    await until(lambda: "in use by another skerry" in historian.last_words, 20)
    assert historian.durable() is None
    await cancel_and_wait(running)
    await asyncio.wait_for(historian.ready.wait(), 20)


async def test_questions_are_bounded(historian: Historian, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    historian.assign(assigned(tmp_path))
    await asyncio.wait_for(historian.ready.wait(), 20)
    monkeypatch.setattr(link_module, "MOST_QUESTIONS", 0)
    with pytest.raises(OverloadedError, match="too many questions"):
        await historian.ask(Question())


async def test_a_store_that_cannot_be_read_is_told_and_is_left_as_it_is(historian: Historian, tmp_path: Path) -> None:
    (tmp_path / "history").mkdir()
    (tmp_path / "history" / "format").write_text("9\n")
    historian.assign(assigned(tmp_path))
    await until(lambda: "has format '9'" in historian.last_words, 20)
    assert historian.durable() is None
    (tmp_path / "history" / "format").unlink()
    await asyncio.wait_for(historian.ready.wait(), 20)


async def test_orders_are_done_by_the_child_and_told(historian: Historian, tmp_path: Path) -> None:
    with pytest.raises(UnavailableError, match="does not run"):
        await historian.order(give_up=1)
    with NatsServer(tmp_path) as server:
        with filled(tmp_path / "history"):
            pass
        historian.assign(assigned(tmp_path))
        await historian.place(Place("127.0.0.1", server.port, "agent", "pw"))
        await asyncio.wait_for(historian.ready.wait(), 20)
        await historian.order(copy=str(tmp_path / "copy"))
        with SyncKeyValueStore(StorageConfig(tmp_path / "copy", "64MiB", "none")) as store:
            assert len(Archive(store).query("a/v/x", 0, 1 << 55)[0]) == 3600
        with pytest.raises(UnavailableError, match="not empty"):
            await historian.order(copy=str(tmp_path / "copy"))
        assert await historian.order(give_up=1 << 30, levels=["minutes"]) > 0
        assert await historian.order(give_up=1 << 30) > 0
        assert (await historian.ask(Question("a/v/x", 0, 1 << 55))).times == b""
        assert historian.report is not None
        assert historian.report.given_up > 0
