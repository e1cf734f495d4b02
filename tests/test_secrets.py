"""Secrets stay where they belong: a node that logs all it can, every kind of log-in and of change, then a search for each."""

import base64
import ipaddress
import json
import ssl
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import paho.mqtt.client as mqtt
import psutil
import pytest

from skerry.cli import main
from skerry.core.errors import SkerryError
from skerry.device import CHALLENGE_PATH, TOKEN_PATH, answer_to, token_of
from skerry.http import Client
from skerry.trust import SigningKey
from tests.fixtures.node import RunningNode, until

OWN = ("broker/kept.json", "broker/nats.conf")
"""Where the node's own passwords for its broker are, since both ends need them; with `keys/`."""


class Talkative(RunningNode):
    """A node with `-v`: it logs all that it can."""

    def launch(self) -> subprocess.Popen[bytes]:
        argv = [sys.executable, "-m", "skerry.cli", "--config", str(self.file), "-v", "run"]
        with (self.folder / "out.log").open("ab") as out:
            return subprocess.Popen(argv, stdin=subprocess.DEVNULL, stdout=out, stderr=out, env=self._env)


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A directory with a site's CA, the node's certificate, and one for the device `badge`."""
    folder = tmp_path_factory.mktemp("site")
    assert main(["init", str(folder), "--tls", "-q"]) == 0
    issue = ["--config", str(folder / "skerry.toml"), "ca", "issue", "badge", "--out", str(folder / "badge.pem")]
    assert main([*issue, "-q"]) == 0
    return folder


@pytest.fixture(scope="module")
def node(site: Path) -> Iterator[Talkative]:
    tls = site / "data" / "tls"
    lines = f'mqtts = "127.0.0.1:0"\ntls = {{ cert = "{tls}/server.pem", key = "{tls}/server.key", ca = "{tls}/ca.pem" }}'
    folder = site / "node"
    folder.mkdir()
    with Talkative(folder, broker=lines) as running:
        yield running


class Secrets:
    """What was used, by what it is."""

    def __init__(self) -> None:
        self.known: dict[str, bytes] = {}

    def add(self, what: str, secret: str | bytes) -> str:
        raw = secret.encode() if isinstance(secret, str) else secret
        assert len(raw) >= 12, "too short to be looked for"
        self.known[what] = raw
        return raw.decode("latin-1")

    def add_key(self, what: str, key: SigningKey) -> None:
        body = "".join(key.pem().splitlines()[1:-1])
        self.add(f"{what}, PEM", body)
        self.add(f"{what}, bytes", base64.b64decode(body)[-32:])

    def found_in(self, text: bytes) -> list[str]:
        """Also as hexadecimal, and as base64 where it begins at the first byte."""
        forms = {}
        for what, raw in self.known.items():
            base64_of_it = base64.b64encode(raw)[: len(raw) * 4 // 3 - 3]
            forms[what] = (raw, raw.hex().encode(), base64_of_it, json.dumps(raw.decode("latin-1"))[1:-1].encode())
        return [what for what, mine in forms.items() if any(form in text for form in mine)]


def connects(address: str, user: str, password: str, context: ssl.SSLContext | None = None) -> bool:
    client = mqtt.Client(mqtt.CallbackAPIVersion.VERSION2, client_id=user, reconnect_on_failure=False)
    if password:
        client.username_pw_set(user, password)
    if context is not None:
        client.tls_set_context(context)
    answers: list[bool] = []
    client.on_connect = lambda _client, _data, _flags, reason, _properties: answers.append(not reason.is_failure)
    host, _, port = address.rpartition(":")
    client.connect(host, int(port))
    client.loop_start()
    until(lambda: answers, 5, "an answer")
    if answers[0]:
        client.publish(f"devices/{user}/readings", b"{}", qos=1).wait_for_publish(5)
    client.disconnect()
    client.loop_stop()
    return answers[0]


@pytest.fixture(scope="module")
def secrets(node: Talkative, site: Path) -> Secrets:
    """Every kind of log-in, right and wrong, and every change of trust; what they used."""
    used, broker = Secrets(), node.status()["broker"]
    with node.client() as client:
        password = used.add("password", client.post("/api/v1/devices", {"id": "worded"})["password"])
        assert connects(broker["mqtt"], "worded", password)
        assert not connects(broker["mqtt"], "worded", used.add("wrong password", "a-guess-at-the-password"))
        assert not connects(broker["mqtt"], "nobody", used.add("password of nobody", "a-guess-for-nobody"))
        used.add("password after rotation", client.post("/api/v1/devices/worded/rotate", {})["password"])
        keys = [SigningKey.new(), SigningKey.new()]
        client.post("/api/v1/devices", {"id": "keyed", "key": keys[0].public_pem()})
    for number, key in enumerate(keys):
        used.add_key(f"private key {number}", key)
    with Client(f"http://{broker['http']}") as client:
        signed = answer_to("keyed", keys[0], client.post(CHALLENGE_PATH, {"device": "keyed"}))
        token = used.add("token", token_of(client.post(TOKEN_PATH, signed))[0])
        used.add("signature of the token", token.rpartition(".")[2])
        wrong = answer_to("keyed", keys[1], client.post(CHALLENGE_PATH, {"device": "keyed"}))
        with pytest.raises(SkerryError, match="not authorised"):
            client.post(TOKEN_PATH, wrong)
    assert connects(broker["mqtt"], "keyed", token)
    assert not connects(broker["mqtt"], "worded", token)
    context = ssl.create_default_context(cafile=str(site / "data" / "tls" / "ca.pem"))
    context.load_cert_chain(str(site / "badge.pem"))
    used.add("key of the certificate", "".join((site / "badge.pem").read_text().split("-----")[2].split()))
    with node.client() as client:
        client.post("/api/v1/devices", {"id": "badge", "certificate": "ca"})
        assert connects(broker["mqtts"], "badge", "", context)
        bearer = used.add("token of the API", client.post("/api/v1/tokens", {"name": "ops", "scopes": ["admin"]})["token"])
    with Client(f"http://{broker['http']}", token=bearer) as client:
        client.get("/api/v1/devices")
    guess = used.add("wrong token of the API", "sk_" + "x" * 43)
    with Client(f"http://{broker['http']}", token=guess) as client, pytest.raises(SkerryError):
        client.get("/api/v1/tokens")
    with node.client() as client:
        client.delete("/api/v1/tokens/ops")
        client.post("/api/v1/devices/keyed/revoke")
        client.delete("/api/v1/devices/worded")
    assert not connects(broker["mqtt"], "keyed", token)
    for name, value in json.loads((node.data / "broker" / "kept.json").read_text()).items():
        if isinstance(value, str) and len(value) >= 12:
            used.add(f"the node's own password {name}", value)
    for file in (node.data / "keys").iterdir():
        used.add(f"keys/{file.name}", file.read_text().strip())
    return used


def test_all_kinds_of_secrets_were_used(secrets: Secrets) -> None:
    assert len(secrets.known) >= 16
    assert sum(what.startswith("the node's own") for what in secrets.known) == 3
    assert sum(what.startswith("keys/") for what in secrets.known) >= 2


def test_a_secret_is_found_where_there_is_one(secrets: Secrets) -> None:
    password = secrets.known["password"]
    for text in (password, b"x" + password.hex().encode(), b'{"a": "' + base64.b64encode(password) + b'"}'):
        assert secrets.found_in(text) == ["password"]
    assert secrets.found_in(b"nothing here") == []


def test_no_file_outside_keys_holds_a_secret(secrets: Secrets, node: Talkative) -> None:
    files = [path for path in node.folder.rglob("*") if path.is_file() and (node.data / "keys") not in path.parents]
    names = {str(path.relative_to(node.data)) for path in files if path.is_relative_to(node.data)}
    assert {*OWN, "logs/skerry.log", "broker/log/nats.log"} <= names
    assert any(name.startswith("broker/jetstream/") and name.endswith(".blk") for name in names)
    leaks = {str(path): secrets.found_in(path.read_bytes()) for path in files}
    for path in OWN:
        assert {what.partition(" own ")[0] for what in leaks.pop(str(node.data / path))} == {"the node's"}
    assert {path: found for path, found in leaks.items() if found} == {}


def test_the_logs_tell_all_the_same(secrets: Secrets, node: Talkative) -> None:
    log = (node.data / "logs" / "skerry.log").read_text()
    assert '"event": "log-in"' in log
    assert '"event": "log-in refused"' in log
    audit = "".join(path.read_text() for path in sorted((node.data / "logs").glob("audit*")))
    for device in ("worded", "keyed", "badge", "nobody"):
        assert f'"{device}"' in audit


def test_no_command_line_and_no_environment_holds_a_secret(secrets: Secrets, node: Talkative) -> None:
    processes = [psutil.Process(node.agent.pid), *node.children()]
    assert len(processes) >= 3
    for process in processes:
        folder = Path("/proc") / str(process.pid)
        assert secrets.found_in((folder / "cmdline").read_bytes()) == []
        assert secrets.found_in((folder / "environ").read_bytes()) == []


def test_no_answer_of_the_api_holds_a_secret(secrets: Secrets, node: Talkative) -> None:
    with node.client() as client:
        document = client.get("/api/v1/openapi.json")
        readable = [path for path, methods in document["paths"].items() if "get" in methods]
        paths = [path for path in readable if "{" not in path and "stream" not in path]
        assert {"/api/v1/node", "/api/v1/devices", "/api/v1/config", "/api/v1/tokens"} <= set(paths)
        for path in [*paths, "/api/v1/devices/keyed", "/api/v1/devices/badge"]:
            try:
                answer = json.dumps(client.get(path)).encode()
            except SkerryError as error:
                answer = str(error).encode()
            assert secrets.found_in(answer) == [], path


def test_what_the_node_keeps_is_its_owner_s_alone(secrets: Secrets, node: Talkative) -> None:
    assert node.data.stat().st_mode & 0o077 == 0
    private = [*(node.data / "keys").iterdir(), *(node.data / name for name in OWN), *(node.data / "logs").iterdir()]
    for path in [*private, node.data / "skerry.sock"]:
        assert path.stat().st_mode & 0o077 == 0, path


def test_the_node_talks_to_nobody_but_itself(secrets: Secrets, node: Talkative) -> None:
    for process in [psutil.Process(node.agent.pid), *node.children()]:
        for connection in process.net_connections("inet"):
            for end in (connection.laddr, connection.raddr):
                assert not end or ipaddress.ip_address(end.ip).is_loopback, (process.cmdline(), connection)
