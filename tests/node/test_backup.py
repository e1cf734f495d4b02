"""The node's part in a backup: one at a time, nothing trimmed meanwhile, and nothing held for one that has died."""

from pathlib import Path

import pytest

from skerry.core.errors import RejectedError, UnavailableError
from skerry.node import backup as backup_module
from skerry.runtime import DirectoryLock
from skerry.store import StorageConfig, SyncKeyValueStore
from tests.node.test_view import running, write

pytestmark = pytest.mark.asyncio


async def test_one_at_a_time_and_none_for_one_that_died(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    file = write(tmp_path, "a")
    left = tmp_path / "data" / "backup" / "store"
    left.mkdir(parents=True)
    async with running(file) as node:
        assert not left.exists(), "what a killed node left of a backup"
        await (await node.storage.store()).set(b"colour", b"grey")
        assert not node.backup.under_way
        answer = await node.backup.begin()
        assert answer["copied"] == ["store"]
        assert node.backup.under_way
        assert node.link._held_until > node._clock.monotonic() + 800
        with pytest.raises(RejectedError, match="being made already"):
            await node.backup.begin()
        monkeypatch.setattr(backup_module, "START_S", 0.0)
        reader = DirectoryLock(Path(answer["place"]))
        reader.take()
        with pytest.raises(RejectedError, match="being made already"):
            await node.backup.begin()
        reader.release()  # as the kernel does when who made it is killed
        await (await node.storage.store()).set(b"colour", b"blue")
        again = await node.backup.begin()
        with SyncKeyValueStore(StorageConfig(Path(again["place"]) / "store")) as copy:
            assert copy.get(b"colour") == b"blue"
        await node.backup.end()
        assert not left.parent.exists()
        assert not node.backup.under_way
        assert node.link._held_until <= node._clock.monotonic()


async def test_without_the_broker_there_is_none(tmp_path: Path) -> None:
    async with running(write(tmp_path, "a")) as node:
        client, node.link.client = node.link.client, None
        with pytest.raises(UnavailableError, match="broker is not there"):
            await node.backup.begin()
        node.link.client = client
        assert not node.backup.under_way
