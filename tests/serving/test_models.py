"""The models that a server holds: which version a path means, how many are kept, and that nobody loses one that is in use."""

import asyncio
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import pytest_asyncio

from skerry.core.errors import UnavailableError
from skerry.http import NotFoundError
from skerry.serving.frames import Given, Held
from skerry.serving.models import EXTRA, Entry, LoadedModels
from tests.serving.conftest import adder

pytestmark = pytest.mark.asyncio
VERSIONS = EXTRA + 3
ROW = {"x": np.ones((1, 2), np.float32)}


class Room:
    """Loaded models, and what they say is loaded."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.told: list[list[Held]] = []
        self.models = LoadedModels(self.told.append)

    def row(self, version: int, active: bool = False, name: str = "add", **more: Any) -> dict[str, object]:
        file = f"{version}.onnx"
        if not (self.folder / file).exists():
            adder(self.folder / file, version)
        return {"name": name, "version": str(version), "file": file, "active": active, "max_batch": 4, **more}

    async def give(self, *rows: dict[str, object]) -> None:
        await self.models.give(Given(list(rows), str(self.folder), ""))

    @property
    def loaded(self) -> list[str]:
        return [f"{held.name}@{held.version}" for held in self.told[-1]] if self.told else []


@pytest_asyncio.fixture
async def room(tmp_path: Path) -> AsyncIterator[Room]:
    made = Room(tmp_path)
    yield made
    await made.models.close()


async def added(entry: Entry) -> float:
    """What a version adds."""
    with entry.use() as model:
        return float((await model.infer(ROW))["y"][0, 0]) - 1


async def test_the_active_version_or_the_last_row_or_the_one_that_is_named(room: Room) -> None:
    await room.give(room.row(1, active=True), room.row(2), room.row(3, name="other"), room.row(4, name="other"))
    assert room.loaded == ["add@1", "other@4"]
    assert await added(await room.models.entry("add", None)) == 1
    assert await added(await room.models.entry("other", None)) == 4
    assert room.models.ready("add", "2") is None
    assert await added(await room.models.entry("add", "2")) == 2
    for name, version, told in (("none", None, "no model 'none'"), ("add", "9", "no version '9'.*versions: 1, 2")):
        with pytest.raises(NotFoundError, match=told):
            await room.models.entry(name, version)


async def test_versions_beside_the_active_one_are_bounded(room: Room) -> None:
    """One for each path that somebody thinks of would fill the memory: the oldest go, the active one never does."""
    await room.give(*(room.row(version, active=version == 1) for version in range(1, VERSIONS + 1)))
    for version in range(2, VERSIONS + 1):
        assert await added(await room.models.entry("add", str(version))) == version
    kept = [f"add@{version}" for version in range(VERSIONS - EXTRA + 1, VERSIONS + 1)]
    assert room.loaded == ["add@1", *kept]
    assert await added(await room.models.entry("add", "2")) == 2
    assert room.loaded == ["add@1", *kept[1:], "add@2"]


async def test_whoever_asks_at_once_for_one_that_is_not_loaded_gets_the_same(room: Room) -> None:
    await room.give(room.row(1, active=True), room.row(2))
    loads = len(room.told)
    found = await asyncio.gather(*(room.models.entry("add", "2") for _ in range(8)))
    assert len({id(entry) for entry in found}) == 1
    assert len(room.told) == loads + 1


async def test_a_version_in_use_is_freed_when_it_is_let_go(room: Room) -> None:
    await room.give(room.row(1, active=True), room.row(2))
    entry = await room.models.entry("add", None)
    entry.hold()
    await room.give(room.row(1), room.row(2, active=True))
    assert room.loaded == ["add@2"]
    await asyncio.sleep(0.02)
    assert (await entry.model.infer(ROW))["y"].tolist() == [[2, 2]], "what began on it ends on it"
    entry.release()
    await asyncio.gather(*room.models._leaving)
    with pytest.raises(UnavailableError, match="unloaded"):
        await entry.model.infer(ROW)


async def test_swaps_while_everybody_asks(room: Room) -> None:
    """Twenty askers, forty switches among three versions: each answer is that of the version which was asked."""
    rows = [[room.row(version, active=version == at) for version in (1, 2, 3)] for at in (1, 2, 3)]
    await room.give(*rows[0])
    ended = asyncio.Event()
    seen: set[str] = set()

    async def ask() -> None:
        while not ended.is_set():
            entry = await room.models.entry("add", None)
            seen.add(entry.config.version)
            assert await added(entry) == int(entry.config.version)
            await asyncio.sleep(0)

    asking = [asyncio.create_task(ask()) for _ in range(20)]
    for swap in range(40):
        await room.give(*rows[swap % 3])
    ended.set()
    await asyncio.gather(*asking)
    assert seen == {"1", "2", "3"}
    await asyncio.gather(*room.models._leaving)
    assert len(room.loaded) == 1


async def test_unloaded_is_not_ready_until_it_is_loaded(room: Room) -> None:
    await room.give(room.row(1, active=True), room.row(2))
    await room.models.entry("add", "2")
    await room.models.unload("add")
    assert room.loaded == []
    for version in (None, "1", "2"):
        with pytest.raises(UnavailableError, match="not ready: it is not loaded; load it"):
            await room.models.entry("add", version)
    await room.give(room.row(1), room.row(2, active=True))
    assert room.loaded == [], "a switch does not load what was unloaded by hand"
    await room.models.load("add")
    assert await added(await room.models.entry("add", None)) == 2
    for what in (room.models.load, room.models.unload):
        with pytest.raises(NotFoundError):
            await what("none")


async def test_one_that_does_not_load_is_told_and_made_good(room: Room) -> None:
    (room.folder / "5.onnx").write_bytes(b"no model")
    await room.give(room.row(1, active=True), room.row(5))
    for _ in range(2):
        with pytest.raises((UnavailableError, Exception), match="no ONNX file"):
            await room.models.entry("add", "5")
    assert "no ONNX file" in room.models.failures["add", "5"]
    await room.give(room.row(1), room.row(5, active=True))
    assert await added(await room.models.entry("add", None)) == 1, "the one before stays in its place"
    adder(room.folder / "5.onnx", 5)
    await room.give(room.row(1), room.row(5, active=True))
    assert await added(await room.models.entry("add", None)) == 5
    assert room.models.failures == {}


async def test_what_is_not_given_any_more_goes(room: Room) -> None:
    await room.give(room.row(1, active=True), room.row(2, name="other"))
    await room.give(room.row(2, name="other"))
    assert room.loaded == ["other@2"]
    with pytest.raises(NotFoundError):
        await room.models.entry("add", None)
    await room.give()
    assert room.loaded == []


async def test_other_settings_of_a_version_load_it_again(room: Room) -> None:
    await room.give(room.row(1, active=True))
    before = await room.models.entry("add", None)
    await room.give(room.row(1, active=True))
    assert await room.models.entry("add", None) is before
    await room.give(room.row(1, active=True, max_batch=2))
    after = await room.models.entry("add", None)
    assert after is not before
    assert after.model.batching.max_batch == 2
