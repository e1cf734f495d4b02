"""Who may ask: DNS rebinding, pages of other sites, what loopback may do without a token, and what tokens may do."""

import pytest

from skerry.api.config import Loopback
from skerry.api.guard import Policy, bearer_of, check
from skerry.api.scopes import SCOPES, Scope, covers, scope_of
from skerry.http import RefusedError, Request, UnauthorizedError

HERE = {"host": "127.0.0.1:8080"}
BOX = Policy("none", frozenset({"box1", "box1.local", "edge.example"}), beyond=True)
LAN = "192.168.1.50"


def judge(request: Request, policy: Policy | Loopback = "all", held: list[Scope] | None = None) -> None:
    found = policy if isinstance(policy, Policy) else Policy(policy)
    check(request, found, scope_of(request.method, request.path), held)


def ask(method: str = "GET", path: str = "/api/v1/node", remote: str = "127.0.0.1", **headers: str) -> Request:
    named = {name.replace("_", "-"): value for name, value in headers.items()}
    return Request(method, path, headers={**HERE, **named}, remote=remote)


@pytest.mark.parametrize("host", ["127.0.0.1:8080", "localhost:8080", "LOCALHOST", "[::1]:9", "127.0.0.1"])
def test_names_of_this_machine(host: str) -> None:
    judge(ask(host=host), "all")


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
        with pytest.raises(RefusedError, match="not for this node"):
            judge(ask(path=path, host=host), "all")


def test_no_host_at_all() -> None:
    with pytest.raises(RefusedError):
        judge(Request("GET", "/", headers={}, remote="127.0.0.1"), "all")


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
        judge(ask(method, origin=origin), "all")


def test_a_page_of_ones_own() -> None:
    judge(ask("POST", origin="http://127.0.0.1:8080", sec_fetch_site="same-origin"), "all")


@pytest.mark.parametrize(("site", "may_post"), [("same-origin", True), ("none", True), ("cross-site", False), ("same-site", False)])
def test_what_the_browser_says_of_itself(site: str, may_post: bool) -> None:
    judge(ask("GET", sec_fetch_site=site), "all")
    if may_post:
        judge(ask("POST", sec_fetch_site=site), "all")
    else:
        with pytest.raises(RefusedError, match="may not ask this node"):
            judge(ask("POST", sec_fetch_site=site), "all")


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
        ("none", "POST", "/auth/challenge", True),
        ("none", "GET", "/healthz/../api/v1/node", False),
        ("all", "GET", "/api/v1/tokens", True),
        ("read", "GET", "/api/v1/tokens", False),
        ("read", "GET", "/api/v1/log", False),
        ("read", "GET", "/api/v1/audit", False),
        ("read", "GET", "/v2/health/ready", True),
        ("read", "POST", "/v2/models/x/infer", False),
    ],
)
def test_what_loopback_may_do(loopback: Loopback, method: str, path: str, may: bool) -> None:
    if may:
        judge(ask(method, path), loopback)
    else:
        with pytest.raises(UnauthorizedError, match=rf"not open on this port without a token \(api.loopback is '{loopback}'\)"):
            judge(ask(method, path), loopback)
    judge(ask(method, path, remote="unix", host="", origin="http://evil.example"), loopback)


@pytest.mark.parametrize("header", ["forwarded", "via", "x-forwarded-for", "x-forwarded-host", "x-forwarded-proto", "x-real-ip"])
def test_what_a_proxy_passes_on_is_not_from_here(header: str) -> None:
    passed = ask(**{header.replace("-", "_"): "203.0.113.9"})
    with pytest.raises(UnauthorizedError, match="needs a token"):
        judge(passed, BOX)
    for policy in (Policy("all"), Policy("all", beyond=True, names=frozenset({"box1"}))):
        judge(ask(), policy)
        with pytest.raises(UnauthorizedError):
            judge(passed, policy)


@pytest.mark.parametrize("remote", [LAN, "203.0.113.9", "2001:db8::1", "", "localhost.evil.example"])
def test_what_is_open_on_loopback_is_open_there_alone(remote: str) -> None:
    open_on_loopback = Policy("all", beyond=True)
    judge(ask("POST", remote="127.0.0.1"), open_on_loopback)
    judge(ask("GET", "/readyz", remote=remote), open_on_loopback)
    with pytest.raises(UnauthorizedError, match="POST /api/v1/node needs a token"):
        judge(ask("POST", remote=remote), open_on_loopback)


@pytest.mark.parametrize(
    "host", ["box1:8080", "BOX1", "box1.local", "edge.example:443", "edge.example.", "192.168.1.5:8080", "[fe80::1]:1"]
)
def test_names_of_a_node_that_others_reach(host: str) -> None:
    judge(ask(path="/healthz", host=host, remote=LAN), BOX)
    with pytest.raises(UnauthorizedError):
        judge(ask(host=host, remote=LAN), BOX)


@pytest.mark.parametrize("host", ["", "evil.example", "box1.evil.example", "192.168.1.5.evil.example", "edge.example.evil", "[::1"])
@pytest.mark.parametrize("path", ["/healthz", "/auth/challenge", "/api/v1/node"])
def test_dns_rebinding_to_a_node_that_others_reach(host: str, path: str) -> None:
    with pytest.raises(RefusedError, match=r"add the name to api\.hosts") as caught:
        judge(ask(path=path, host=host, remote=LAN), BOX)
    assert not isinstance(caught.value, UnauthorizedError)


def test_a_page_of_its_own_over_tls() -> None:
    secure = Policy("all", beyond=True, names=frozenset({"box1"}), secure=True)
    judge(ask("POST", host="box1:8443", origin="https://box1:8443"), secure)
    for origin in ("http://box1:8443", "https://box1", "https://box1:8443.evil.example"):
        with pytest.raises(RefusedError, match="may not ask this node"):
            judge(ask("POST", host="box1:8443", origin=origin), secure)


@pytest.mark.parametrize(
    ("mode", "may"), [("navigate", True), ("", False), ("no-cors", False), ("cors", False), ("websocket", False)]
)
def test_a_link_may_be_followed_and_nothing_embedded(mode: str, may: bool) -> None:
    request = ask("GET", "/api/v1/events/stream", sec_fetch_site="cross-site", sec_fetch_mode=mode)
    if may:
        judge(request)
    else:
        with pytest.raises(RefusedError, match="a page of another site may not ask"):
            judge(request)
    with pytest.raises(RefusedError):
        judge(ask("POST", sec_fetch_site="cross-site", sec_fetch_mode=mode))


@pytest.mark.parametrize(
    ("referer", "may"),
    [
        ("http://127.0.0.1:8080/", True),
        ("http://127.0.0.1:8080", True),
        ("http://127.0.0.1:8080/a/page?x=1", True),
        ("http://evil.example/", False),
        ("http://127.0.0.1:8080.evil.example/", False),
        ("https://127.0.0.1:8080/", False),
        ("", False),
    ],
)
def test_a_form_of_an_old_browser_is_told_by_its_referer(referer: str, may: bool) -> None:
    judge(ask("GET", referer=referer))
    if may:
        judge(ask("POST", referer=referer))
    else:
        with pytest.raises(RefusedError, match="may not change this node"):
            judge(ask("POST", referer=referer))


PATHS = [
    ("GET", "/api/v1/node", "read"),
    ("GET", "/metrics", "read"),
    ("POST", "/api/v1/pipelines/p/pause", "operate"),
    ("POST", "/v2/models/m/infer", "infer"),
    ("POST", "/api/v1/devices", "admin"),
    ("GET", "/api/v1/tokens", "admin"),
]


@pytest.mark.parametrize("held", SCOPES)
@pytest.mark.parametrize(("method", "path", "needed"), PATHS)
def test_a_token_may_what_its_scope_says(held: Scope, method: str, path: str, needed: Scope) -> None:
    for policy in (BOX, Policy("all"), Policy("read")):
        request = ask(method, path, remote=LAN, host="any.example", origin="https://elsewhere.example")
        if covers([held], needed):
            judge(request, policy, [held])
        else:
            with pytest.raises(RefusedError, match=f"needs the scope '{needed}', which this token has not") as caught:
                judge(request, policy, [held])
            assert caught.value.scope == needed


@pytest.mark.parametrize(
    ("header", "token"),
    [
        ("Bearer sk_a", "sk_a"),
        ("bearer  sk_a ", "sk_a"),
        ("Bearer", ""),
        ("Bearer ", ""),
        ("Basic dTpw", None),
        ("sk_a", None),
        ("", None),
    ],
)
def test_the_token_of_a_request(header: str, token: str | None) -> None:
    assert bearer_of({"authorization": header}) == token
    assert bearer_of({}) is None
