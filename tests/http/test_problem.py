"""Errors over HTTP and back."""

import msgspec
import pytest

from skerry.core.errors import (
    ConfigError,
    CorruptError,
    FencedError,
    InsufficientResources,
    OverloadedError,
    RejectedError,
    SkerryError,
    UnavailableError,
)
from skerry.http import (
    NotFoundError,
    RefusedError,
    TooManyRequestsError,
    UnauthorizedError,
    UnreachableError,
    error_of,
    problem,
    problem_of,
)

STATUS = {
    ConfigError: 400,
    RejectedError: 400,
    NotFoundError: 404,
    RefusedError: 403,
    UnauthorizedError: 401,
    UnavailableError: 503,
    OverloadedError: 503,
    TooManyRequestsError: 429,
    InsufficientResources: 503,
    FencedError: 409,
    CorruptError: 500,
    SkerryError: 500,
}


@pytest.mark.parametrize("kind", STATUS)
def test_an_error_comes_back_as_it_went(kind: type[SkerryError]) -> None:
    told = problem_of(kind("it is broken", where="pipelines[0]", mend="mend it"))
    assert told.status == STATUS[kind]
    again = error_of(told.status, told.headers["content-type"], told.body)
    assert type(again) is kind
    assert (again.message, again.where, again.mend) == ("it is broken", "pipelines[0]", "mend it")


def test_what_may_work_later_says_when() -> None:
    assert problem_of(OverloadedError("full")).headers["retry-after"] == "1"
    assert problem_of(UnavailableError("gone")).headers["retry-after"] == "1"
    assert "retry-after" not in problem_of(InsufficientResources("no memory")).headers


@pytest.mark.parametrize(("wait", "said"), [(0.0, "1"), (0.2, "1"), (1.0, "1"), (1.01, "2"), (59.5, "60")])
def test_who_asks_too_often_is_told_when(wait: float, said: str) -> None:
    assert problem_of(TooManyRequestsError("too often", wait=wait)).headers["retry-after"] == said


@pytest.mark.parametrize(
    ("error", "said"),
    [
        (UnauthorizedError("a token, please"), 'Bearer realm="skerry"'),
        (UnauthorizedError("unknown", wrong=True), 'Bearer realm="skerry", error="invalid_token"'),
        (RefusedError("not you", scope="admin"), 'Bearer realm="skerry", error="insufficient_scope", scope="admin"'),
        (RefusedError("not you"), None),
    ],
)
def test_what_a_client_should_send_is_said(error: SkerryError, said: str | None) -> None:
    assert problem_of(error).headers.get("www-authenticate") == said


def test_a_subclass_from_elsewhere_is_told_as_its_base() -> None:
    told = problem_of(UnreachableError("nobody there"))
    assert type(error_of(told.status, told.headers["content-type"], told.body)) is UnavailableError


def test_the_members_of_a_problem() -> None:
    body = msgspec.json.decode(problem(413, "too large", "send less").body)
    assert body == {
        "type": "about:blank",
        "title": "Request Entity Too Large",
        "status": 413,
        "detail": "too large",
        "where": "",
        "mend": "send less",
    }


@pytest.mark.parametrize(
    ("status", "kind"),
    [
        (400, RejectedError),
        (401, UnauthorizedError),
        (403, RefusedError),
        (404, NotFoundError),
        (418, RejectedError),
        (429, TooManyRequestsError),
        (500, SkerryError),
        (502, UnavailableError),
        (503, UnavailableError),
        (599, SkerryError),
    ],
)
@pytest.mark.parametrize("body", [b"", b"<html>", b'{"status": "no number"}'])
def test_a_strangers_answer_is_judged_by_its_status(status: int, kind: type[SkerryError], body: bytes) -> None:
    for content_type in ("text/html", "application/problem+json; charset=utf-8"):
        found = error_of(status, content_type, body)
        assert type(found) is kind
        assert str(status) in found.message
