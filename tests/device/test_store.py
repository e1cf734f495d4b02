"""Stores without a node: both do what the contract says, and the file survives what may happen to it."""

import asyncio
import stat
from pathlib import Path

import pytest

from skerry.core.errors import CorruptError, UnavailableError
from skerry.device.store import FileStore, MemoryStore
from tests.contracts.key_value import KeyValueContract


class TestMemoryStore(KeyValueContract):
    @pytest.fixture
    def store(self) -> MemoryStore:
        return MemoryStore()


class TestFileStore(KeyValueContract):
    @pytest.fixture
    def store(self, tmp_path: Path) -> FileStore:
        return FileStore(tmp_path / "devices.json")

    async def test_many_keys_are_all_listed(self, store: FileStore) -> None:
        # the contract's 700 syncs are not needed to see it
        names = [f"{number:04}" for number in range(30)]
        for name in names:
            await store.set(name, name.encode())
        assert [key for key, _ in await store.items()] == names


@pytest.mark.asyncio
async def test_a_file_is_read_again_and_is_its_owner_s_alone(tmp_path: Path) -> None:
    path = tmp_path / "made" / "devices.json"
    await FileStore(path).set("a", b"\0\xff")
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    assert stat.S_IMODE(path.parent.stat().st_mode) == 0o700
    again = FileStore(path)
    assert await again.get("a") == b"\0\xff"
    await again.delete("a")
    assert await FileStore(path).items() == []
    assert [each.name for each in path.parent.iterdir()] == ["devices.json"]


@pytest.mark.asyncio
async def test_what_is_set_at_once_is_all_there(tmp_path: Path) -> None:
    store = FileStore(tmp_path / "devices.json")
    await asyncio.gather(*[store.set(f"{number}", b"x") for number in range(20)])
    assert len(await FileStore(tmp_path / "devices.json").items()) == 20


@pytest.mark.asyncio
@pytest.mark.parametrize("content", [b"", b"rubbish", b"[]", b'{"a": 1}'])
async def test_a_damaged_file_is_named_and_kept(tmp_path: Path, content: bytes) -> None:
    path = tmp_path / "devices.json"
    path.write_bytes(content)
    store = FileStore(path)
    for call in (store.get("a"), store.set("a", b"1"), store.delete("a"), store.items()):
        with pytest.raises(CorruptError, match=r"devices\.json"):
            await call
    assert path.read_bytes() == content


@pytest.mark.asyncio
async def test_a_change_that_could_not_be_written_has_not_happened(tmp_path: Path) -> None:
    path = tmp_path / "devices.json"
    store = FileStore(path)
    await store.set("a", b"1")
    # what is to be replaced is a directory: that fails for root too
    path.unlink()
    path.mkdir()
    (path / "x").write_text("")
    with pytest.raises(UnavailableError, match="cannot be written"):
        await store.set("b", b"2")
    assert await store.get("b") is None
    assert await store.get("a") == b"1"


@pytest.mark.asyncio
async def test_a_left_over_of_a_power_cut_is_no_hindrance(tmp_path: Path) -> None:
    path = tmp_path / "devices.json"
    (tmp_path / ".devices.json.new").write_bytes(b'{"half": "wr')
    store = FileStore(path)
    assert await store.items() == []
    await store.set("a", b"1")
    assert not (tmp_path / ".devices.json.new").exists()


@pytest.mark.asyncio
async def test_nobody_s_link_is_written_through(tmp_path: Path) -> None:
    victim = tmp_path / "victim"
    victim.write_text("not ours")
    (tmp_path / ".devices.json.new").symlink_to(victim)
    path = tmp_path / "devices.json"
    await FileStore(path).set("a", b"1")
    assert victim.read_text() == "not ours"
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
