"""The contract for a connector of someone else: the one of the documents, and one that breaks it."""

import asyncio
from contextlib import aclosing
from pathlib import Path

import pytest

from skerry.connector import Batch, Message, Place, Sink, Source
from tests.connector.contract import check_source, closed, take
from tests.connector.rig import PLUGIN, installed
from tests.docs.blocks import ROOT, blocks

pytestmark = pytest.mark.asyncio


async def test_a_plug_in_follows_it(tmp_path: Path) -> None:
    async def say(number: int) -> None:
        """It counts by itself."""

    with installed(tmp_path, {"numbers": "plugin:Numbers"}):
        found = await check_source({"name": "n", "kind": "numbers"}, tmp_path, say)
    # not stored, so again; stored, so the next; the second batch of a run is read before the first is settled
    assert [each.payload for each in found] == [b"1", b"1", b"2"]


async def test_the_one_of_the_documents_is_short() -> None:
    block = next(each for each in blocks("python", [ROOT / "docs" / "connectors.md"]) if "class Counter" in each.text)
    body = block.text.partition("class Settings")[2].partition("async def first_two")[0]
    assert len([line for line in body.splitlines() if line.strip()]) <= 30


async def test_what_a_class_is_tells_its_direction(tmp_path: Path) -> None:
    class Sent:
        Settings = object

        async def send(self, batch: object) -> None: ...

        async def test(self) -> str:
            return "there"

    assert isinstance(Sent(), Sink)
    assert not isinstance(Sent(), Source)
    await closed(Sent())


async def test_the_check_fails_for_a_source_that_ends(tmp_path: Path) -> None:
    class Short:
        async def read(self, cursor: bytes) -> object:
            yield Batch([Message("devices/d/x", b"1")])

    with pytest.raises(AssertionError, match="came to its end"):
        await take(Short(), b"", 2, settled=False)  # type: ignore[arg-type]  # it is not one: that is what is tested


async def test_a_source_is_resumed_only_when_its_batch_is_settled(tmp_path: Path) -> None:
    steps: list[str] = []

    class Steps:
        async def read(self, cursor: bytes) -> object:
            try:
                yield Batch([Message("devices/d/x", b"1")])
                steps.append("acknowledged")
                await asyncio.Event().wait()
            finally:
                steps.append("closed")

    source = Steps()
    async with aclosing(source.read(b"")) as batches:  # type: ignore[type-var]  # a generator
        await anext(batches)  # type: ignore[call-overload]  # a generator
        assert steps == []
    assert steps == ["closed"]
    assert (await take(source, b"", 1, settled=True))[0][0].payload == b"1"  # type: ignore[arg-type]  # as above
    assert steps == ["closed", "acknowledged", "closed"]
    assert Place("n").twins == ()
    assert "async def read" in PLUGIN
