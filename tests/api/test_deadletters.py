"""Dead letters over HTTP: which are meant, what is refused, and what of it is in the audit log."""

import asyncio
from pathlib import Path
from typing import Any

import pytest

from skerry.api import Api, ApiConfig
from skerry.core.errors import RejectedError
from skerry.core.service import cancel_and_wait
from skerry.http import AsyncClient, NotFoundError
from tests.api.fake_view import FakeView
from tests.api.noted import Noted
from tests.api.test_api import V1, asking

pytestmark = pytest.mark.asyncio
PATH = f"{V1}/pipelines/bearing/deadletters"
KINDS = ("late", "nan", "late", "undecodable", "late")


def rows() -> list[dict[str, Any]]:
    return [{"sequence": at, "reason": each, "key": f"p{at % 2}"} for at, each in enumerate(KINDS)]


async def left(client: AsyncClient, **only: str) -> list[int]:
    return [row["sequence"] for row in (await client.get(PATH, only))["dead_letters"]]


@pytest.mark.parametrize(
    ("only", "found"),
    [
        ({}, [0, 1, 2, 3, 4]),
        ({"id": "1"}, [1]),
        ({"id": "77"}, []),
        ({"reason": "late"}, [0, 2, 4]),
        ({"reason": "late", "key": "p1"}, []),
        ({"key": "p1"}, [1, 3]),
        ({"id": "1", "reason": "late"}, []),
    ],
)
async def test_which_are_shown(tmp_path: Path, only: dict[str, str], found: list[int]) -> None:
    async with asking(tmp_path) as (view, client):
        view.letters["bearing"] = rows()
        assert await left(client, **only) == found


async def test_a_page_has_as_many_as_were_asked_for_of_those_that_fit(tmp_path: Path) -> None:
    async with asking(tmp_path) as (view, client):
        view.letters["bearing"] = rows()
        first = await client.get(PATH, {"reason": "late", "limit": 2})
        rest = await client.get(PATH, {"reason": "late", "limit": 2, "after": first["next"]})
        assert [row["sequence"] for row in first["dead_letters"] + rest["dead_letters"]] == [0, 2, 4]
        assert rest["next"] is None


async def test_single_ones_and_those_of_a_kind(tmp_path: Path) -> None:
    async with asking(tmp_path) as (view, client):
        view.letters["bearing"] = rows()
        view.letters["level"] = rows()
        assert await client.post(f"{PATH}/retry", {"ids": ["1", "77"]}) == {"retried": 1}
        assert await client.post(f"{PATH}/drop", {"reason": "late", "key": "p0", "why": "of last week"}) == {"dropped": 3}
        assert await left(client) == [3]
        assert len(view.letters["level"]) == len(KINDS)
        assert await client.post(f"{PATH}/drop", {}) == {"dropped": 1}
        assert await left(client) == []


@pytest.mark.parametrize(
    ("verb", "body", "said"),
    [
        ("retry", {"why": "x"}, "why"),
        ("drop", {"id": "3"}, "id"),
        ("drop", {"ids": "3"}, "array"),
        ("drop", {"why": "x" * 201}, "201 characters"),
        ("drop", {"ids": ["1"] * 1001}, "1001"),
        ("retry", {"ids": ["1"] * 1001}, "1001"),
        ("drop", ["3"], "object"),
    ],
)
async def test_what_is_no_choice_changes_nothing(tmp_path: Path, verb: str, body: Any, said: str) -> None:
    async with asking(tmp_path) as (view, client):
        view.letters["bearing"] = rows()
        with pytest.raises(RejectedError) as refused:
            await client.post(f"{PATH}/{verb}", body)
        assert said in str(refused.value)
        with pytest.raises(NotFoundError):
            await client.post(f"{V1}/pipelines/none/deadletters/{verb}", {})
        assert await left(client) == [0, 1, 2, 3, 4]


async def test_who_dropped_which_and_why_is_noted(tmp_path: Path) -> None:
    view, noted = FakeView(), Noted()
    view.letters["bearing"] = [{"sequence": at, "reason": "late"} for at in range(20)]
    api = Api(view, ApiConfig(listen="127.0.0.1:0"), tmp_path / "s.sock", "0.1.0", audit=noted)
    task = asyncio.create_task(api.run())
    try:
        await asyncio.wait_for(api.listening.wait(), 30)
        async with AsyncClient(f"http://{api.address}") as client:
            await client.post(f"{PATH}/retry", {"ids": ["1"]})
            await client.post(f"{PATH}/drop", {"ids": [str(at) for at in range(2, 12)], "why": "a clock was wrong"})
            await client.post(f"{PATH}/drop", {"reason": "late", "key": "nobody"})
            await client.post(f"{PATH}/retry")
            with pytest.raises(RejectedError):
                await client.post(f"{PATH}/drop", {"id": "3"})
    finally:
        await cancel_and_wait(task)
    told = [{name: value for name, value in line.items() if name not in ("by", "address")} for line in noted.lines]
    assert told == [
        {"event": "dead letters retried", "name": "bearing", "messages": 1, "ids": "1"},
        {
            "event": "dead letters dropped", "name": "bearing", "messages": 10, "reason": "a clock was wrong",
            "ids": "2, 3, 4, 5, 6, 7, 8, 9 and 2 more",
        },
        {"event": "dead letters dropped", "name": "bearing", "of_reason": "late", "key": "nobody"},
        {"event": "dead letters retried", "name": "bearing", "messages": 9},
    ]  # fmt: skip
    assert {line["by"] for line in noted.lines} == {"loopback"}
