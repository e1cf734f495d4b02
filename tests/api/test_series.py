"""`/api/v1/series`: names in pages, samples in pages, what is asked of the history, and what is refused."""

from pathlib import Path
from typing import Any
from urllib.parse import quote

import pytest

from skerry.core.clock import SystemClock
from skerry.core.errors import RejectedError
from skerry.http import NotFoundError
from tests.api.test_api import asking

pytestmark = pytest.mark.asyncio
SERIES = "/api/v1/series"
NAME = "pump-1/vibration/x"
ONE = f"{SERIES}/{quote(NAME, safe='')}"
AT = 1_795_545_600_000_000
WIDE = {"from": "2026-01-01T00:00:00Z", "to": "2027-01-01T00:00:00Z"}


async def test_names_in_pages(tmp_path: Path) -> None:
    async with asking(tmp_path) as (view, client):
        assert await client.get(SERIES) == {"series": [], "next": None}
        view.history = {name: [] for name in ("a/x", "b/x", "b/y", "c/x")}
        first = await client.get(SERIES, {"limit": 3})
        assert first == {"series": [{"name": "a/x"}, {"name": "b/x"}, {"name": "b/y"}], "next": "b/y"}
        assert await client.get(SERIES, {"limit": 3, "after": first["next"]}) == {"series": [{"name": "c/x"}], "next": None}
        assert await client.get(SERIES, {"prefix": "b/"}) == {"series": [{"name": "b/x"}, {"name": "b/y"}], "next": None}


async def test_samples_in_pages_to_the_microsecond(tmp_path: Path) -> None:
    async with asking(tmp_path) as (view, client):
        view.history = {NAME: [(AT + at, float(at)) for at in range(5)]}
        first = await client.get(ONE, {**WIDE, "limit": 3})
        assert first == {
            "name": NAME, "every": None, "agg": None, "times": [AT, AT + 1, AT + 2], "values": [0.0, 1.0, 2.0], "next": AT + 3,
        }  # fmt: skip
        following = f"{first['next'] // 10**6}.{first['next'] % 10**6:06d}"
        assert (await client.get(ONE, {**WIDE, "from": following}))["values"] == [3.0, 4.0]


async def test_the_last_hour_by_default(tmp_path: Path) -> None:
    now = SystemClock().now()
    async with asking(tmp_path) as (view, client):
        view.history = {NAME: [(now - 3_700_000_000, 1.0), (now - 3_500_000_000, 2.0), (now, 3.0), (now + 60_000_000, 4.0)]}
        assert (await client.get(ONE))["values"] == [2.0, 3.0]


async def test_what_is_made_of_samples_is_passed_on(tmp_path: Path) -> None:
    async with asking(tmp_path) as (view, client):
        view.history = {NAME: [(AT, 1.0)]}
        found = await client.get(ONE, {**WIDE, "every": "90s", "agg": "p99"})
        assert (found["every"], found["agg"], view.asked) == ("90s", "p99", (90_000_000, "p99"))
        await client.get(ONE, {"every": "1m"})
        assert view.asked == (60_000_000, "mean")


async def test_an_unknown_series_is_said(tmp_path: Path) -> None:
    async with asking(tmp_path) as (_, client):
        with pytest.raises(NotFoundError, match="there is no series 'pump-1/vibration/x'"):
            await client.get(ONE)


@pytest.mark.parametrize(
    ("query", "words"),
    [
        ({"every": "often"}, "every"),
        ({"every": "0s"}, "above 0"),
        ({"from": "yesterday"}, "is not a time"),
        ({"from": "2027-01-01T00:00:00Z", "to": "2026-01-01T00:00:00Z"}, "ends before it begins"),
        ({"limit": 20_001}, "1 to 20000"),
        ({"evry": "1m"}, "did you mean 'every'"),
    ],
)
async def test_what_will_not_do_is_refused(tmp_path: Path, query: dict[str, Any], words: str) -> None:
    async with asking(tmp_path) as (view, client):
        view.history = {NAME: [(AT, 1.0)]}
        with pytest.raises(RejectedError, match=words):
            await client.get(ONE, query)
