"""Each kind of centre: what it acknowledges is there, what it refuses is told in a sentence, and secrets are in no message."""

import asyncio
import random
import shutil
import subprocess
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager, contextmanager
from pathlib import Path

import pytest

from skerry.broker import StreamPlan, WireClient, ensure, find_binary, read_page
from skerry.core.errors import ConfigError, UnavailableError
from skerry.runtime import free_ports
from skerry.uplink import encode_envelope
from skerry.uplink.credentials import read_credentials
from skerry.uplink.item import Item
from skerry.uplink.targets import Place, Target, open_target
from skerry.uplink.targets import mqtt as mqtt_module
from tests.fixtures.nats import NatsServer, until
from tests.fixtures.rough_link import RoughLink
from tests.uplink.centre import Centre
from tests.uplink.test_receive import envelope

pytestmark = pytest.mark.asyncio
ENVELOPE = envelope(1, 3)


@asynccontextmanager
async def opened(
    kind: str, url: str, folder: Path, credentials: str = "", **more: object
) -> AsyncIterator[tuple[Target, list[bytes]]]:
    """The target, and the commands that it hands on."""
    taken: list[bytes] = []
    path = None
    if credentials:
        path = folder / "credentials"
        path.touch(0o600)
        path.write_text(credentials)
    place = Place(kind, url, "rock", "shore", credentials=path, **more)  # type: ignore[arg-type]  # named as Place has them
    target = open_target(place, taken.append)
    try:
        yield target, taken
    finally:
        await target.close()


async def test_a_file_is_whole_under_its_name_or_not_there(tmp_path: Path) -> None:
    stick = tmp_path / "stick"
    async with opened("file", str(stick), tmp_path) as (target, _):
        with pytest.raises(UnavailableError, match="it is not there; plug in the stick"):
            await target.send(ENVELOPE)
        assert not stick.exists()
        stick.mkdir()
        await target.send(ENVELOPE)
        await target.send(ENVELOPE)
        await target.send(envelope(4, 9))
        names = ["rock-q1-alarm-000000000001-000000000003.skup", "rock-q1-alarm-000000000004-000000000009.skup"]
        assert sorted(path.name for path in stick.iterdir()) == names
        assert (stick / names[0]).read_bytes() == ENVELOPE


async def test_a_full_stick_is_told_and_leaves_no_half_file(small_disk: Path, tmp_path: Path) -> None:
    (small_disk / "ballast").write_bytes(bytes(48 * 1024 * 1024 - 8192))
    body = random.Random(1).randbytes(64 * 1024)
    noisy = encode_envelope("rock", "shore", "q1", "bulk", [(1, Item("raw", "bulk", "r", "p", 1, 1, body))])
    async with opened("file", str(small_disk), tmp_path) as (target, _):
        with pytest.raises(UnavailableError, match="the disk is full"):
            await target.send(noisy)
        assert list(small_disk.glob("*.skup")) == []  # noqa: ASYNC240 - a test may look at its disk
        (small_disk / "ballast").unlink()
        await target.send(ENVELOPE)


async def test_http_takes_a_token_and_hands_commands_on(tmp_path: Path) -> None:
    async with Centre() as centre, opened("http", f"http://127.0.0.1:{centre.port}", tmp_path, "secret-token") as (target, taken):
        centre.commands = ["aGFsbG8=", "***"]
        await target.send(ENVELOPE)
        assert centre.taken == [ENVELOPE]
        assert centre.tokens == ["Bearer secret-token"]
        assert taken == [b"hallo"]


@pytest.mark.parametrize("url", ["http://127.0.0.1", "mqtt://u:pass-word@127.0.0.1", "nats://u:pass-word@127.0.0.1"])
async def test_nobody_at_the_other_end_is_unavailable(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, url: str) -> None:
    monkeypatch.setattr(mqtt_module, "TIMEOUT_S", 1.0)
    where = f"{url}:{free_ports('127.0.0.1', [0])[0]}"
    async with opened(url.partition(":")[0], where, tmp_path) as (target, _):
        with pytest.raises(UnavailableError) as caught:
            await target.send(ENVELOPE)
        assert "pass-word" not in f"{caught.value} {target.where}"


async def stored(client: WireClient, subject: str = "uplink.>") -> list[bytes]:
    return [each.payload for each in await read_page(client, "central", subject, 0)]


async def test_nats_is_acknowledged_by_the_stream(server: NatsServer, client: WireClient, tmp_path: Path) -> None:
    url = f"nats://127.0.0.1:{server.port}"
    async with opened("nats", url, tmp_path, 'username = "agent"\npassword = "pw"', commands=True) as (target, taken):
        with pytest.raises(UnavailableError, match=r"uplink\.shore\.rock"):
            await target.send(ENVELOPE)
        await ensure(client, StreamPlan("central", ("uplink.>",), 1 << 20, "new"))
        await target.send(ENVELOPE)
        await target.send(ENVELOPE)
        await target.send(envelope(4, 5))
        assert await stored(client, "uplink.shore.rock") == [ENVELOPE, envelope(4, 5)]
        client.publish(b"uplink-commands.shore.rock", b"order")
        await until(lambda: taken == [b"order"])
        server.kill()
        with pytest.raises(UnavailableError):
            await target.send(envelope(6, 7))
        server.start()
        second = await server.client()
        await target.send(envelope(6, 7))
        assert (await stored(second))[-1] == envelope(6, 7)
        second.close()
    async with opened("nats", url, tmp_path, 'username = "agent"\npassword = "wrong"') as (target, _):
        with pytest.raises(UnavailableError, match=r"(?i)authorization violation.*credentials"):
            await target.send(ENVELOPE)


@contextmanager
def nats_server(folder: Path, text: str) -> Iterator[int]:
    port = free_ports("127.0.0.1", [0])[0]
    (folder / "central.conf").write_text(f'port: {port}\nhost: "127.0.0.1"\njetstream {{ store_dir: "{folder}/central" }}\n{text}')
    with (folder / "central.log").open("ab") as log:
        process = subprocess.Popen([str(find_binary().path), "-c", str(folder / "central.conf")], stderr=log)
    try:
        yield port
    finally:
        process.terminate()
        process.wait(10)


async def test_nats_with_tls_and_a_token(tmp_path: Path) -> None:
    openssl = ["openssl", "req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:prime256v1", "-nodes", "-days", "2"]
    names = ["-subj", "/CN=localhost", "-addext", "subjectAltName=DNS:localhost", "-keyout", "c.key", "-out", "c.crt"]
    await asyncio.to_thread(subprocess.run, [*openssl, *names], cwd=tmp_path, check=True, capture_output=True)
    config = f'tls {{ cert_file: "{tmp_path}/c.crt", key_file: "{tmp_path}/c.key" }}\nauthorization {{ token: "open-sesame" }}\n'
    with nats_server(tmp_path, config) as port:
        ca = str(tmp_path / "c.crt")
        async with opened("nats", f"tls://localhost:{port}", tmp_path, "open-sesame", ca=ca) as (target, _):
            await until_listens(port)
            with pytest.raises(UnavailableError, match="nothing answers on"):
                await target.send(ENVELOPE)
        async with opened("nats", f"tls://localhost:{port}", tmp_path, "wrong-token", ca=ca) as (target, _):
            with pytest.raises(UnavailableError, match=r"(?i)authorization"):
                await target.send(ENVELOPE)
        async with opened("nats", f"tls://localhost:{port}", tmp_path, "open-sesame") as (target, _):
            with pytest.raises(UnavailableError, match="TLS cannot be agreed on"):
                await target.send(ENVELOPE)
        async with opened("nats", f"nats://localhost:{port}", tmp_path, "open-sesame") as (target, _):
            with pytest.raises(UnavailableError, match="asks for TLS"):
                await target.send(ENVELOPE)


async def test_nats_needs_leave_for_its_own_subjects_alone(tmp_path: Path) -> None:
    """As docs/uplink.md says them."""
    allowed = '{ publish: ["uplink.shore.rock"], subscribe: ["uplink-commands.shore.rock", "_INBOX.>"] }'
    rock = f"{{ user: rock, password: pw, permissions: {allowed} }}"
    config = f"authorization {{ users: [ {rock}, {{ user: centre, password: pw }} ] }}\n"
    with nats_server(tmp_path, config) as port:
        await until_listens(port)
        centre = await WireClient.connect("127.0.0.1", port, "centre", "pw", "centre")
        await ensure(centre, StreamPlan("central", ("uplink.>",), 1 << 20, "new"))
        login = 'username = "rock"\npassword = "pw"'
        async with opened("nats", f"nats://127.0.0.1:{port}", tmp_path, login, commands=True) as (target, taken):
            await target.send(ENVELOPE)
            assert await stored(centre) == [ENVELOPE]
            centre.publish(b"uplink-commands.shore.rock", b"order")
            await until(lambda: taken == [b"order"], 30)
        centre.close()


async def until_listens(port: int) -> None:
    async with asyncio.timeout(20):
        while True:
            try:
                (await asyncio.open_connection("127.0.0.1", port))[1].close()
                return
            except OSError:
                await asyncio.sleep(0.05)


@contextmanager
def mosquitto(folder: Path, acl: str) -> Iterator[int]:
    port = free_ports("127.0.0.1", [0])[0]
    binary = shutil.which("mosquitto") or shutil.which("mosquitto", path="/usr/sbin")
    if binary is None:
        pytest.skip("mosquitto is not installed")
    (folder / "acl").write_text(acl)
    (folder / "m.conf").write_text(f"listener {port} 127.0.0.1\nallow_anonymous true\nacl_file {folder}/acl\nuser root\n")
    process = subprocess.Popen([binary, "-c", str(folder / "m.conf")], stderr=subprocess.DEVNULL)
    try:
        yield port
    finally:
        process.terminate()
        process.wait(10)


@pytest.mark.parametrize(
    ("acl", "permission"),
    [
        ("topic readwrite #\n", "hands on"),
        ("topic write uplink/shore/rock\ntopic write uplink/shore/rock/probe\n", ""),
        ("topic read #\n", None),
    ],
    ids=["all", "write-only", "read-only"],
)
async def test_a_broker_that_drops_what_it_acknowledges_is_found(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, acl: str, permission: str | None
) -> None:
    monkeypatch.setattr(mqtt_module, "PROBE_S", 1.0)
    with mosquitto(tmp_path, acl) as port:
        await until_listens(port)
        async with opened("mqtt", f"mqtt://127.0.0.1:{port}", tmp_path) as (target, _):
            if permission:
                await target.send(ENVELOPE)
                assert permission in target.permission  # type: ignore[attr-defined]  # of the MQTT target alone
            else:
                with pytest.raises(UnavailableError, match=r"does not hand it on; permit|does not take the message: not"):
                    await target.send(ENVELOPE)


async def test_mqtt_reaches_a_subscriber_and_hands_commands_on(server: NatsServer, client: WireClient, tmp_path: Path) -> None:
    from skerry.mqtt import MqttClient, MqttConfig  # late: named as the target's own module is

    log_in = 'username = "agent"\npassword = "pw"'
    async with (
        RoughLink(server.mqtt_port) as link,
        opened("mqtt", f"mqtt://127.0.0.1:{link.port}", tmp_path, log_in, commands=True) as (
            target,
            taken,
        ),
    ):
        url = f"mqtt://agent:pw@127.0.0.1:{server.mqtt_port}"
        async with MqttClient(MqttConfig(url)) as centre, centre.subscribe("uplink/+/+") as messages:
            await target.send(ENVELOPE)
            async with asyncio.timeout(20):
                message = await anext(aiter(messages))
            assert (message.topic, message.payload) == ("uplink/shore/rock", ENVELOPE)
            await centre.publish("uplink-commands/shore/rock", b"order")
            await until(lambda: taken == [b"order"])
            link.cut()
            waiting = asyncio.create_task(target.send(envelope(4, 5)))
            await centre.publish("uplink-commands/shore/rock", b"while it was away")
            await asyncio.sleep(0.2)
            link.mend()
            await asyncio.gather(waiting, return_exceptions=True)
            await target.send(envelope(4, 5))
            await until(lambda: b"while it was away" in taken, 20)


@pytest.mark.parametrize(
    ("text", "found"),
    [
        ("sk_abcdefgh12345678\n", {"token": "sk_abcdefgh12345678"}),
        ("YWJjZGVmZ2g=\n", {"token": "YWJjZGVmZ2g="}),
        ('username = "rock"\npassword = "p=q"', {"username": "rock", "password": "p=q"}),
        (
            (
                "-----BEGIN NATS USER JWT-----\neyJ0\n------END NATS USER JWT------\n\n"
                "-----BEGIN USER NKEY SEED-----\nSUAB\n------END USER NKEY SEED------\n"
            ),
            {"jwt": "eyJ0", "seed": "SUAB"},
        ),
    ],
)
async def test_credentials(tmp_path: Path, text: str, found: dict[str, str]) -> None:
    file = tmp_path / "c"
    file.touch(0o600)
    file.write_text(text)
    known = read_credentials(file)
    assert {name: getattr(known, name) for name in found} == found
    assert repr(known) == "Credentials(…)"


@pytest.mark.parametrize("text", ["two words", 'user = "x"', "username = 5"])
async def test_what_holds_no_credentials_is_told(tmp_path: Path, text: str) -> None:
    (tmp_path / "c").write_text(text)
    with pytest.raises(ConfigError, match=str(tmp_path)):
        read_credentials(tmp_path / "c")
    with pytest.raises(ConfigError, match="cannot be read"):
        read_credentials(tmp_path / "none")


async def test_an_url_of_another_kind_is_refused(tmp_path: Path) -> None:
    for kind, url in (("nats", "http://x"), ("mqtt", "nats://x"), ("nats", "nats://x/path")):
        with pytest.raises(ConfigError):
            async with opened(kind, url, tmp_path):
                pass
    with pytest.raises(ConfigError, match="is no endpoint"):
        async with opened("http", "http://a:b@x", tmp_path) as (target, _):
            await target.send(ENVELOPE)
