"""Log-in at a real node: each kind of credential with a real MQTT client, and what ends it: expiry, rotation, revocation."""

import asyncio
import base64
import json
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import aiohttp
import pytest

from skerry.config import load
from skerry.core.clock import SystemClock
from skerry.core.service import cancel_and_wait
from skerry.device.challenge import signed_message
from skerry.node import Node
from skerry.trust import SigningKey
from tests.broker.callout_rig import Mqtt, within
from tests.broker.tls_rig import TlsMqtt
from tests.fixtures.certificates import Site

TOML = """
[node]
name = "box"
[broker]
mqtt = "127.0.0.1:0"
{broker}
[api]
listen = "127.0.0.1:0"
[devices]
{devices}
"""
PASSWORD = "correct-horse"
NOT_AUTHORISED = 135  # CONNACK 5 of MQTT 3.1.1, as paho's reason codes have it
Row = dict[str, Any]


class Running:
    """A node, and clients of it."""

    def __init__(self, node: Node, session: aiohttp.ClientSession) -> None:
        self.node = node
        self.view = node.view
        self._session = session

    @property
    def port(self) -> int:
        return int(self.node.mqtt_address.rpartition(":")[2])

    def mqtt(self, user: str | None, password: str | None, client_id: str = "") -> Mqtt:
        return Mqtt(self.port, client_id or f"of-{user}", user, password)

    async def post(self, path: str, body: Row) -> tuple[int, Row]:
        async with self._session.post(f"http://{self.node.http_address}{path}", data=json.dumps(body)) as answer:
            return answer.status, json.loads(await answer.read())

    async def log_in(self, device: str, key: SigningKey) -> tuple[int, Row]:
        """What the log-in over HTTP answers."""
        _, asked = await self.post("/auth/challenge", {"device": device})
        signature = key.sign(signed_message(device, base64.b64decode(asked["challenge"])))
        signed = {"challenge": asked["challenge"], "signature": base64.b64encode(signature).decode()}
        return await self.post("/auth/token", {"device": device, **signed})

    async def code(self, user: str | None, password: str | None) -> int | None:
        """How the broker answers this log-in."""
        async with self.mqtt(user, password) as client:
            return client.code


@asynccontextmanager
async def running(folder: Path, devices: str = "", broker: str = "") -> AsyncIterator[Running]:
    (folder / "skerry.toml").write_text(TOML.format(devices=devices, broker=broker))
    node = Node(load(folder / "skerry.toml"))
    task = asyncio.create_task(node.run())
    try:
        await within(30, lambda: task.done() or (node.link.opened.is_set() and node.api.listening.is_set()))
        assert not task.done(), task.exception()
        async with aiohttp.ClientSession() as session:
            yield Running(node, session)
        assert not task.done(), task.exception()
    finally:
        await cancel_and_wait(task)


@pytest.mark.asyncio
async def test_a_key_a_challenge_a_token(tmp_path: Path) -> None:
    async with running(tmp_path) as here:
        key = SigningKey.new()
        made = await here.view.device_add("pump-1", [], key=key.public_pem())
        assert "password" not in made
        status, answer = await here.log_in("pump-1", key)
        assert (status, answer["expires_in"]) == (200, 3600)
        async with here.mqtt("pump-1", answer["token"]) as client:
            assert client.code == 0
            await client.publish("devices/pump-1/x", b"1")
            assert await client.subscribe("commands/pump-1/#") == 1
            assert await client.subscribe("commands/pump-2/#") == 0x80
            assert not client.ended
        assert await here.code("pump-1", answer["token"]) == 0, "good until it expires, on every connection"
        for user, password in (("pump-2", answer["token"]), ("pump-1", answer["token"][:-4]), ("pump-1", ""), ("pump-1", None)):
            assert await here.code(user, password) == NOT_AUTHORISED
        stranger, unknown = await here.log_in("pump-1", SigningKey.new()), await here.log_in("nobody", key)
        assert stranger == unknown
        assert stranger[0] == 401
        row = await here.view.device("pump-1")
        assert row is not None
        assert (row["kind"], row["last_login"]["address"]) == ("key", "127.0.0.1")
        refused = (await here.view.status())["broker"]["refused"]
        assert (refused["bad-signature"], refused["unknown"], refused["bad-token"]) == (1, 2, 3)
        assert 'skerry_auth_refused_total{reason="bad-signature"} 1.0' in here.view.metrics()
        key_file = tmp_path / "data" / "keys" / "tokens.seed"
        assert key_file.stat().st_mode & 0o777 == 0o600


@pytest.mark.asyncio
async def test_a_token_that_expires_ends_the_connection(tmp_path: Path) -> None:
    async with running(tmp_path, 'token_ttl = "3s"') as here:
        key = SigningKey.new()
        await here.view.device_add("pump-1", [], key=key.public_pem())
        _, answer = await here.log_in("pump-1", key)
        assert answer["expires_in"] == 3
        async with here.mqtt("pump-1", answer["token"]) as client:
            assert (client.code, client.ended) == (0, False)
            await client.publish("devices/pump-1/x")
            await within(6, lambda: client.ended)
        assert await here.code("pump-1", answer["token"]) == NOT_AUTHORISED
        _, answer = await here.log_in("pump-1", key)
        assert await here.code("pump-1", answer["token"]) == 0


@pytest.mark.asyncio
async def test_a_challenge_lives_as_long_as_the_configuration_says(tmp_path: Path) -> None:
    async with running(tmp_path, 'challenge_ttl = "1s"') as here:
        key = SigningKey.new()
        await here.view.device_add("pump-1", [], key=key.public_pem())
        _, asked = await here.post("/auth/challenge", {"device": "pump-1"})
        assert asked["expires_in"] == 1
        signature = base64.b64encode(key.sign(signed_message("pump-1", base64.b64decode(asked["challenge"])))).decode()
        await asyncio.sleep(1.05)
        late = {"device": "pump-1", "challenge": asked["challenge"], "signature": signature}
        assert (await here.post("/auth/token", late))[0] == 401


@pytest.mark.asyncio
async def test_rotate_revoke_and_remove_cut_what_is_connected(tmp_path: Path) -> None:
    async with running(tmp_path) as here:
        keys = {name: SigningKey.new() for name in ("rotated", "revoked", "removed")}
        tokens = {}
        for name, key in keys.items():
            await here.view.device_add(name, [], key=key.public_pem())
            tokens[name] = (await here.log_in(name, key))[1]["token"]
        changes = {
            "rotated": here.view.device_rotate("rotated", None, SigningKey.new().public_pem(), ""),
            "revoked": here.view.device_revoke("revoked"),
            "removed": here.view.device_remove("removed"),
        }
        for name, change in changes.items():
            async with here.mqtt(name, tokens[name]) as client, here.mqtt(name, tokens[name], f"second-{name}") as second:
                assert (client.code, second.code) == (0, 0)
                await change
                await within(1, lambda client=client, second=second: client.ended and second.ended)
            assert await here.code(name, tokens[name]) == NOT_AUTHORISED
            assert (await here.log_in(name, keys[name]))[0] == 401


@pytest.mark.asyncio
async def test_a_password_and_its_rotation(tmp_path: Path) -> None:
    async with running(tmp_path) as here:
        await here.view.device_add("pump-1", [], PASSWORD)
        async with here.mqtt("pump-1", PASSWORD) as client:
            assert client.code == 0
            made = await here.view.device_rotate("pump-1", None, "", "")
            await within(1, lambda: client.ended)
        assert await here.code("pump-1", PASSWORD) == NOT_AUTHORISED
        assert await here.code("pump-1", made["password"]) == 0
        assert (await here.log_in("pump-1", SigningKey.new()))[0] == 401, "a device with a password has no key"
        status, problem = await here.post("/api/v1/devices/pump-1/rotate", {"key": SigningKey.new().pem()})
        assert (status, "private key" in problem["detail"]) == (400, True)
        status, made = await here.post("/api/v1/devices/pump-1/rotate", {"certificate": "ca"})
        assert (status, made["kind"]) == (200, "certificate")


@pytest.mark.asyncio
async def test_tokens_outlive_the_node_and_challenges_do_not(tmp_path: Path) -> None:
    key = SigningKey.new()
    async with running(tmp_path) as here:
        await here.view.device_add("pump-1", [], key=key.public_pem())
        token = (await here.log_in("pump-1", key))[1]["token"]
        _, asked = await here.post("/auth/challenge", {"device": "pump-1"})
    async with running(tmp_path) as here:
        assert await here.code("pump-1", token) == 0
        signature = base64.b64encode(key.sign(signed_message("pump-1", base64.b64decode(asked["challenge"])))).decode()
        old = {"device": "pump-1", "challenge": asked["challenge"], "signature": signature}
        assert (await here.post("/auth/token", old))[0] == 401


@pytest.mark.asyncio
async def test_certificates_with_and_without_a_user_name(tmp_path: Path) -> None:
    site = Site(tmp_path / "tls", SystemClock().now())
    files = {name: site.device(name) for name in ("by-print", "by-ca", "other")}
    files["stranger"] = site.stranger("stranger")
    broker = f'mqtts = "127.0.0.1:0"\ntls = {{ cert = "{site.cert}", key = "{site.key}", ca = "{site.ca}" }}'
    async with running(tmp_path, broker=broker) as here:
        await here.view.device_add("by-print", [], certificate=files["by-print"].read_text())
        await here.view.device_add("by-ca", [], certificate="ca")
        await here.view.device_add("stranger", [], certificate=files["stranger"].read_text())
        await here.view.device_add("with-password", [], PASSWORD)
        key = SigningKey.new()
        await here.view.device_add("with-key", [], key=key.public_pem())
        await within(5, lambda: here.node.tls.addresses["mqtts"])
        port = int(here.node.tls.addresses["mqtts"].rpartition(":")[2])

        async def connect(own: str | None, user: str | None = None, password: str | None = None) -> int | None:
            certificate = files[own] if own else None
            async with TlsMqtt(port, f"c-{own}-{user}", site.ca, own=certificate, user=user, password=password) as client:
                if client.code == 0 and (name := user or own):
                    await client.publish(f"devices/{name}/x")
                    assert await client.subscribe(f"commands/{name}/#") == 1
                    assert await client.subscribe("devices/#") == 0x80
                return client.code

        for own in ("by-print", "by-ca"):
            assert await connect(own) == 0, "found by its certificate"
            assert await connect(own, own) == 0
        for refused in (("other", None), ("other", "by-ca"), ("by-ca", "by-print"), (None, "by-ca"), (None, None)):
            assert await connect(*refused) == NOT_AUTHORISED, refused
        assert await connect("stranger") is None, "no CA of the site has signed it: there is no handshake"
        assert await connect(None, "with-password", PASSWORD) == 0
        assert await connect("other", "with-password", "wrong-horse") == NOT_AUTHORISED
        assert await connect(None, "with-key", (await here.log_in("with-key", key))[1]["token"]) == 0
        async with TlsMqtt(port, "c", site.ca, own=files["by-ca"]) as client:
            assert client.code == 0
            await here.view.device_revoke("by-ca")
            await within(1, lambda: client.ended)
        assert await connect("by-ca") == NOT_AUTHORISED
        row = await here.view.device("by-print")
        assert row is not None
        assert row["last_login"]["address"] == "127.0.0.1"
