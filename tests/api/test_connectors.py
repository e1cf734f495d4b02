"""`/api/v1/connectors` over HTTP."""

from collections.abc import Iterator
from pathlib import Path

import pytest

from skerry.api.endpoints import API
from skerry.http import Client, NotFoundError, TooManyRequestsError
from tests.api.fake_view import Serving


@pytest.fixture
def node(tmp_path: Path) -> Iterator[Serving]:
    with Serving(tmp_path / "skerry.sock").running() as serving:
        yield serving


def test_all_connectors_are_listed(node: Serving) -> None:
    with Client(node.url) as client:
        rows = client.get(f"{API}/connectors")["connectors"]
    assert [(row["name"], row["kind"], row["moved"]) for row in rows] == [("hall", "mqtt", 3), ("push", "http", 3)]


def test_items_are_taken_or_the_answer_says_why_not(node: Serving) -> None:
    with Client(node.url) as client:
        assert client.upload(f"{API}/ingest/push", b"[1]", "application/x-ndjson") == {"stored": 1}
        assert node.view.connectors.came == [(b"[1]", "application/x-ndjson", "loopback")]
        with pytest.raises(NotFoundError):
            client.upload(f"{API}/ingest/hall", b"[1]", "application/json")
        node.view.connectors.full = True
        with pytest.raises(TooManyRequestsError, match="full"):
            client.upload(f"{API}/ingest/push", b"[1]", "application/json")
