"""`[broker]` and the file that nats-server gets."""

import re
import subprocess
import tempfile
from pathlib import Path
from typing import Any

import msgspec
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from skerry.broker import BrokerConfig, parse_address
from skerry.broker.binary import find_binary
from skerry.broker.config import ServerPlan, render
from skerry.core.errors import ConfigError
from skerry.core.settings import build

PLAN = ServerPlan(
    name="skerry",
    client_port=4222,
    monitor_port=8222,
    mqtt_host="0.0.0.0",
    mqtt_port=1883,
    store_dir="/srv/jetstream",
    max_store=1 << 30,
    sync="1s",
    max_connections=10_000,
    log_file="/srv/nats.log",
    pid_file="/srv/nats.pid",
    issuer="ABJHLOVMPA4CI6R5KLNGOB4GSLNIY7IOUPAJC4YFNDLQVIOBYQGUWVLA",
    agent_password="a" * 48,
    relay_password="b" * 48,
    sys_password="c" * 48,
)


def broker(**fields: Any) -> BrokerConfig:
    return build(BrokerConfig, fields, "skerry.toml: broker")


def test_defaults() -> None:
    config = broker()
    assert config.address == ("127.0.0.1", 1883)
    assert config.max_payload_bytes == 1 << 20
    assert (config.sync, config.retention.age, config.max_connections, config.anonymous) == ("auto", "24h", 10_000, False)


@pytest.mark.parametrize(
    ("fields", "key", "says"),
    [
        ({"mqtt": "1883"}, "mqtt", "'1883' is not an address; allowed: host:port"),
        ({"mqtt": "a:b:1883"}, "mqtt", "is not an address"),
        ({"mqtts": "0.0.0.0:8883"}, "mqtts", "needs a certificate; set tls = { cert, key }; skerry init --tls makes both"),
        ({"websocket": "8083"}, "websocket", "'8083' is not an address"),
        ({"tls": {"cert": "c.pem", "key": "k.pem"}}, "tls", "is of no use without mqtts or websocket; add mqtts"),
        ({"mqtts": "[::]:8883", "tls": {"cert": "c.pem"}}, "tls", "key"),
        ({"mqtts": "[::]:8883", "tls": {"cert": "c.pem", "key": ""}}, "tls.key", "names no file; skerry init --tls makes"),
        ({"mqtts": "[::]:8883", "tls": {"cert": "c", "key": "k", "port": "1"}}, "tls", "port"),
        ({"mqtt": ""}, "mqtt", "no device could connect; set mqtt, mqtts or websocket"),
        ({"sync": "0s"}, "sync", "must be more than 0"),
        ({"sync": "often"}, "broker", "'often' is not a duration"),
        ({"max_payload": "100B"}, "max_payload", "100B is out of range; allowed: 1KiB to 8MiB"),
        ({"max_payload": "9MiB"}, "max_payload", "out of range"),
        ({"max_connections": 3}, "max_connections", "3 is out of range"),
        ({"retention": {"age": "0s"}}, "age", "must be more than 0"),
        ({"retention": {"size": "1MiB"}}, "size", "must be 16MiB or more"),
        ({"retention": {"sizes": "1GiB"}}, "retention", "unknown key 'sizes', did you mean 'size'?"),
        ({"mqt": "x"}, "broker", "unknown key 'mqt', did you mean 'mqtt'?"),
    ],
)
def test_what_is_wrong_is_named(fields: dict[str, Any], key: str, says: str) -> None:
    with pytest.raises(ConfigError) as caught:
        broker(**fields)
    assert says in str(caught.value)
    assert str(caught.value).startswith("skerry.toml: broker")
    assert key in caught.value.where


@pytest.mark.parametrize(
    ("text", "address"),
    [
        ("127.0.0.1:1883", ("127.0.0.1", 1883)),
        ("0.0.0.0:0", ("0.0.0.0", 0)),
        ("gateway-1.plant.example:8883", ("gateway-1.plant.example", 8883)),
        ("[::1]:1883", ("::1", 1883)),
        ("[fe80::1%eth0]:65535", ("fe80::1%eth0", 65535)),
    ],
)
def test_addresses(text: str, address: tuple[str, int]) -> None:
    assert parse_address(text, "mqtt") == address


@pytest.mark.parametrize(
    "text",
    ["", ":1883", "host", "host:", "host:x", "host:65536", "host:-1", "host:１", "::1:1883", "[::1]", "[]:1", "[host]:1", "[::1:1",
     "a b:1", 'a"b:1', "a/b:1", "mqtt://a:1", "host:1\n", "host:000001"],
)  # fmt: skip
def test_what_is_no_address(text: str) -> None:
    with pytest.raises(ConfigError, match=r"is not an address; allowed: host:port, such as"):
        parse_address(text, "mqtt")


@given(st.text(max_size=40))
def test_no_text_crashes_the_address_parser(text: str) -> None:
    try:
        host, port = parse_address(text, "mqtt")
    except ConfigError:
        return
    assert host
    assert 0 <= port <= 65535


@given(st.one_of(st.ip_addresses(v=4), st.ip_addresses(v=6)), st.integers(0, 65535))
def test_every_address_is_read_back(host: Any, port: int) -> None:
    text = f"[{host}]:{port}" if ":" in str(host) else f"{host}:{port}"
    assert parse_address(text, "mqtt") == (str(host), port)


def quoted(text: str) -> list[str]:
    """The quoted strings of a configuration, read by the rules of nats-server: `\\xHH` is a byte, all else is itself."""
    found = re.findall(r'"((?:[^"\\]|\\x[0-9a-f]{2})*)"', text)
    return [re.sub(r"\\x(..)", lambda match: chr(int(match[1], 16)), one) for one in found]


@given(st.text(st.characters(exclude_categories=["Cs"]), min_size=1), st.text(st.characters(exclude_categories=["Cs"]), min_size=1))
def test_no_path_or_password_leaves_its_quotes(path: str, password: str) -> None:
    text = render(msgspec.structs.replace(PLAN, store_dir=path, agent_password=password))
    plain = render(PLAN)
    assert text.count("\n") == plain.count("\n")
    found = quoted(text)
    assert path in found
    assert password in found
    assert len(found) == len(quoted(plain))


def test_the_nodes_own_users_are_bound_to_their_kind_of_connection() -> None:
    text = render(PLAN)
    assert re.search(r'user: "\$agent", password: "a{48}", allowed_connection_types: \["STANDARD"\]', text)
    assert re.search(r'user: "\$relay", password: "b{48}", allowed_connection_types: \["MQTT"\]', text)
    assert re.search(r'user: "\$sys", password: "c{48}", allowed_connection_types: \["STANDARD"\]', text)
    assert 'auth_users: ["$agent", "$relay", "$sys"]' in text


@pytest.mark.parametrize(("sync", "rendered"), [("always", "always"), ("1s", "1000ms"), ("2m", "120000ms"), ("10us", "1ms")])
def test_sync(sync: str, rendered: str) -> None:
    assert f"  sync_interval: {rendered}\n" in render(msgspec.structs.replace(PLAN, sync=sync))


def test_only_mqtt_listens_beyond_loopback() -> None:
    listening = re.findall(r"^\s*(?:listen|http|host): (.*)$", render(PLAN), re.MULTILINE)
    assert listening == ['"127.0.0.1:4222"', '"127.0.0.1:8222"', '"0.0.0.0"']


def check(folder: Path, text: str) -> subprocess.CompletedProcess[str]:
    file = folder / "nats.conf"
    file.write_text(text, encoding="utf-8")
    argv = [str(find_binary().path), "-t", "-c", str(file)]
    return subprocess.run(argv, capture_output=True, text=True, check=False)


@pytest.mark.parametrize(
    "changed",
    [
        {},
        {"sync": "always"},
        {"mqtt_host": "::1"},
        {"store_dir": '/srv/we "ird\\ $x {d} #é\t\n\x01', "log_file": "/srv/it's; here,", "pid_file": "/srv/$2a$10"},
        {"agent_password": '$x" }{ \\', "sys_password": "123", "relay_password": "true"},
    ],
)
def test_nats_server_takes_it(tmp_path: Path, changed: dict[str, Any]) -> None:
    checked = check(tmp_path, render(msgspec.structs.replace(PLAN, **changed)))
    assert checked.returncode == 0, checked.stderr
    assert "is valid" in checked.stderr


def test_nats_server_refuses_what_is_wrong(tmp_path: Path) -> None:
    assert check(tmp_path, render(PLAN).replace("ack_wait", "ack_weight")).returncode == 1


@settings(max_examples=15, deadline=None)
@given(st.text(st.characters(exclude_categories=["Cs"], exclude_characters="\0"), min_size=1, max_size=30))
def test_nats_server_takes_every_password(text: str) -> None:
    with tempfile.TemporaryDirectory() as folder:
        checked = check(Path(folder), render(msgspec.structs.replace(PLAN, relay_password=text, pid_file=text)))
    assert checked.returncode == 0, checked.stderr


@pytest.mark.parametrize(
    ("fields", "address", "websocket"),
    [
        ({}, ("127.0.0.1", 1883), None),
        ({"mqtt": "", "mqtts": "[::]:8883", "tls": {"cert": "c", "key": "k"}}, ("127.0.0.1", 0), None),
        ({"websocket": "0.0.0.0:8083"}, ("127.0.0.1", 1883), ("0.0.0.0", 8083)),
        ({"websocket": "0.0.0.0:8084", "tls": {"cert": "c", "key": "k"}}, ("127.0.0.1", 1883), ("127.0.0.1", 0)),
    ],
    ids=["plain", "TLS only", "WebSocket", "WebSocket with TLS"],
)
def test_where_the_server_listens(fields: dict[str, Any], address: tuple[str, int], websocket: tuple[str, int] | None) -> None:
    """Behind TLS it is on loopback, where the kernel finds a port."""
    config = broker(**fields)
    assert (config.address, config.websocket_address) == (address, websocket)


def test_a_websocket_block_is_taken_by_the_server(tmp_path: Path) -> None:
    assert "websocket" not in render(PLAN)
    text = render(msgspec.structs.replace(PLAN, websocket_host="127.0.0.1", websocket_port=8083))
    assert re.search(r'websocket \{\n  host: "127\.0\.0\.1"\n  port: 8083\n  no_tls: true\n\}', text)
    assert check(tmp_path, text).returncode == 0


def test_pages_are_kept_off_where_nobody_has_to_say_who_he_is(tmp_path: Path) -> None:
    plan = msgspec.structs.replace(PLAN, websocket_host="127.0.0.1", websocket_port=8083, websocket_pages=False)
    text = render(plan)
    assert re.search(r'  no_tls: true\n  allowed_origins: \["https://nowhere\.invalid"\]\n\}', text)
    assert check(tmp_path, text).returncode == 0


def test_a_server_that_takes_no_devices_has_no_port_for_them() -> None:
    text = render(msgspec.structs.replace(PLAN, mqtt_port=0))
    assert "mqtt {" in render(PLAN)
    assert "mqtt" not in text
