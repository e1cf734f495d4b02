"""The client over TLS and WebSocket, to a real nats-server; and a log-in that is asked for again with each connection."""

import asyncio
import subprocess
import sys
from collections.abc import AsyncIterator, Callable
from pathlib import Path

import pytest
import pytest_asyncio

from skerry.core.errors import ConfigError, RejectedError, UnavailableError
from skerry.mqtt import MqttClient, MqttConfig
from tests.mqtt.brokers import Broker, until

SERVER = """
server_name: t
listen: "127.0.0.1:{other}"
jetstream {{ store_dir: "{folder}/store" }}
mqtt {{ listen: "127.0.0.1:{mqtts}", tls {{ cert_file: "{folder}/box.pem", key_file: "{folder}/box.key", ca_file: "{folder}/ca.pem", verify: {verify} }} }}
websocket {{ listen: "127.0.0.1:{ws}", no_tls: true, allowed_origins: ["https://nowhere.invalid"] }}
"""  # noqa: E501 - a line of nats-server's configuration


def openssl(folder: Path, *arguments: str) -> None:
    subprocess.run(["openssl", *arguments], cwd=folder, check=True, capture_output=True)


@pytest.fixture(scope="module")
def certificates(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """An authority `ca`, a server `box` and a client `ann` signed by it, a stranger `eve` signed by herself."""
    folder = tmp_path_factory.mktemp("certificates")
    ec = ("-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256", "-nodes", "-days", "2")
    for name in ("ca", "eve"):
        openssl(folder, "req", "-x509", *ec, "-subj", f"/CN={name}", "-keyout", f"{name}.key", "-out", f"{name}.pem")
    (folder / "names").write_text("subjectAltName=DNS:localhost\n")
    for name in ("box", "ann"):
        openssl(folder, "req", "-new", *ec[:-2], "-subj", f"/CN={name}", "-keyout", f"{name}.key", "-out", f"{name}.csr")
        signed = ("-CA", "ca.pem", "-CAkey", "ca.key", "-CAcreateserial", "-days", "2", "-extfile", "names")
        openssl(folder, "x509", "-req", "-in", f"{name}.csr", "-out", f"{name}.pem", *signed)
    return folder


class Server:
    """nats-server with TLS for MQTT and a WebSocket."""

    def __init__(self, folder: Path, ports: list[int], verify: bool) -> None:
        other, self.mqtts, self.ws = ports
        text = SERVER.format(folder=folder, other=other, mqtts=self.mqtts, ws=self.ws, verify=str(verify).lower())
        (folder / "server.conf").write_text(text)
        self._argv = [str(Path(sys.prefix) / "bin" / "nats-server"), "-c", str(folder / "server.conf")]

    async def start(self) -> None:
        quiet = asyncio.subprocess.DEVNULL
        self._process = await asyncio.create_subprocess_exec(*self._argv, stdout=quiet, stderr=quiet)
        async with asyncio.timeout(10):
            for port in (self.mqtts, self.ws):
                while True:
                    try:
                        _, writer = await asyncio.open_connection("127.0.0.1", port)
                    except OSError:
                        await asyncio.sleep(0.02)
                    else:
                        writer.close()
                        break

    async def stop(self) -> None:
        self._process.kill()
        await self._process.wait()


@pytest_asyncio.fixture
async def server(
    request: pytest.FixtureRequest, certificates: Path, free_ports: Callable[[int], list[int]]
) -> AsyncIterator[Server]:
    made = Server(certificates, free_ports(3), verify=getattr(request, "param", False))
    await made.start()
    yield made
    await made.stop()


def config(url: str, **fields: object) -> MqttConfig:
    known: dict[str, object] = {"broker_url": url, "client_id": "c", "connect_timeout": 3.0, "max_reconnect_delay": 0.2}
    return MqttConfig(**{**known, **fields})  # type: ignore[arg-type]  # the fields of the struct, by name


@pytest.mark.asyncio
@pytest.mark.parametrize("scheme", ["mqtts", "ws"])
async def test_messages_go_both_ways(server: Server, certificates: Path, scheme: str) -> None:
    url, ca = (f"mqtts://localhost:{server.mqtts}", "ca.pem") if scheme == "mqtts" else (f"ws://127.0.0.1:{server.ws}", "")
    async with MqttClient(config(url, ca=str(certificates / ca) if ca else "")) as client:
        sent = [b"%d" % number * 5000 for number in range(20)]
        async with client.subscribe("a/#") as messages, asyncio.timeout(10):
            for payload in sent:
                await client.publish("a/b", payload)
            found = []
            for _ in sent:
                message = await anext(messages)
                await message.ack()
                found.append(message.payload)
        assert found == sent


@pytest.mark.asyncio
async def test_a_broker_whose_certificate_nobody_signed_is_refused_in_words(server: Server, certificates: Path) -> None:
    for ca in ("eve.pem", ""):
        with pytest.raises(RejectedError, match=r"certificate is not trusted: .*; name the authority that signed it with `ca`"):
            async with MqttClient(config(f"mqtts://localhost:{server.mqtts}", ca=str(certificates / ca) if ca else "")):
                pass


@pytest.mark.asyncio
async def test_a_certificate_of_another_name_is_refused_in_words(server: Server, certificates: Path) -> None:
    with pytest.raises(RejectedError, match="not trusted: IP address mismatch"):
        async with MqttClient(config(f"mqtts://127.0.0.1:{server.mqtts}", ca=str(certificates / "ca.pem"))):
            pass


@pytest.mark.asyncio
@pytest.mark.parametrize("server", [True], indirect=True)
async def test_a_broker_that_wants_a_certificate_of_ours(server: Server, certificates: Path) -> None:
    url, ca = f"mqtts://localhost:{server.mqtts}", str(certificates / "ca.pem")
    cert, key = (str(certificates / f"ann.{kind}") for kind in ("pem", "key"))
    async with MqttClient(config(url, ca=ca, cert=cert, key=key)) as client:
        await client.publish("a", b"x", timeout=5)
    with pytest.raises(UnavailableError):
        async with MqttClient(config(url, ca=ca, connect_timeout=1.0)):
            pass


@pytest.mark.asyncio
@pytest.mark.parametrize(
    ("fields", "sentence"),
    [
        ({"ca": "nosuch.pem"}, "ca: .*nosuch.pem: No such file"),
        ({"ca": "names"}, "ca: .*names: no PEM certificate"),
        ({"cert": "ann.pem", "key": "eve.key"}, "cert, key: .*does not belong to it"),
        ({"key": "ann.key"}, "key: a key without its certificate"),
    ],
)
async def test_files_that_will_not_do(certificates: Path, fields: dict[str, str], sentence: str) -> None:
    paths = {key: str(certificates / name) for key, name in fields.items()}
    with pytest.raises(ConfigError, match=sentence):
        async with MqttClient(config("mqtts://localhost:1", **paths)):
            pass


@pytest.mark.asyncio
async def test_a_certificate_without_encryption_is_a_mistake() -> None:
    with pytest.raises(ConfigError, match="ca needs an encrypted connection"):
        async with MqttClient(config("mqtt://localhost:1", ca="ca.pem")):
            pass


@pytest.mark.asyncio
@pytest.mark.parametrize("guarded_broker", ["nats"], indirect=True)
async def test_the_log_in_is_asked_for_before_each_connection(guarded_broker: Broker) -> None:
    asked = 0

    async def log_in() -> tuple[str, str]:
        nonlocal asked
        asked += 1
        return "ann", "secret"

    async with MqttClient(guarded_broker.config(client_id="c"), log_in) as client, client.subscribe("a/#") as messages:
        publishing = [asyncio.create_task(client.publish("a/b", b"%d" % number)) for number in range(200)]
        client.renew()
        assert not client.connected
        await asyncio.wait_for(asyncio.gather(*publishing), 10)
        assert (asked, client.reconnects) == (2, 1)
        found: dict[int, None] = {}
        async with asyncio.timeout(10):
            while len(found) < 200:
                message = await anext(messages)
                await message.ack()
                found.setdefault(int(message.payload))
        assert list(found) == list(range(200))
        await guarded_broker.stop()
        await until(lambda: not client.connected)
        await guarded_broker.start()
        await client.publish("a/b", b"x", timeout=10)
        assert asked >= 3


@pytest.mark.asyncio
@pytest.mark.parametrize("guarded_broker", ["nats"], indirect=True)
async def test_a_refused_log_in_ends_the_first_connection_and_only_delays_later_ones(guarded_broker: Broker) -> None:
    refuse = True

    async def log_in() -> tuple[str, str]:
        if refuse:
            raise RejectedError("no token for you", mend="ask somebody")
        return "ann", "secret"

    with pytest.raises(RejectedError, match="no token for you; ask somebody"):
        async with MqttClient(guarded_broker.config(client_id="c"), log_in):
            pass
    refuse = False
    async with MqttClient(guarded_broker.config(client_id="c"), log_in) as client:
        refuse = True
        client.renew()
        await until(lambda: "no token" in client.status)
        with pytest.raises(UnavailableError, match=r"not acknowledged within .* no token for you"):
            await client.publish("a", b"x", timeout=0.3)
        refuse = False
        await client.publish("a", b"x", timeout=10)
