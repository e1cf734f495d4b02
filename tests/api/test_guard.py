"""Who may ask: DNS rebinding, pages of other sites, and what loopback may do without a token."""

from typing import Literal

import pytest

from skerry.api.guard import check
from skerry.http import RefusedError, Request

HERE = {"host": "127.0.0.1:8080"}


def ask(method: str = "GET", path: str = "/api/v1/node", remote: str = "127.0.0.1", **headers: str) -> Request:
    named = {name.replace("_", "-"): value for name, value in headers.items()}
    return Request(method, path, headers={**HERE, **named}, remote=remote)


@pytest.mark.parametrize("host", ["127.0.0.1:8080", "localhost:8080", "LOCALHOST", "[::1]:9", "127.0.0.1"])
def test_names_of_this_machine(host: str) -> None:
    check(ask(host=host), "all")


@pytest.mark.parametrize(
    "host",
    [
        "",
        "evil.example:8080",
        "evil.example",
        "localhost.evil.example",
        "127.0.0.1.nip.example",
        "0.0.0.0:8080",
        "192.168.0.1",
        "[::1",
        "a:b:c",
    ],
)
def test_dns_rebinding(host: str) -> None:
    for path in ("/api/v1/node", "/healthz", "/metrics"):
        with pytest.raises(RefusedError, match="not for this machine"):
            check(ask(path=path, host=host), "all")


def test_no_host_at_all() -> None:
    with pytest.raises(RefusedError):
        check(Request("GET", "/", headers={}, remote="127.0.0.1"), "all")


@pytest.mark.parametrize("method", ["GET", "POST", "DELETE"])
@pytest.mark.parametrize(
    "origin",
    [
        "http://evil.example",
        "https://127.0.0.1:8080",
        "http://127.0.0.1:8081",
        "http://localhost:8080",
        "null",
        "",
        "http://127.0.0.1:8080.evil.example",
    ],
)
def test_a_page_of_another_origin(method: str, origin: str) -> None:
    with pytest.raises(RefusedError, match="may not ask this node"):
        check(ask(method, origin=origin), "all")


def test_a_page_of_ones_own() -> None:
    check(ask("POST", origin="http://127.0.0.1:8080", sec_fetch_site="same-origin"), "all")


@pytest.mark.parametrize(("site", "may_post"), [("same-origin", True), ("none", True), ("cross-site", False), ("same-site", False)])
def test_what_the_browser_says_of_itself(site: str, may_post: bool) -> None:
    check(ask("GET", sec_fetch_site=site), "all")
    if may_post:
        check(ask("POST", sec_fetch_site=site), "all")
    else:
        with pytest.raises(RefusedError, match="may not change this node"):
            check(ask("POST", sec_fetch_site=site), "all")


@pytest.mark.parametrize(
    ("loopback", "method", "path", "may"),
    [
        ("all", "POST", "/api/v1/devices", True),
        ("read", "GET", "/api/v1/devices", True),
        ("read", "HEAD", "/metrics", True),
        ("read", "POST", "/api/v1/devices", False),
        ("read", "DELETE", "/api/v1/devices/x", False),
        ("none", "GET", "/api/v1/node", False),
        ("none", "GET", "/metrics", False),
        ("none", "GET", "/healthz", True),
        ("none", "GET", "/readyz", True),
        ("none", "GET", "/healthz/../api/v1/node", False),
    ],
)
def test_what_loopback_may_do(loopback: Literal["all", "read", "none"], method: str, path: str, may: bool) -> None:
    if may:
        check(ask(method, path), loopback)
    else:
        with pytest.raises(RefusedError, match=rf"not open on this port \(api.loopback is '{loopback}'\)"):
            check(ask(method, path), loopback)
    check(ask(method, path, remote="unix", host="", origin="http://evil.example"), loopback)
