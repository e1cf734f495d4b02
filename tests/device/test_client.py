"""A device's side against a real node: each credential, renewed tokens, a broker that dies, commands, and every refusal."""

import asyncio
import base64
import contextlib
from collections.abc import AsyncIterator, Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from skerry import DeviceClient, DeviceConfig, MqttClient, MqttConfig, errors
from skerry.device import answer_to, check_channel, read_key, token_of
from skerry.device.challenge import signed_message
from skerry.trust import SigningKey, verify_strict
from tests.fixtures.node import RunningNode

TOKEN_S = 2
NUMBERS = f"""
[[pipelines]]
name = "numbers"
source = {{ topic = "devices/+/numbers", values = ["n"] }}
[devices]
token_ttl = "{TOKEN_S}s"
"""
Make = Callable[..., DeviceConfig]


@pytest.fixture(scope="module")
def node(tmp_path_factory: pytest.TempPathFactory) -> Iterator[RunningNode]:
    with RunningNode(tmp_path_factory.mktemp("node"), NUMBERS) as running:
        yield running


@pytest.fixture(scope="module")
def addresses(node: RunningNode) -> dict[str, str]:
    found = node.status()["broker"]
    return {"url": f"mqtt://{found['mqtt']}", "api": f"http://{found['http']}"}


@pytest.fixture
def device(node: RunningNode, addresses: dict[str, str], tmp_path: Path) -> Make:
    """Adds a device, with a key unless it is given a password; its configuration."""

    def make(name: str, password: str = "", topics: tuple[str, ...] = (), **fields: Any) -> DeviceConfig:
        key = SigningKey.new()
        (tmp_path / f"{name}.key").write_text(key.pem())
        with node.client() as client:
            known = {} if password else {"key": key.public_pem()}
            added = client.post("/api/v1/devices", {"id": name, "topics": topics, **known})
        mine = {"password": added["password"]} if password else {"key_file": str(tmp_path / f"{name}.key")}
        return DeviceConfig(name, **{**addresses, **mine, "connect_timeout": 5.0, "max_reconnect_delay": 0.5, **fields})

    return make


async def until(condition: Callable[[], object], seconds: float = 15.0) -> None:
    async with asyncio.timeout(seconds):
        while not await asyncio.to_thread(condition):  # noqa: ASYNC110 - what is waited for has no event
            await asyncio.sleep(0.02)


def numbers(node: RunningNode, device: str) -> list[int]:
    """What a device sent, in the log's order."""
    return [int(event["score"]) for event in node.events("numbers") if event["key"] == device]


@contextlib.asynccontextmanager
async def operator(addresses: dict[str, str]) -> AsyncIterator[MqttClient]:
    """Who sends commands."""
    async with MqttClient(MqttConfig(addresses["url"], client_id="operator")) as client:
        yield client


@pytest.mark.asyncio
@pytest.mark.parametrize("password", ["", "yes"])
async def test_a_device_publishes_on_its_own_channels(node: RunningNode, device: Make, password: str) -> None:
    config = device(f"pump{len(password)}", password)
    async with DeviceClient(config) as client:
        assert (client.connected, client.reconnects, client.renewals) == (True, 0, 0)
        await client.publish("numbers", '{"n": 7}')
        await client.publish("numbers", b'{"n": 8}', qos=1, timeout=5)
        assert client.published == 2
        await until(lambda: numbers(node, config.device) == [7, 8])
    assert client.status.endswith("closed")
    with pytest.raises(errors.UnavailableError, match="closed"):
        await client.publish("numbers", b"{}")


@pytest.mark.asyncio
async def test_tokens_are_renewed_before_they_expire_and_nothing_is_lost(node: RunningNode, device: Make) -> None:
    async with DeviceClient(device("steady")) as client:
        began, count = asyncio.get_running_loop().time(), 0
        publishing: list[asyncio.Task[None]] = []
        while asyncio.get_running_loop().time() - began < 1.3 * TOKEN_S:
            publishing.append(asyncio.create_task(client.publish("numbers", f'{{"n": {count}}}')))
            count += 1
            await asyncio.sleep(0.02)
        await asyncio.wait_for(asyncio.gather(*publishing), 10)
        assert client.renewals >= 1
        assert client.reconnects == client.renewals
        await until(lambda: len(set(numbers(node, "steady"))) == count)
        assert list(dict.fromkeys(numbers(node, "steady"))) == list(range(count))


@pytest.mark.asyncio
async def test_what_a_killed_broker_did_not_acknowledge_is_sent_again_in_order(node: RunningNode, device: Make) -> None:
    async with DeviceClient(device("sturdy", max_in_flight=20)) as client:
        publishing = [asyncio.create_task(client.publish("numbers", f'{{"n": {number}}}')) for number in range(3000)]
        await until(lambda: client.published > 500)
        await asyncio.to_thread(node.kill, "nats-server")
        await asyncio.wait_for(asyncio.gather(*publishing), 40)
        assert client.published == 3000
        assert client.reconnects >= 1
    await until(lambda: len(set(numbers(node, "sturdy"))) == 3000)
    assert list(dict.fromkeys(numbers(node, "sturdy"))) == list(range(3000))


@pytest.mark.asyncio
async def test_commands_wait_for_a_device_and_come_again_until_they_are_done(device: Make, addresses: dict[str, str]) -> None:
    config = device("valve", "yes")
    async with DeviceClient(config) as client, operator(addresses) as person:
        commands = client.commands()
        first = asyncio.create_task(anext(commands))
        await asyncio.sleep(0.3)
        await person.publish("commands/valve/open", b"1")
        assert (await asyncio.wait_for(first, 5)).payload == b"1"
    async with operator(addresses) as person:
        await person.publish("commands/valve/open", b"2")
    async with DeviceClient(config) as client:
        # nobody asked for the one after the first: it was not done
        found: list[bytes] = []
        async with asyncio.timeout(10):
            async for command in client.commands():
                found.append(command.payload)
                assert command.topic == "commands/valve/open"
                if b"2" in found and b"1" in found:
                    break
    assert sorted(set(found)) == [b"1", b"2"]


@pytest.mark.asyncio
async def test_readers_of_commands_come_to_their_end(device: Make) -> None:
    async with DeviceClient(device("quiet")) as client:
        reading = asyncio.create_task(anext(client.commands(), None))
        await asyncio.sleep(0.3)
    assert await asyncio.wait_for(reading, 5) is None


@pytest.mark.asyncio
async def test_the_last_will_tells_that_the_connection_was_lost(device: Make, node: RunningNode) -> None:
    viewer = MqttClient(device("viewer", "yes", ("sub:status/#",)).mqtt())
    async with viewer, viewer.subscribe("status/#") as messages:
        async with DeviceClient(device("frail", last_will=b"gone")) as frail:
            await frail.publish("numbers", b'{"n": 1}')
            with node.client() as client:
                client.post("/api/v1/devices/frail/revoke")
            async with asyncio.timeout(10):
                message = await anext(messages)
        assert (message.topic, message.payload) == ("status/frail", b"gone")


@pytest.mark.asyncio
async def test_a_revoked_device_is_out_and_says_why(node: RunningNode, device: Make) -> None:
    async with DeviceClient(device("thief")) as client:
        await client.publish("numbers", b'{"n": 1}')
        with node.client() as api:
            api.post("/api/v1/devices/thief/revoke")
        await until(lambda: not client.connected)
        with pytest.raises(errors.UnavailableError, match=r"not acknowledged within 1 s; .*not authorised"):
            await client.publish("numbers", b'{"n": 2}', timeout=1)


@pytest.mark.asyncio
async def test_refusals_name_the_mend(device: Make, addresses: dict[str, str]) -> None:
    strange, good = device("strange"), device("other")
    wrong = [
        DeviceConfig("strange", key_file=good.key_file, **addresses),
        DeviceConfig("nobody", key_file=good.key_file, **addresses),
        DeviceConfig("strange", password="guessed", **addresses),
    ]
    for config in wrong:
        with pytest.raises(errors.RejectedError, match=f"(?i)not authorised.*look on the node: skerry device show {config.device}"):
            async with DeviceClient(config):
                pass
    async with DeviceClient(strange) as client:
        with pytest.raises(errors.RejectedError, match="is no channel"):
            await client.publish("a/#", b"")
        with pytest.raises(errors.RejectedError):
            await client.publish("numbers", b"", qos=3)


@pytest.mark.asyncio
async def test_a_node_that_is_not_there(addresses: dict[str, str], device: Make, free_port: int) -> None:
    key = device("early").key_file
    nowhere = {**addresses, "api": f"http://127.0.0.1:{free_port}"}
    with pytest.raises(errors.UnavailableError, match="the node is not reachable"):
        async with DeviceClient(DeviceConfig("early", key_file=key, connect_timeout=1.0, **nowhere)):
            pass
    with pytest.raises(errors.UnavailableError, match="Connection refused"):
        async with DeviceClient(DeviceConfig("early", password="x", url=f"mqtt://127.0.0.1:{free_port}", connect_timeout=0.5)):
            pass


def test_the_api_is_beside_the_broker_unless_it_is_named(tmp_path: Path) -> None:
    (tmp_path / "key").write_text(SigningKey.new().pem())
    key = str(tmp_path / "key")
    for url, api in [
        ("mqtt://box", "http://box:8080"), ("mqtts://[::1]:1", "https://[::1]:8080"), ("ws://box", "http://box:8080"),
    ]:  # fmt: skip
        assert DeviceClient(DeviceConfig("a", key_file=key, url=url))._apis == [api]
    assert DeviceClient(DeviceConfig("a", key_file=key, api="http://hub"))._apis == ["http://hub"]


@pytest.mark.parametrize(
    ("fields", "kind", "sentence"),
    [
        ({}, errors.ConfigError, "exactly one credential"),
        ({"password": "a", "key_file": "b"}, errors.ConfigError, "exactly one credential"),
        ({"device": "a b", "password": "x"}, errors.RejectedError, "is not a device id"),
        ({"key_file": "nosuch.key"}, errors.ConfigError, "nosuch.key: cannot be read: No such file"),
        ({"key_file": __file__}, errors.RejectedError, "holds no private key"),
        ({"password": "x", "url": "http://box"}, errors.ConfigError, "is not a broker"),
        ({"password": "x", "keep_alive": 0}, errors.ConfigError, "keep_alive"),
    ],
)
def test_a_configuration_that_will_not_do(fields: dict[str, Any], kind: type[Exception], sentence: str) -> None:
    with pytest.raises(kind, match=sentence):
        DeviceClient(DeviceConfig(**{"device": "a", **fields}))


def test_a_wrong_address_of_the_api_is_told_at_once(tmp_path: Path) -> None:
    (tmp_path / "key").write_text(SigningKey.new().pem())
    with pytest.raises(errors.ConfigError, match="not the address of a node"):
        DeviceClient(DeviceConfig("a", key_file=str(tmp_path / "key"), api="mqtt://box"))


def test_nothing_shows_the_password() -> None:
    config = DeviceConfig("a", password="secret")
    assert "secret" not in f"{config!r} {DeviceClient(config).status}"


def test_the_answer_to_a_challenge_is_signed_over_device_and_challenge() -> None:
    key, challenge = SigningKey.new(), bytes(range(32))
    text = base64.b64encode(challenge).decode()
    answer = answer_to("pump-1", key, {"challenge": text, "expires_in": 30})
    assert (answer["device"], answer["challenge"]) == ("pump-1", text)
    assert verify_strict(key.public, signed_message("pump-1", challenge), base64.b64decode(answer["signature"]))
    assert token_of({"token": "t", "expires_in": 60}) == ("t", 60.0)


@pytest.mark.parametrize("answer", [None, [], {}, {"challenge": 1}, {"challenge": "AAAA"}, {"challenge": "é" * 44}])
def test_what_is_no_challenge_is_not_signed(answer: Any) -> None:
    with pytest.raises(errors.UnavailableError, match="no node of skerry; check the address"):
        answer_to("a", SigningKey.new(), answer)


@pytest.mark.parametrize("answer", [None, {}, {"token": 1, "expires_in": 1}, {"token": "t"}, {"token": "t", "expires_in": 0}])
def test_what_is_no_token_is_not_used(answer: Any) -> None:
    with pytest.raises(errors.UnavailableError, match="no node of skerry"):
        token_of(answer)


def test_keys_are_read_from_pem(tmp_path: Path) -> None:
    key = SigningKey.new()
    (tmp_path / "key").write_text(key.pem())
    assert read_key(tmp_path / "key").public == key.public
    with pytest.raises(errors.ConfigError, match="cannot be read"):
        read_key(tmp_path)


@pytest.mark.parametrize(("channel", "good"), [("a", True), ("a/b", True), ("é", True), ("", False), ("a/+", False), ("#", False),
    ("a b", False), ("a\0", False), ("x" * 201, False)])  # fmt: skip
def test_channels(channel: str, good: bool) -> None:
    with contextlib.nullcontext() if good else pytest.raises(errors.RejectedError, match="is no channel"):
        check_channel(channel)
