"""Where a client goes."""

import ssl
from pathlib import Path

import pytest

from skerry.core.errors import ConfigError
from skerry.http import Target, UnreachableError, parse_target
from skerry.http.target import bearer, client_tls, with_query


@pytest.mark.parametrize(
    ("where", "target", "shown"),
    [
        ("http://127.0.0.1:8080", Target("127.0.0.1", 8080), "http://127.0.0.1:8080"),
        ("http://box/", Target("box", 80), "http://box:80"),
        ("http://[::1]:81", Target("::1", 81), "http://[::1]:81"),
        ("https://box", Target("box", 443, tls=True), "https://box:443"),
        ("https://[::1]:8443/", Target("::1", 8443, tls=True), "https://[::1]:8443"),
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
        "https://",
        "https://box#x",
        "https://:p@box",
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


@pytest.mark.parametrize(
    ("code", "said"),
    [
        (9, "the node's certificate is not valid yet; see whether the clocks of both machines are right"),
        (10, "the node's certificate has expired; renew it"),
        (18, "the node's certificate is signed by itself, and not known here; name the site's CA with --ca FILE"),
        (20, "the node's certificate is signed by a CA that is not known here; name the site's CA with --ca FILE"),
        (62, "the node's certificate is for other names; use one of its names in the URL"),
        (23, "the node's certificate is refused: certificate revoked; see `skerry doctor` on the node"),
    ],
)
def test_trouble_with_certificates_in_words(code: int, said: str) -> None:
    error = ssl.SSLCertVerificationError()
    error.verify_code, error.verify_message = code, "certificate revoked"
    assert f"https://h:1: {said}" in str(Target("h", 1, tls=True).unreachable(error))


def test_what_does_not_speak_tls() -> None:
    error = ssl.SSLError(1, "[SSL: WRONG_VERSION_NUMBER] wrong version number (_ssl.c:1006)")
    assert "does not speak TLS as it should" in str(Target("h", 1, tls=True).unreachable(error))


def test_tls_is_for_https_only_and_of_this_age(tmp_path: Path) -> None:
    assert client_tls(parse_target("http://box"), "not looked at") is None
    found = client_tls(parse_target("https://box"))
    assert found is not None
    assert (found.minimum_version, found.check_hostname, found.verify_mode) == (
        ssl.TLSVersion.TLSv1_2,
        True,
        ssl.CERT_REQUIRED,
    )
    (tmp_path / "empty.pem").write_text("no certificate")
    with pytest.raises(ConfigError, match=r"empty\.pem: holds no certificate; allowed: a CA's certificate in PEM"):
        client_tls(parse_target("https://box"), tmp_path / "empty.pem")
    with pytest.raises(ConfigError, match=r"none\.pem: cannot be read: No such file"):
        client_tls(parse_target("https://box"), tmp_path / "none.pem")


def test_the_header_of_a_token() -> None:
    assert bearer("") == {}
    assert bearer("sk_a-B_9") == {"Authorization": "Bearer sk_a-B_9"}


@pytest.mark.parametrize("token", ["a b", "a\nb", "a\r\nX-Other: b", "ä", "a\0"])
def test_what_can_be_no_token(token: str) -> None:
    with pytest.raises(ConfigError, match="what was given is no token") as caught:
        bearer(token)
    assert token not in str(caught.value)


def test_decoding() -> None:
    assert Target("h").decode(b"") is None
    assert Target("h").decode(b"[1]") == [1]
    with pytest.raises(UnreachableError, match="not a node"):
        Target("h").decode(b"<html>")
