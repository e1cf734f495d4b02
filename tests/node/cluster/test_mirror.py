"""What nodes have alike: mirrors over one real nats-server, files of models there, and digests that are compared."""

import os
from collections.abc import AsyncIterator
from pathlib import Path

import pytest
import pytest_asyncio

from skerry.broker import WireClient
from skerry.config import load
from skerry.core.clock import SystemClock
from skerry.core.errors import CorruptError, RejectedError, UnavailableError
from skerry.inference import Catalogue, Version, adopt_index, coming_folder, export_index, missing_files, take_model_file
from skerry.node.cluster import model_files
from skerry.node.cluster.mirror import AGAIN, Mirror
from skerry.node.cluster.parts import UplinkPause
from skerry.node.cluster.rollcall import Said, differences
from skerry.node.uplink import NodeUplink
from tests.fixtures.nats import NatsServer


class Value:
    """A part that is one value, and counts how often it was taken."""

    key = "value"

    def __init__(self, data: bytes | None = None) -> None:
        self.data = data
        self.taken = self.gave = 0
        self.trouble = ""

    async def read(self) -> bytes | None:
        return self.data

    async def give(self, data: bytes) -> None:
        self.gave += 1

    async def given(self, data: bytes) -> None:
        """Nothing is left over."""

    async def take(self, data: bytes) -> None:
        if self.trouble:
            raise UnavailableError(self.trouble)
        self.data = data
        self.taken += 1


class Pair:
    """Two nodes; `compare` is one look of each, in turn."""

    def __init__(self, client: WireClient, folder: Path) -> None:
        self.client = client
        self.folder = folder
        self.values = [Value(b"first"), Value()]
        self.mirrors = [self.life(at) for at in (0, 1)]

    def life(self, at: int) -> Mirror:
        return Mirror([self.values[at]], lambda: self.client, self.folder / f"{at}.json")

    async def compare(self, *order: int) -> list[bytes | None]:
        for at in order or (0, 1, 0, 1):
            await self.mirrors[at]._compare()
        return [value.data for value in self.values]


@pytest_asyncio.fixture
async def client(tmp_path: Path) -> AsyncIterator[WireClient]:
    with NatsServer(tmp_path) as server:
        found = await server.client()
        yield found
        found.close()


@pytest.fixture
def pair(client: WireClient, tmp_path: Path) -> Pair:
    return Pair(client, tmp_path)


@pytest.mark.asyncio
async def test_what_changes_at_one_is_taken_by_the_other(pair: Pair) -> None:
    assert await pair.compare() == [b"first", b"first"]
    pair.values[1].data = b"second"
    assert await pair.compare() == [b"second", b"second"]
    taken = [value.taken for value in pair.values]
    assert await pair.compare() == [b"second", b"second"]
    assert [value.taken for value in pair.values] == taken


@pytest.mark.asyncio
async def test_of_two_changes_at_once_the_first_that_is_written_stays(pair: Pair) -> None:
    await pair.compare()
    pair.values[0].data, pair.values[1].data = b"here", b"there"
    assert await pair.compare(1, 0) == [b"there", b"there"]


@pytest.mark.asyncio
async def test_who_was_away_knows_who_has_changed_it(pair: Pair) -> None:
    await pair.compare()
    pair.values[0].data = b"while it was away"
    await pair.compare(0)
    pair.mirrors[1] = pair.life(1)
    assert await pair.compare(1) == [b"while it was away"] * 2
    pair.values[1].data = b"changed while it did not run"
    pair.mirrors[1] = pair.life(1)
    assert await pair.compare(1, 0) == [b"changed while it did not run"] * 2


@pytest.mark.asyncio
async def test_who_lost_what_it_had_gets_it_again(pair: Pair) -> None:
    await pair.compare()
    pair.values[1].data = None
    assert await pair.compare(1) == [b"first", b"first"]


@pytest.mark.asyncio
async def test_what_cannot_be_taken_is_told_and_tried_again(pair: Pair) -> None:
    pair.values[1].trouble = "its file is not there yet"
    await pair.compare()
    assert "not the same on all nodes yet: its file is not there yet" in pair.mirrors[1].troubles["value"]
    pair.values[1].trouble = ""
    assert await pair.compare() == [b"first", b"first"]
    assert pair.mirrors[1].troubles == {}


@pytest.mark.asyncio
async def test_what_each_says_of_itself_is_heard_by_the_others(pair: Pair) -> None:
    pair.mirrors[0].say("node.a", b"one")
    pair.mirrors[0].say("node.a", b"two")
    await pair.compare()
    assert pair.mirrors[1].others == {"node.a": b"two"}


@pytest.mark.asyncio
@pytest.mark.parametrize("size", [0, 1, model_files.CHUNK * model_files.AT_ONCE, 5_000_001])
async def test_a_file_of_a_model_goes_from_node_to_node(client: WireClient, tmp_path: Path, size: int) -> None:
    first, second = (Catalogue(tmp_path / name) for name in "ab")
    (tmp_path / "m").write_bytes(os.urandom(size))
    digest, length = first.store(tmp_path / "m")
    added = first.add(Version("m", "", sha256=digest, size=length))
    first.activate("m", added.version)
    index = export_index(first)
    assert index is not None
    assert missing_files(second, index) == {digest: size}
    with pytest.raises(RejectedError, match="not here"):
        adopt_index(second, index)
    part = coming_folder(second) / digest
    assert await model_files.there(client) == set()
    with pytest.raises(UnavailableError, match="not whole"):
        await model_files.fetch(client, digest, part)
    await model_files.give(client, first.blobs / digest, digest)
    assert await model_files.there(client) == {digest}
    await model_files.fetch(client, digest, part)
    take_model_file(second, part, digest)
    adopt_index(second, index)
    active = second.active("m")
    assert active is not None
    assert second.path(active).read_bytes() == (tmp_path / "m").read_bytes()
    await model_files.drop(client, {digest})
    assert await model_files.there(client) == set()


@pytest.mark.asyncio
async def test_what_the_others_need_is_looked_for_now_and_then(pair: Pair) -> None:
    await pair.compare()
    given = pair.values[0].gave
    await pair.compare(*[0] * AGAIN)
    assert pair.values[0].gave == given + 1


def test_a_file_that_came_damaged_is_not_taken(tmp_path: Path) -> None:
    catalogue = Catalogue(tmp_path)
    part = coming_folder(catalogue) / ("0" * 64)
    part.write_bytes(b"other")
    with pytest.raises(CorruptError, match="came with the sha256"):
        take_model_file(catalogue, part, "0" * 64)
    assert list(catalogue.blobs.iterdir()) == []


def test_an_index_of_a_later_version_is_not_taken(tmp_path: Path) -> None:
    with pytest.raises(CorruptError, match="format 9"):
        adopt_index(Catalogue(tmp_path), b'{"format": 9}')


def test_differences_are_named() -> None:
    own = Said("a", alike={"pipeline p": "1", "pipeline q": "1", "model m@1": "1"})
    same, other = Said("b", alike=dict(own.alike)), Said("c", alike={"pipeline p": "2", "model m@1": "1", "model n@1": "1"})
    assert differences(own, {"a": own, "b": same}) == []
    assert differences(own, {"b": same, "c": other}) == [
        "c does not have pipeline q and has besides model n@1 and has another pipeline p: give all nodes the same configuration"
    ]


@pytest.mark.asyncio
async def test_the_uplink_is_paused_at_all_nodes_and_over_their_restarts(client: WireClient, tmp_path: Path) -> None:
    def uplink(name: str) -> NodeUplink:
        file = tmp_path / name / "skerry.toml"
        (tmp_path / name / "data").mkdir(parents=True, exist_ok=True)
        file.write_text(f'[node]\nname = "{name}"\n[uplink]\nkind = "file"\nurl = "out"\n')
        return NodeUplink(load(file), SystemClock())

    uplinks = {name: uplink(name) for name in ("a", "b")}
    mirrors = {name: Mirror([UplinkPause(each)], lambda: client, tmp_path / f"{name}.json") for name, each in uplinks.items()}

    async def compare(*names: str) -> list[bool]:
        for name in names:
            await mirrors[name]._compare()
        return [each.paused for each in uplinks.values()]

    assert await compare("a", "b") == [False, False]
    await uplinks["b"].pause_for_good(True)
    assert await compare("a", "b", "a") == [True, True]
    assert uplink("a").paused
    await uplinks["a"].pause_for_good(False)
    assert await compare("a", "b") == [False, False]
    assert not uplink("b").paused
