"""Who may ask the dashboard: its own pages, by its own names, from this machine or logged in."""

import pytest

from skerry.dashboard.door import Policy, is_near, refusal, safe_target

HERE = Policy()
BEYOND = Policy(names=frozenset({"box1.plant.example"}), beyond=True)
OWN = {"host": "127.0.0.1:8081"}


@pytest.mark.parametrize("host", ["127.0.0.1:8081", "localhost:8081", "[::1]:8081"])
def test_its_own_page_is_let_in(host: str) -> None:
    assert not refusal(HERE, "GET", {"host": host})
    assert not refusal(HERE, "POST", {"host": host, "origin": f"http://{host}"})
    assert not refusal(HERE, "GET", {"host": host, "origin": f"http://{host}"}, websocket=True)


@pytest.mark.parametrize("host", ["evil.example", "evil.example:8081", "192.168.1.5:8081", "", "127.0.0.1.evil.example", "["])
def test_a_name_that_somebody_let_point_here_is_refused(host: str) -> None:
    assert "does not mean this node" in refusal(HERE, "GET", {"host": host})


@pytest.mark.parametrize("origin", ["http://evil.example", "https://127.0.0.1:8081", "http://127.0.0.1:9", "null"])
@pytest.mark.parametrize("method", ["GET", "POST"])
def test_a_page_of_another_site_is_refused(origin: str, method: str) -> None:
    assert "another site" in refusal(HERE, method, {**OWN, "origin": origin})
    assert "another site" in refusal(HERE, "GET", {**OWN, "origin": origin}, websocket=True)


def test_what_changes_something_names_its_page() -> None:
    assert "which page" in refusal(HERE, "POST", OWN)
    assert "which page" in refusal(HERE, "GET", OWN, websocket=True)


def test_beyond_loopback_addresses_and_given_names_are_its_own() -> None:
    assert not refusal(BEYOND, "GET", {"host": "192.168.1.5:8081"})
    assert not refusal(BEYOND, "GET", {"host": "box1.plant.example:8081"})
    assert refusal(BEYOND, "GET", {"host": "other.example"})
    secure = Policy(beyond=True, secure=True)
    assert not refusal(secure, "POST", {"host": "192.168.1.5", "origin": "https://192.168.1.5"})
    assert refusal(secure, "POST", {"host": "192.168.1.5", "origin": "http://192.168.1.5"})


def test_only_this_machine_may_go_without_log_in_and_no_proxy_on_it() -> None:
    assert is_near(HERE, "127.0.0.1", OWN)
    assert not is_near(HERE, "192.168.1.9", OWN)
    assert not is_near(HERE, "127.0.0.1", {**OWN, "x-forwarded-for": "192.168.1.9"})
    assert not is_near(BEYOND, "127.0.0.1", OWN)


@pytest.mark.parametrize(
    ("asked", "given"),
    [("/devices", "/devices"), ("//evil.example", "/"), ("/\\evil.example", "/"), ("https://evil.example", "/"), ("", "/"),
     ("/a\nb", "/"), ("javascript:alert(1)", "/")],
)  # fmt: skip
def test_after_log_in_nobody_is_sent_elsewhere(asked: str, given: str) -> None:
    assert safe_target(asked) == given
