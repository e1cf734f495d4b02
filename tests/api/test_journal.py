"""`/api/v1/log` and `/api/v1/audit`: filters, and what is refused."""

from pathlib import Path

import pytest

from skerry.core.errors import RejectedError
from tests.api.test_api import asking

pytestmark = pytest.mark.asyncio
LOG, AUDIT = "/api/v1/log", "/api/v1/audit"


async def test_the_newest_lines_that_fit(tmp_path: Path) -> None:
    async with asking(tmp_path) as (view, client):
        assert await client.get(LOG) == {"entries": [], "whole": True}
        view.journal.lines = [
            {"timestamp": f"2026-01-01T00:00:0{at}.000000Z", "level": level, "part": "broker", "event": f"e{at} of pump-{at}"}
            for at, level in enumerate(["info", "warning", "error"])
        ]
        view.journal.noted = [{"timestamp": "2026-01-01T00:00:00Z", "event": "device added", "id": "pump-1", "by": "token:me"}]
        for query, count in (
            ({"level": "warning"}, 2), ({"part": "broker", "last": 1}, 1), ({"name": "pump-2"}, 1), ({"text": "PUMP"}, 3),
            ({"since": "2026-01-01T00:00:01Z"}, 2), ({"part": "node"}, 0),
        ):  # fmt: skip
            assert len((await client.get(LOG, query))["entries"]) == count, query
        assert (await client.get(AUDIT, {"name": "pump-1"}))["entries"] == view.journal.noted
        assert (await client.get(AUDIT, {"name": "pump-2"}))["entries"] == []


@pytest.mark.parametrize(
    ("path", "query"),
    [
        (LOG, {"level": "warnin"}), (LOG, {"last": 0}), (LOG, {"last": 1001}), (LOG, {"since": "never"}),
        (LOG, {"text": "a" * 201}), (LOG, {"file": "/etc/passwd"}), (AUDIT, {"level": "info"}), (AUDIT, {"part": "node"}),
    ],
)  # fmt: skip
async def test_what_is_refused(tmp_path: Path, path: str, query: dict[str, object]) -> None:
    async with asking(tmp_path) as (_, client):
        with pytest.raises(RejectedError):
            await client.get(path, query)
