"""Join tokens as the records have them: made by a member, used once."""

import asyncio

import pytest

from skerry.cluster import MemoryLeases
from skerry.cluster.join_tokens import JoinTokens
from skerry.core.errors import FencedError, RejectedError


@pytest.mark.asyncio
async def test_a_token_that_was_written_down_is_good_once() -> None:
    leases = MemoryLeases()
    one, other = JoinTokens(leases), JoinTokens(leases)
    await one.issue("a")
    await other.spend("a")
    for member in (one, other):
        with pytest.raises(RejectedError, match="used before"):
            await member.spend("a")


@pytest.mark.asyncio
async def test_one_that_nobody_wrote_down_is_none() -> None:
    tokens = JoinTokens(MemoryLeases())
    await tokens.issue("a")
    with pytest.raises(RejectedError, match="no member of this cluster made the token"):
        await tokens.spend("b")
    with pytest.raises(FencedError):
        await tokens.issue("a")


@pytest.mark.asyncio
async def test_of_many_at_once_one_gets_it() -> None:
    leases = MemoryLeases()
    await JoinTokens(leases).issue("a")
    done = await asyncio.gather(*(JoinTokens(leases).spend("a") for _ in range(10)), return_exceptions=True)
    assert [each for each in done if each is None] == [None]
    assert sum(isinstance(each, RejectedError) for each in done) == 9
