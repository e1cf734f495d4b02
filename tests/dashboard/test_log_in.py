"""Log-in with a token of the API, over HTTP as a browser and as an attacker would."""

import http.client
import time
from collections.abc import Callable
from pathlib import Path
from urllib.parse import urlencode, urlsplit

from skerry.http import Client
from tests.dashboard.conftest import page_of
from tests.fixtures.node import RunningNode

Answer = tuple[int, dict[str, str], str]


def ask(base: str, method: str, path: str, body: str = "", **headers: str) -> Answer:
    """One request; a browser's headers where none are given."""
    netloc = urlsplit(base).netloc
    connection = http.client.HTTPConnection(netloc, timeout=30)
    given = {"Host": netloc, "Accept": "text/html", **({"Origin": base} if method == "POST" else {})}
    given |= {name.replace("_", "-"): value for name, value in headers.items()}
    connection.request(method, path, body or None, given)
    answer = connection.getresponse()
    text = answer.read().decode()
    found = answer.status, {name.lower(): value for name, value in answer.getheaders()}, text
    connection.close()
    return found


def test_with_tokens_nobody_is_let_in_without_one(start: Callable[..., RunningNode], tmp_path: Path) -> None:
    node = start(env={"SKERRY_API__LOOPBACK": "none"})
    base = page_of(node)
    with Client(node.data / "skerry.sock") as client:
        secret = client.post("/api/v1/tokens", {"name": "me", "scopes": ["read"]})["token"]
    status, headers, _ = ask(base, "GET", "/devices")
    assert (status, headers["location"]) == (303, "/login?next=/devices")
    assert ask(base, "GET", "/_nicegui_ws/socket.io/?EIO=4&transport=polling", Accept="*/*")[0] == 401
    status, headers, form = ask(base, "GET", "/login?next=//evil.example")
    assert status == 200
    assert 'name="next" value="/"' in form
    assert "frame-ancestors 'none'" in headers["content-security-policy"]

    body = urlencode({"token": secret, "next": "/"})
    assert ask(base, "POST", "/login", body, Origin="http://evil.example")[0] == 403
    assert ask(base, "POST", "/login", body, Host="evil.example")[0] == 403
    status, headers, said = ask(base, "POST", "/login", urlencode({"token": "wrong", "next": "/"}))
    assert status == 401
    assert "set-cookie" not in headers
    assert "not known here" in said

    status, headers, _ = ask(base, "POST", "/login", body)
    assert (status, headers["location"]) == (303, "/")
    cookie = headers["set-cookie"]
    assert "HttpOnly" in cookie
    assert "SameSite=strict" in cookie
    assert secret not in cookie
    own = cookie.partition(";")[0]
    status, _, page = ask(base, "GET", "/", Cookie=own)
    assert status == 200
    assert secret not in page
    assert ask(base, "GET", "/", Cookie=own[:-1])[0] == 303

    assert ask(base, "POST", "/logout", Cookie=own)[0] == 303
    assert ask(base, "GET", "/", Cookie=own)[0] == 303
    answers = {ask(base, "POST", "/login", urlencode({"token": "wrong"}))[0] for _ in range(12)}
    assert answers == {401, 429}
    for path in ("skerry.sock", "logs"):  # nothing of what was typed is written anywhere
        assert (node.data / path).exists()
    assert secret not in node.output


def test_a_session_ends_when_its_token_is_revoked(start: Callable[..., RunningNode]) -> None:
    node = start(env={"SKERRY_API__LOOPBACK": "none"})
    base = page_of(node)
    with Client(node.data / "skerry.sock") as client:
        secret = client.post("/api/v1/tokens", {"name": "me", "scopes": ["read"]})["token"]
        own = ask(base, "POST", "/login", urlencode({"token": secret}))[1]["set-cookie"].partition(";")[0]
        assert ask(base, "GET", "/", Cookie=own)[0] == 200
        client.delete("/api/v1/tokens/me")
    give_up = time.monotonic() + 30
    while ask(base, "GET", "/", Cookie=own)[0] != 303:
        assert time.monotonic() < give_up
        time.sleep(0.2)
