"""`/api/v1/alarms`: what is noted, what will not do."""

from pathlib import Path

import pytest

from skerry.core.errors import RejectedError
from skerry.http import NotFoundError
from tests.api.test_api import asking

pytestmark = pytest.mark.asyncio
ONE = "/api/v1/alarms/a1"


async def test_what_somebody_does_is_noted_with_who(tmp_path: Path) -> None:
    async with asking(tmp_path) as (view, client):
        assert (await client.get("/api/v1/alarms"))["alarms"] == [{"alarm_id": "a1"}]
        assert await client.post(f"{ONE}/acknowledge", {"comment": "on my way"}) == {"alarm_id": "a1"}
        await client.post(f"{ONE}/shelve", {"duration": "2h"})
        await client.post(f"{ONE}/unshelve")
        await client.post(f"{ONE}/comment", {"comment": "a bearing"})
        assert [(what, comment, duration) for what, _, comment, duration in view.alarms.noted] == [
            ("acknowledge", "on my way", 0), ("shelve", "", 7_200_000_000), ("unshelve", "", 0), ("comment", "a bearing", 0),
        ]  # fmt: skip
        assert all(by for _, by, _, _ in view.alarms.noted)


@pytest.mark.parametrize(
    ("what", "body", "why"),
    [
        ("shelve", {"duration": "0s"}, "up to 30d"), ("shelve", {"duration": "31d"}, "up to 30d"),
        ("shelve", {"duration": "x"}, "duration"), ("shelve", {}, "duration"),
        ("comment", {"comment": "  "}, "empty"), ("comment", {"comment": "x" * 2001}, "2001 characters"),
    ],
)  # fmt: skip
async def test_what_will_not_do_is_refused_and_nothing_is_noted(tmp_path: Path, what: str, body: dict[str, str], why: str) -> None:
    async with asking(tmp_path) as (view, client):
        with pytest.raises(RejectedError, match=why):
            await client.post(f"{ONE}/{what}", body)
        assert view.alarms.noted == []


async def test_an_alarm_that_is_none_is_said_so(tmp_path: Path) -> None:
    async with asking(tmp_path) as (_, client):
        with pytest.raises(NotFoundError, match="no alarm 'a2'"):
            await client.post("/api/v1/alarms/a2/acknowledge", {})
