"""Asking a node elsewhere: tokens, certificates, and one sentence for whatever is in the way."""

import json
import stat
from collections.abc import Iterator
from pathlib import Path

import pytest

from skerry.api import ApiConfig, TokenStore
from skerry.cli.session import Session, new_file
from skerry.core.clock import SystemClock
from skerry.core.errors import ConfigError, RejectedError
from tests.api.fake_view import Serving
from tests.cli.conftest import Call
from tests.http import issued
from tests.http.test_client_tls import serving


@pytest.fixture
def far(tmp_path: Path) -> Iterator[Serving]:
    """A node that is asked by its URL, and wants tokens."""
    tokens = TokenStore(None, SystemClock())
    for scope in ("read", "admin"):
        (tmp_path / f"{scope}.token").write_text(tokens.create(scope, [scope])[1] + "\n")
    config = ApiConfig(listen="127.0.0.1:0", token_file="t")
    with Serving(tmp_path / "far.sock", config, tokens).running() as found:
        yield found


def test_a_token_from_a_file_or_the_environment(call: Call, far: Serving, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    asked = ["status", "--json", "--url", far.url]
    assert json.loads(call(*asked, "--token-file", "read.token").out)["node"] == "box"
    monkeypatch.setenv("SKERRY_TOKEN", (tmp_path / "read.token").read_text())
    assert json.loads(call(*asked).out)["node"] == "box"
    monkeypatch.setenv("SKERRY_TOKEN", "sk_wrong")
    assert json.loads(call(*asked, "--token-file", "read.token").out)["node"] == "box"  # a file goes before it


def test_no_token_a_wrong_one_and_one_that_may_not(call: Call, far: Serving, tmp_path: Path) -> None:
    (tmp_path / "wrong.token").write_text("sk_wrong")
    pause = ["pipeline", "pause", "bearing", "--url", far.url]
    answer = call(*pause)
    assert answer.code == 1
    assert "pause is not open on this port without a token (api.loopback is 'none')" in answer.err
    answer = call(*pause, "--token-file", "wrong.token")
    assert (answer.code, answer.err) == (
        1,
        "error: this token is not known here, or no longer; see `skerry token list` on the node\n",
    )
    answer = call(*pause, "--token-file", "read.token")
    assert answer.code == 1
    assert answer.err.startswith("error: POST /api/v1/pipelines/bearing/pause needs the scope 'operate', which this token has not;")
    assert answer.err.endswith("; `skerry token create NAME --scope operate` on the node makes another\n")
    assert far.view.paused == set()
    assert call(*pause, "--token-file", "admin.token").code == 0
    assert far.view.paused == {"bearing"}


def test_tokens_are_managed_from_elsewhere(call: Call, far: Serving, tmp_path: Path) -> None:
    there = ["--url", far.url, "--token-file", tmp_path / "admin.token"]
    assert call("token", "create", "new", "--scope", "read", "--out", "new.token", *there).code == 0
    assert call("status", "--url", far.url, "--token-file", "new.token").code == 0
    assert call("token", "revoke", "new", *there).out == "revoked new: it is refused from now on\n"
    assert call("status", "--url", far.url, "--token-file", "new.token").code == 1


@pytest.mark.parametrize(
    ("content", "said"),
    [
        (None, "t: cannot be read: No such file or directory; name the file with the token"),
        (b"", "t: is empty; put the token into it"),
        (b" \n", "t: is empty; put the token into it"),
        (b"two\nlines", "token: what was given is no token"),
        (b"\xff\xfe", "t: cannot be read: it is not text"),
    ],
)
def test_what_is_no_token_is_2(call: Call, tmp_path: Path, content: bytes | None, said: str) -> None:
    if content is not None:
        (tmp_path / "t").write_bytes(content)
    answer = call("status", "--url", "http://127.0.0.1:1", "--token-file", "t")
    assert answer.code == 2
    assert said in answer.err


def test_a_token_is_for_another_node_s_url(call: Call, tmp_path: Path) -> None:
    (tmp_path / "t").write_text("sk_x")
    answer = call("status", "--token-file", "t")
    assert (answer.code, answer.err) == (
        2,
        "error: --token-file: is for another node's URL; add --url https://host:port\n",
    )


@pytest.mark.parametrize(
    ("url", "warned"),
    [("http://box.example:1", True), ("http://127.0.0.1:1", False), ("https://box.example:1", False)],
)
def test_a_token_that_can_be_read_on_the_way_is_warned_of(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch, url: str, warned: bool
) -> None:
    monkeypatch.setenv("SKERRY_TOKEN", "sk_x")
    Session(url=url).client()
    assert ("the token can be read on the way" in capsys.readouterr().err) is warned
    Session(url=url, quiet=True).client()
    assert capsys.readouterr().err == ""


def test_over_tls(call: Call, tmp_path: Path) -> None:
    ca, made, key = issued.authority(tmp_path)
    (tmp_path / "t").write_text("sk_x")
    with serving(issued.server(tmp_path, made, key)) as port:
        url = f"https://127.0.0.1:{port}"
        assert json.loads(call("status", "--json", "--url", url, "--ca", ca, "--token-file", "t").out) == {
            "authorization": "Bearer sk_x"
        }
        answer = call("status", "--url", url)
        assert (answer.code, answer.err) == (
            3,
            f"error: {url}: the node's certificate is signed by a CA that is not known here; name the site's CA with --ca FILE\n",
        )
        answer = call("status", "--url", url, "--ca", "none.pem")
        assert (answer.code, answer.err) == (
            2,
            "error: none.pem: cannot be read: No such file or directory; name the CA's certificate, in PEM\n",
        )


def test_a_new_file(tmp_path: Path) -> None:
    out = tmp_path / "out"
    with new_file(out) as write:
        assert stat.S_IMODE(out.stat().st_mode) == 0o600
        write("secret")
    assert out.read_text() == "secret"
    with pytest.raises(RejectedError, match="cannot be made: File exists"), new_file(out):
        pass
    assert out.read_text() == "secret"
    with pytest.raises(ConfigError), new_file(tmp_path / "gone"):
        raise ConfigError("it did not work")
    assert not (tmp_path / "gone").exists()
    with new_file(None) as write:
        write("nowhere")
