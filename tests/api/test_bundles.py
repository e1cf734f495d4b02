"""`/api/v1/bundles` over HTTP: bytes and files are taken in, bodies are checked, and what is wrong is said."""

from collections.abc import Iterator
from pathlib import Path

import pytest

from skerry.api.bundles import MOST_BODY
from skerry.api.endpoints import API
from skerry.core.errors import RejectedError
from skerry.http import Client
from tests.api.fake_view import Serving

AT = f"{API}/bundles"
OCTETS = "application/octet-stream"


@pytest.fixture
def node(tmp_path: Path) -> Iterator[Serving]:
    with Serving(tmp_path / "skerry.sock").running() as serving:
        yield serving


def test_bytes_or_a_file_of_the_nodes_computer_are_taken_in(node: Serving) -> None:
    with Client(node.url) as client:
        large = b"good" + bytes(2 << 20)  # over the usual bound of a body
        assert client.upload(AT, large, OCTETS)["state"] == "stored"
        assert client.post(AT, {"file": "/srv/plant.bundle"})["state"] == "stored"
        assert node.view.bundles.came == [(large, ""), (b"", "/srv/plant.bundle")]
        with pytest.raises(RejectedError, match="it is not signed; sign it"):
            client.upload(AT, b"bad", OCTETS)
        with pytest.raises(RejectedError, match="the body will not do"):
            client.post(AT, {"path": "/srv/plant.bundle"})
    assert MOST_BODY < 128 << 20  # what the server holds of all bodies together


def test_it_is_applied_watched_and_rolled_back(node: Serving) -> None:
    with Client(node.url) as client:
        assert client.get(AT) == {"bundles": [], "active": None, "trial": None, "history": []}
        assert client.post(f"{AT}/plant/apply", {"probation": "5m", "dead_letters": 3})["phase"] == "checking"
        assert node.view.bundles.begun == [("plant", "5m", 3)]
        assert client.get(AT)["trial"]["phase"] == "on probation"
        assert client.get(AT)["history"][-1]["what"] == "kept"
        with pytest.raises(RejectedError, match="is active already"):
            client.post(f"{AT}/plant/apply")
        assert client.post(f"{AT}/rollback") == {"active": ""}
        with pytest.raises(RejectedError, match="no bundle is active here"):
            client.post(f"{AT}/rollback")


@pytest.mark.parametrize("body", [{"dead_letters": -1}, {"dead_letters": "many"}, {"for": "5m"}, []])
def test_a_wrong_body_is_refused(node: Serving, body: object) -> None:
    with Client(node.url) as client:
        with pytest.raises(RejectedError):
            client.post(f"{AT}/plant/apply", body)
        with pytest.raises(RejectedError, match="unknown parameter"):
            client.get(AT, {"limit": 3})
    assert node.view.bundles.begun == []
