"""`/api/v1/uplink` over HTTP: as the handlers are asked, and who may."""

import base64
from collections.abc import Iterator
from pathlib import Path

import pytest

from skerry.api.endpoints import API
from skerry.core.errors import RejectedError
from skerry.http import Client, NotFoundError
from tests.api.fake_view import Serving


@pytest.fixture
def node(tmp_path: Path) -> Iterator[Serving]:
    with Serving(tmp_path / "skerry.sock").running() as serving:
        yield serving


def test_the_link_is_shown_held_and_tested(node: Serving) -> None:
    with Client(node.url) as client:
        assert client.get(f"{API}/uplink")["uplink"]["paused"] is False
        assert client.post(f"{API}/uplink/pause") == {"paused": True}
        assert client.get(f"{API}/uplink")["uplink"]["paused"] is True
        assert client.post(f"{API}/uplink/test")["ok"] is False
        assert client.post(f"{API}/uplink/resume") == {"paused": False}
        assert client.post(f"{API}/uplink/test") == {"ok": True, "round_trip_ms": 1.5, "sentence": "acknowledged in 1.5 ms"}


def test_envelopes_come_as_bytes_and_with_who_sends_them(node: Serving) -> None:
    envelope = b"SKUP" + bytes(range(256)) * 4000
    with Client(node.url) as client:
        assert client.upload(f"{API}/uplink/receive", envelope, "application/octet-stream") == {
            "digest": "0a", "again": False, "commands": [],
        }  # fmt: skip
        assert node.view.uplink.taken == [(envelope, "loopback")]
        with pytest.raises(RejectedError, match="no envelope"):
            client.upload(f"{API}/uplink/receive", b"<html>", "text/html")


def test_commands_come_in_base64(node: Serving) -> None:
    with Client(node.url) as client:
        answer = client.post(f"{API}/uplink/command", {"command": base64.b64encode(b"SKCM").decode()})
        assert (answer["id"], node.view.uplink.commands) == ("c1", [b"SKCM"])
        assert client.get(f"{API}/uplink/command/c1") == {"id": "c1", "waiting": True, "outcome": None}
        with pytest.raises(NotFoundError, match="no command 'c2' waits"):
            client.get(f"{API}/uplink/command/c2")
        for wrong in ({"command": "***"}, {"command": 5}, {}, {"other": ""}):
            with pytest.raises(RejectedError):
                client.post(f"{API}/uplink/command", wrong)
