"""Query parameters and bodies."""

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from skerry.api.arguments import body, duration_of, limit_of, moment_of, query, whole
from skerry.core.errors import RejectedError
from skerry.http import Request


class Body(msgspec.Struct, forbid_unknown_fields=True):
    id: str
    topics: list[str] = []


def test_known_names_only() -> None:
    assert query(Request("GET", "/x", query={"limit": "1"}), ("limit",)) == {"limit": "1"}
    with pytest.raises(RejectedError, match=r"unknown parameter 'limt', did you mean 'limit'\?; allowed: limit, after"):
        query(Request("GET", "/x", query={"limt": "1"}), ("limit", "after"))
    with pytest.raises(RejectedError, match="this takes none"):
        query(Request("GET", "/x", query={"limt": "1"}), ())


def test_limits() -> None:
    assert [limit_of({}), limit_of({"limit": ""}), limit_of({"limit": "1"}), limit_of({"limit": "1000"})] == [100, 100, 1, 1000]


@pytest.mark.parametrize("text", ["0", "1001", "-1", "1.5", "x", "１", "1e3", " 1", "9" * 5000])
def test_what_is_no_limit(text: str) -> None:
    with pytest.raises(RejectedError, match="a whole number from 1 to 1000"):
        limit_of({"limit": text})


@given(st.text())
def test_whole_never_fails_otherwise(text: str) -> None:
    try:
        found = whole(text, "n", 0, 10)
    except RejectedError:
        return
    assert found is None or 0 <= found <= 10


@pytest.mark.parametrize(
    ("text", "moment"),
    [
        (None, None),
        ("", None),
        ("0", 0),
        ("1764000000", 1_764_000_000_000_000),
        ("1764000000.5", 1_764_000_000_500_000),
        ("1764000000500", 1_764_000_000_500_000),
        ("2025-11-24T16:00:00Z", 1_764_000_000_000_000),
        ("2025-11-24T17:00:00+01:00", 1_764_000_000_000_000),
        ("2025-11-24T17:00:00 01:00", 1_764_000_000_000_000),
    ],
)
def test_times(text: str | None, moment: int | None) -> None:
    assert moment_of(text, "since") == moment


@pytest.mark.parametrize("text", ["yesterday", "nan", "inf", "1e999", "2025-13-01", "99999999999999999999", "-1e15"])
def test_what_is_no_time(text: str) -> None:
    with pytest.raises(RejectedError, match="is not a time"):
        moment_of(text, "since")


@pytest.mark.parametrize(("text", "microseconds"), [(None, 0), ("", 0), ("30d", 30 * 86_400_000_000), ("5s", 5_000_000)])
def test_durations(text: str | None, microseconds: int) -> None:
    assert duration_of(text, "over") == microseconds


@pytest.mark.parametrize("text", ["30", "-5s", "month", "5 parsecs"])
def test_what_is_no_duration(text: str) -> None:
    with pytest.raises(RejectedError, match="is not a duration"):
        duration_of(text, "over")


def test_bodies() -> None:
    assert body(Request("POST", "/x", body=b'{"id": "a"}'), Body) == Body("a")
    for wrong in (b"", b"[]", b"{", b'{"id": 1}', b'{"id": "a", "more": 1}', b"\xff", b'{"id": "\xff"}', b"[" * 100_000):
        with pytest.raises(RejectedError, match="the body will not do"):
            body(Request("POST", "/x", body=wrong), Body)
