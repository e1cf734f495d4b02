"""What every implementation of `skerry.cluster.Leases` does.

Use: subclass `LeasesContract` as `Test…` with a fixture `leases` that yields an empty one.
"""

import asyncio

import pytest

from skerry.cluster import Leases
from skerry.core.errors import FencedError


@pytest.mark.asyncio
class LeasesContract:
    """The contract."""

    async def test_what_was_written_is_read(self, leases: Leases) -> None:
        assert await leases.read(0) == {}
        first = await leases.write("member.a", b"1", 0)
        second = await leases.write("leader", b"2", 0)
        assert second > first > 0
        found = await leases.read(0)
        assert {key: (entry.value, entry.revision) for key, entry in found.items()} == {
            "member.a": (b"1", first), "leader": (b"2", second),
        }  # fmt: skip

    async def test_only_what_is_newer_is_read(self, leases: Leases) -> None:
        first = await leases.write("a", b"1", 0)
        await leases.write("b", b"1", 0)
        assert list(await leases.read(first)) == ["b"]
        last = await leases.write("a", b"2", first)
        assert (await leases.read(first + 1))["a"].value == b"2"
        assert await leases.read(last) == {}

    async def test_a_write_over_another_revision_is_refused(self, leases: Leases) -> None:
        first = await leases.write("a", b"1", 0)
        with pytest.raises(FencedError):
            await leases.write("a", b"2", 0)
        await leases.write("a", b"2", first)
        with pytest.raises(FencedError):
            await leases.write("a", b"3", first)
        with pytest.raises(FencedError):
            await leases.write("new", b"3", first)
        assert (await leases.read(0))["a"].value == b"2"

    async def test_of_many_writers_one_wins(self, leases: Leases) -> None:
        revision, won = 0, 0
        for turn in range(5):
            tries = [leases.write("leader", b"%d" % each, revision) for each in range(8)]
            done = await asyncio.gather(*tries, return_exceptions=True)
            good = [each for each in done if isinstance(each, int)]
            assert all(isinstance(each, int | FencedError) for each in done)
            assert len(good) == 1, turn
            revision, won = good[0], won + 1
        assert won == 5

    async def test_more_keys_than_one_page(self, leases: Leases) -> None:
        for at in range(450):
            await leases.write(f"member.n{at}", b"x" * 200, 0)
        assert len(await leases.read(0)) == 450
