"""`/api/v1/messages`: pages of the log, and what is refused."""

from pathlib import Path

import pytest

from skerry.core.errors import RejectedError
from tests.api.test_api import asking

pytestmark = pytest.mark.asyncio
MESSAGES = "/api/v1/messages"


async def test_messages_of_a_topic_in_pages(tmp_path: Path) -> None:
    async with asking(tmp_path) as (view, client):
        nothing = {"messages": [], "next": None, "through": None, "oldest": None, "trimmed": False}
        assert await client.get(MESSAGES) == nothing
        view.messages_log = [
            {"sequence": 7 + at, "at": 100.0 + at, "topic": f"devices/{'ab'[at % 2]}/x", "payload": str(at)} for at in range(6)
        ]
        first = await client.get(MESSAGES, {"topic": "devices/a/x", "limit": 2})
        assert [row["payload"] for row in first["messages"]] == ["0", "2"]
        assert (first["next"], first["through"], first["oldest"], first["trimmed"]) == ("9", 102.0, 100.0, True)
        rest = await client.get(MESSAGES, {"topic": "devices/a/x", "after": first["next"]})
        assert [row["payload"] for row in rest["messages"]] == ["4"]
        late = await client.get(MESSAGES, {"since": "1970-01-01T00:01:44Z"})
        assert [row["payload"] for row in late["messages"]] == ["4", "5"]


@pytest.mark.parametrize("query", [{"topic": "a/#/b"}, {"topic": "$SYS/#"}, {"since": "never"}, {"limit": 0}, {"pipeline": "p"}])
async def test_what_is_refused(tmp_path: Path, query: dict[str, object]) -> None:
    async with asking(tmp_path) as (_, client):
        with pytest.raises(RejectedError):
            await client.get(MESSAGES, query)
