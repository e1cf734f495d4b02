"""Both clients over TLS: whom they trust, what they say when they do not, and the token that they send."""

import asyncio
import http.server
import ssl
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

from skerry.http import AsyncClient, Client, UnreachableError
from tests.http import issued

Ask = Callable[..., Any]


class _Echo(http.server.BaseHTTPRequestHandler):
    def do_GET(self) -> None:
        content = b'{"authorization": "%s"}' % self.headers.get("authorization", "").encode()
        self.send_response(200)
        self.send_header("content-length", str(len(content)))
        self.end_headers()
        self.wfile.write(content)

    def log_message(self, format: str, *arguments: object) -> None:
        """Say nothing."""


class _Quiet(http.server.ThreadingHTTPServer):
    def handle_error(self, request: object, client_address: object) -> None:
        """Refused handshakes are what is tested."""


@contextmanager
def serving(certificate: Path | None) -> Iterator[int]:
    """The port of a server that tells the Authorization it was sent; without a certificate it speaks no TLS."""
    server = _Quiet(("127.0.0.1", 0), _Echo)
    if certificate is not None:
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        context.load_cert_chain(certificate)
        server.socket = context.wrap_socket(server.socket, server_side=True, do_handshake_on_connect=False)
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
    thread.start()
    try:
        yield server.server_port
    finally:
        server.shutdown()
        server.server_close()
        thread.join(5)


def blocking(url: str, **given: Any) -> Any:
    with Client(url, 5.0, **given) as client:
        return client.get("/")


def unblocked(url: str, **given: Any) -> Any:
    async def ask() -> Any:
        async with AsyncClient(url, 5.0, **given) as client:
            return await client.get("/")

    return asyncio.run(ask())


BOTH = pytest.mark.parametrize("ask", [blocking, unblocked], ids=["blocking", "asyncio"])


@BOTH
def test_a_ca_that_is_named_is_trusted_and_the_token_sent(ask: Ask, tmp_path: Path) -> None:
    ca, made, key = issued.authority(tmp_path)
    with serving(issued.server(tmp_path, made, key)) as port:
        url = f"https://127.0.0.1:{port}"
        assert ask(url, ca=ca, token="sk_abc") == {"authorization": "Bearer sk_abc"}
        assert ask(url, ca=str(ca)) == {"authorization": ""}


@BOTH
@pytest.mark.parametrize(
    ("made_for", "said"),
    [
        ({}, "is signed by a CA that is not known here; name the site's CA with --ca FILE"),
        ({"end": -1, "begin": -2}, "has expired; renew it on the node"),
        ({"begin": 1}, "is not valid yet; see whether the clocks"),
        ({"name": "box.example"}, "is for other"),
    ],
    ids=["stranger", "expired", "not-yet", "other-name"],
)
def test_what_is_wrong_with_a_certificate_is_said(ask: Ask, tmp_path: Path, made_for: dict[str, Any], said: str) -> None:
    ca, made, key = issued.authority(tmp_path)
    other, _, _ = issued.authority(tmp_path, "other")
    with serving(issued.server(tmp_path, made, key, **made_for)) as port, pytest.raises(UnreachableError) as caught:
        ask(f"https://127.0.0.1:{port}", ca=ca if made_for else other, token="sk_secret")
    assert f"https://127.0.0.1:{port}: the node's certificate {said}" in str(caught.value)
    assert "sk_secret" not in str(caught.value)


@BOTH
def test_a_node_without_tls(ask: Ask, tmp_path: Path) -> None:
    with serving(None) as port, pytest.raises(UnreachableError, match="does not speak TLS as it should"):
        ask(f"https://127.0.0.1:{port}")


@BOTH
def test_a_node_with_tls_asked_without(ask: Ask, tmp_path: Path) -> None:
    _, made, key = issued.authority(tmp_path)
    with serving(issued.server(tmp_path, made, key)) as port, pytest.raises(UnreachableError) as caught:
        ask(f"http://127.0.0.1:{port}")
    assert ask is unblocked or "start it with `skerry run`, or is it https:// there" in str(caught.value)
