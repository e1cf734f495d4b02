"""A node that others reach: a real one, over HTTPS, asked by the command line with tokens."""

import json
import os
import subprocess
import sys
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest

from skerry.core.errors import SkerryError
from skerry.http import Client, UnauthorizedError
from tests.fixtures.node import RunningNode, until
from tests.http import issued

API = "/api/v1"
PIPELINE = '[[pipelines]]\nname = "p"\nsource = { topic = "devices/+/t", values = ["x"] }\nwindow = { kind = "none" }\n'


def skerry(folder: Path, *arguments: object) -> "subprocess.CompletedProcess[str]":
    command = [sys.executable, "-m", "skerry.cli", *map(str, arguments)]
    environment = {name: value for name, value in os.environ.items() if not name.startswith("SKERRY_")}
    return subprocess.run(command, cwd=folder, env=environment, capture_output=True, text=True, timeout=30, check=False)


@pytest.fixture
def far(tmp_path: Path) -> Iterator[tuple[RunningNode, str]]:
    """A node on all addresses with TLS, its URL, and two tokens that were made before it ran."""
    _, made, key = issued.authority(tmp_path)
    server = str(issued.server(tmp_path, made, key))
    env = {
        "SKERRY_API__LISTEN": "0.0.0.0:0",
        "SKERRY_API__TOKEN_FILE": "data/tokens.json",
        "SKERRY_API__TLS": f"{{ cert = {json.dumps(server)}, key = {json.dumps(server)} }}",
    }
    node = RunningNode(tmp_path, PIPELINE, env=env)
    for scope in ("operate", "admin"):
        assert skerry(tmp_path, "token", "create", scope, "--scope", scope, "--out", f"{scope}.token").returncode == 0
    with node:
        url = str(node.status()["broker"]["url"])
        assert url.startswith("https://0.0.0.0:")
        yield node, url.replace("0.0.0.0", "127.0.0.1")


def test_a_node_is_driven_from_elsewhere(far: tuple[RunningNode, str], tmp_path: Path) -> None:
    node, url = far
    there = ["--url", url, "--ca", "ca.pem"]
    operator = [*there, "--token-file", "operate.token"]
    assert json.loads(skerry(tmp_path, "status", "--json", *operator).stdout)["node"] == "rock"
    assert skerry(tmp_path, "pipeline", "pause", "p", *operator).returncode == 0
    until(lambda: node.pipeline("p")["state"] == "paused", 5, "the pipeline is paused")
    refused = [
        (3, skerry(tmp_path, "status", "--url", url, "--token-file", "operate.token"), "signed by a CA that is not known here"),
        (1, skerry(tmp_path, "status", *there), "needs a token"),
        (1, skerry(tmp_path, "config", "reload", *operator), "needs the scope 'admin', which this token has not"),
    ]
    for code, done, said in refused:
        assert (done.returncode, done.stdout) == (code, "")
        assert said in done.stderr
    _ends_with_its_token(node, url, tmp_path)
    lines = json.loads(skerry(tmp_path, "logs", "--audit", "--json", "-n", "100").stdout)["audit"]
    found = [(each["event"], each.get("by", "")) for each in lines]
    me = f"unix:{os.getuid()}"
    for wanted in [
        ("token created", me),
        ("pipeline paused", "token:operate"),
        ("api request refused", "token:operate"),
        ("api request refused", ""),
        ("token revoked", me),
    ]:
        assert wanted in found
    assert not [each for each in node.status()["warnings"] if "HTTP" in each]
    with node.client() as client:
        assert client.get(f"{API}/tokens")["tokens"][0]["name"] == "admin"


def _ends_with_its_token(node: RunningNode, url: str, folder: Path) -> None:
    """An open event stream ends within seconds after its token was revoked, and the token is refused from then on."""
    secret = (folder / "operate.token").read_text().strip()
    client = Client(url, 10.0, token=secret, ca=folder / "ca.pem")
    ended: list[str] = []

    def read() -> None:
        try:
            ended.extend(message.event for message in client.stream(f"{API}/events/stream"))
        except SkerryError as error:
            ended.append(str(error))

    reader = threading.Thread(target=read)
    reader.start()
    until(lambda: _open(url, folder, secret), 5, "the node answers with this token")
    assert skerry(folder, "token", "revoke", "operate").returncode == 0
    reader.join(5)
    assert ended == ["error"]
    with Client(url, 10.0, token=secret, ca=folder / "ca.pem") as again, pytest.raises(UnauthorizedError, match="not known here"):
        again.get(f"{API}/node")


def _open(url: str, folder: Path, secret: str) -> bool:
    with Client(url, 10.0, token=secret, ca=folder / "ca.pem") as client:
        return bool(client.get(f"{API}/pipelines"))
