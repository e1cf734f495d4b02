"""Where a client goes."""

from pathlib import Path

import pytest

from skerry.core.errors import ConfigError
from skerry.http import Target, UnreachableError, parse_target
from skerry.http.target import with_query


@pytest.mark.parametrize(
    ("where", "target", "shown"),
    [
        ("http://127.0.0.1:8080", Target("127.0.0.1", 8080), "http://127.0.0.1:8080"),
        ("http://box/", Target("box", 80), "http://box:80"),
        ("http://[::1]:81", Target("::1", 81), "http://[::1]:81"),
        (Path("data/skerry.sock"), Target("localhost", socket="data/skerry.sock"), "data/skerry.sock"),
    ],
)
def test_targets(where: Path | str, target: Target, shown: str) -> None:
    assert parse_target(where) == target
    assert str(target) == shown


@pytest.mark.parametrize(
    "where",
    [
        "box:8080",
        "ftp://box",
        "https://box",
        "http://",
        "http://box/x",
        "http://u@box",
        "http://box:x",
        "http://[1",
        "http://b?x=1",
    ],
)
def test_what_is_no_address(where: str) -> None:
    with pytest.raises(ConfigError, match="http://host:port"):
        parse_target(where)


def test_query() -> None:
    assert with_query("/a", None) == "/a"
    assert with_query("/a", {"b": None, "c": ""}) == "/a"
    assert with_query("/a", {"b": 0, "c": "x y&z"}) == "/a?b=0&c=x+y%26z"


@pytest.mark.parametrize(
    ("why", "said"),
    [
        (TimeoutError(), "it does not answer in time"),
        (FileNotFoundError(2, "No such file"), "its socket is not there"),
        (ConnectionRefusedError(111, "Connection refused"), "connection refused"),
        (ValueError(), "ValueError"),
        ("so it is", "so it is"),
    ],
)
def test_unreachable_in_words(why: Exception | str, said: str) -> None:
    error = Target("h", 1).unreachable(why)
    assert isinstance(error, UnreachableError)
    assert str(error) == f"http://h:1: the node is not reachable: {said}; start it with `skerry run`"


def test_decoding() -> None:
    assert Target("h").decode(b"") is None
    assert Target("h").decode(b"[1]") == [1]
    with pytest.raises(UnreachableError, match="not a node"):
        Target("h").decode(b"<html>")
