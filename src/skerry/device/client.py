"""A device's side: logs in, publishes on its own topics and reads its commands, over reconnects and over tokens that expire."""

import asyncio
import base64
import random
from collections.abc import AsyncIterator
from pathlib import Path
from types import TracebackType
from typing import Any, NamedTuple, Self

import msgspec

from skerry.core import log
from skerry.core.errors import ConfigError, OverloadedError, RejectedError, SkerryError, UnavailableError
from skerry.core.service import Backoff, cancel_and_wait
from skerry.device.challenge import BYTES, from_base64, signed_message
from skerry.device.permissions import check_id
from skerry.http import AsyncClient
from skerry.mqtt import LastWill, Message, MqttClient, MqttConfig, Subscription
from skerry.trust import SigningKey

CHALLENGE_PATH, TOKEN_PATH = "/auth/challenge", "/auth/token"
API_PORT = 8080
RENEW_FROM, RENEW_TO = 0.6, 0.8
"""Between these parts of a token's life it is renewed, so that many devices do not come at the same moment."""
FIRST_RETRY_S, MOST_RETRY_S = 0.5, 30.0
LONGEST_CHANNEL = 200
DOORS = {"mqtt": "mqtt", "tcp": "mqtt", "mqtts": "mqtts", "ssl": "mqtts", "ws": "websocket", "wss": "websocket"}
_NODES = "name the file .nodes that `skerry device add ID --out FILE` has written beside FILE, on a node of a cluster"
_log = log.get("device")


class DeviceConfig(msgspec.Struct, frozen=True):
    """Who a device is and where its node is. Exactly one of `key_file`, `password` and `cert` is its credential.

    Attributes:
        device: its id, which is its user name too.
        key_file: an Ed25519 private key in PEM; its public half is what the node knows.
        password: as `skerry device add ID --password` has shown it.
        cert, cert_key: PEM files of a client certificate and its key, for `mqtts://` and `wss://`.
        url: the node's broker, `mqtt://host:1883`, `mqtts://host:8883`, `ws://host:port` or `wss://host:port`.
        api: the node's HTTP, where keys log in, or the absolute path of its Unix socket; empty: port 8080 of the same host, `https`
            where the broker is encrypted.
        nodes: a file with where the nodes of a cluster are, as `skerry device add ID --out FILE` writes it to `FILE.nodes`: they
            are tried in turn, and of `url` and `api` only the schemes count.
        ca: a PEM file with the authority that signed the node's certificate; empty: those that this machine trusts.
        client_id: the session that the broker keeps; empty: the device's id.
        last_will: what the broker publishes on `status/<device>` (retained) when the connection is lost; None: nothing.
        keep_alive, connect_timeout, max_reconnect_delay: seconds, see `MqttConfig`.
        max_in_flight: readings under way; `publish` waits when there are as many.
        buffer: commands held for their reader.
    """

    device: str
    key_file: str = ""
    password: str = ""
    cert: str = ""
    cert_key: str = ""
    url: str = "mqtt://127.0.0.1:1883"
    api: str = ""
    nodes: str = ""
    ca: str = ""
    client_id: str = ""
    last_will: bytes | None = None
    keep_alive: int = 30
    connect_timeout: float = 10.0
    max_reconnect_delay: float = 10.0
    max_in_flight: int = 100
    buffer: int = 256

    def __repr__(self) -> str:
        return f"DeviceConfig({self.device!r})"

    def mqtt(self) -> MqttConfig:
        """The same for the MQTT client. Raises `ConfigError`, `RejectedError` for what is no device id."""
        check_id(self.device)
        if sum(map(bool, (self.key_file, self.password, self.cert))) != 1:
            raise ConfigError(
                "needs exactly one credential", where=f"device {self.device}", allowed="one of key_file, password and cert"
            )
        will = None if self.last_will is None else LastWill(f"status/{self.device}", self.last_will)
        urls = [url for url, _ in self.places()] or [self.url]
        return MqttConfig(
            urls[0],
            others=tuple(urls[1:]),
            client_id=self.client_id or self.device,
            username=self.device,
            password=self.password or None,
            keep_alive=self.keep_alive,
            connect_timeout=self.connect_timeout,
            max_reconnect_delay=self.max_reconnect_delay,
            max_in_flight=self.max_in_flight,
            buffer=self.buffer,
            last_will=will,
            ca=self.ca,
            cert=self.cert,
            key=self.cert_key,
        )

    def places(self) -> list[tuple[str, str]]:
        """Of each node of `nodes` the URLs of its broker and of its HTTP. Raises `ConfigError` where the file holds none."""
        if not self.nodes:
            return []
        scheme = self.url.partition("://")[0]
        door = DOORS.get(scheme, "mqtt")
        secure = self.api.startswith("https:") or (not self.api and scheme in ("mqtts", "ssl", "wss"))
        try:
            rows = msgspec.json.decode(Path(self.nodes).read_bytes(), type=Nodes).nodes
        except (OSError, msgspec.MsgspecError) as error:
            raise ConfigError(f"holds no nodes: {error}", where=self.nodes, mend=_NODES) from error
        found = [
            (f"{scheme}://{row[door]}", f"{'https' if secure else 'http'}://{row['http']}" if "http" in row else "")
            for row in rows
            if door in row
        ]
        if not found:
            raise ConfigError(f"no node there takes {scheme}://", where=self.nodes, mend=_NODES)
        return found


class Nodes(msgspec.Struct, frozen=True):
    """A file of `DeviceConfig.nodes`: by node `host:port` of `mqtt`, `mqtts`, `websocket` and `http`, those that there are."""

    nodes: list[dict[str, str]]


class Issued(NamedTuple):
    """A token, and when to fetch the next one and when it ends, by the event loop's clock."""

    token: str
    renew: float
    end: float


class DeviceClient:
    """One device, connected; to be entered once.

    Attributes:
        published: readings that the node has acknowledged.
        renewals: tokens fetched after the first one.
    """

    def __init__(self, config: DeviceConfig) -> None:
        """Reads the key. Raises `ConfigError`, `RejectedError` for a device id or a key that is none."""
        self.published = self.renewals = 0
        self._config = config
        mqtt = config.mqtt()
        self._key = read_key(config.key_file) if config.key_file else None
        self._mqtt = MqttClient(mqtt, None if self._key is None else self._log_in)
        self._apis = [api for _, api in config.places() if api] or [config.api or _api_of(mqtt)]
        if self._key is not None:
            self._http()  # a wrong address is told here and not by a connection that does not come
        self._issued: Issued | None = None
        self._tried: int | None = None
        self._renewing: asyncio.Task[None] | None = None

    @property
    def connected(self) -> bool:
        return self._mqtt.connected

    @property
    def status(self) -> str:
        """One sentence on the connection."""
        return self._mqtt.status

    @property
    def reconnects(self) -> int:
        """Connections made after the first."""
        return max(0, self._mqtt.reconnects)

    async def __aenter__(self) -> Self:
        """Log in and connect. Raises `RejectedError` when the node refuses, `UnavailableError` when it is not there in time."""
        try:
            await self._mqtt.__aenter__()
        except RejectedError as error:
            known = f"look on the node: skerry device show {self._config.device}"
            mend = f"{error.mend}; {known}" if error.mend else known
            raise RejectedError(error.message, where=error.where, mend=mend) from error
        if self._key is not None:
            self._renewing = asyncio.create_task(self._renew())
        return self

    async def __aexit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        await self.close()

    async def close(self) -> None:
        """End the connection; who waits in `publish` gets an `UnavailableError`, readers of commands come to their end."""
        if self._renewing is not None:
            await cancel_and_wait(self._renewing)
        await self._mqtt.close()

    async def publish(self, channel: str, payload: bytes | str, qos: int = 1, timeout: float | None = None) -> None:
        """Publish on `devices/<device>/<channel>`; returns when the node has it in its log (QoS 0: when it is sent).

        What is not acknowledged is sent again after a reconnect, in order. Raises `RejectedError` for a channel, QoS or payload
        that will not do, `UnavailableError` after `timeout` seconds or when the client is closed.
        """
        check_channel(channel)
        data = payload.encode() if isinstance(payload, str) else payload
        await self._mqtt.publish(f"devices/{self._config.device}/{channel}", data, qos, timeout=timeout)
        self.published += 1

    def commands(self) -> "Commands":
        """What is sent to `commands/<device>/…`, also while the device was away; an async iterator of `Message`."""
        return Commands(self._mqtt.subscribe(f"commands/{self._config.device}/#"))

    async def _log_in(self) -> tuple[str, str]:
        """User name and token for the next connection: a new one where the last one has brought none."""
        now, failed = asyncio.get_running_loop().time(), self._tried == self._mqtt.reconnects
        self._tried = self._mqtt.reconnects
        if self._issued is None or failed or now >= self._issued.renew:
            try:
                self._issued = await self._fetch()
            except (OverloadedError, UnavailableError):
                if self._issued is None or now >= self._issued.end:
                    raise
        return self._config.device, self._issued.token

    async def _renew(self) -> None:
        """Fetch the next token in time and connect again with it. The old connection serves until then."""
        loop, backoff = asyncio.get_running_loop(), Backoff(FIRST_RETRY_S, MOST_RETRY_S)
        while True:
            assert self._issued is not None
            wait = self._issued.renew - loop.time()
            if wait > 0:
                await asyncio.sleep(wait)
                continue
            try:
                self._issued = await self._fetch()
            except SkerryError as error:
                _log.warning(f"no new token: {error}", device=self._config.device)
                await asyncio.sleep(backoff.next())
                continue
            backoff.reset()
            self.renewals += 1
            self._mqtt.renew()

    async def _fetch(self) -> Issued:
        """Answer a challenge, at the first node that is there. Raises `RejectedError` when it refuses."""
        for left in range(len(self._apis) - 1, -1, -1):
            try:
                return await self._fetch_here()
            except (OverloadedError, UnavailableError):
                if not left:
                    raise
                self._apis.append(self._apis.pop(0))  # a challenge is answered where it was given
        raise AssertionError

    async def _fetch_here(self) -> Issued:
        assert self._key is not None
        asked = asyncio.get_running_loop().time()
        async with self._http() as client:
            challenge = await client.post(CHALLENGE_PATH, {"device": self._config.device})
            answer = await client.post(TOKEN_PATH, answer_to(self._config.device, self._key, challenge))
        token, life = token_of(answer)
        return Issued(token, asked + life * random.uniform(RENEW_FROM, RENEW_TO), asked + life)

    def _http(self) -> AsyncClient:
        api = self._apis[0]
        where = Path(api) if api.startswith("/") else api
        return AsyncClient(where, self._config.connect_timeout / len(self._apis), connections=1, ca=self._config.ca)


class Commands(AsyncIterator[Message]):
    """Commands, oldest first. Each is acknowledged when the next one is asked for, so one that was not finished comes again."""

    def __init__(self, subscription: Subscription) -> None:
        self._subscription = subscription
        self._entered = False
        self._last: Message | None = None

    def __aiter__(self) -> "Commands":
        return self

    async def __anext__(self) -> Message:
        """The next one. Raises `RejectedError` when the node does not grant the subscription."""
        if not self._entered:
            await self._subscription.__aenter__()
            self._entered = True
        if self._last is not None:
            await self._last.ack()
            self._last = None
        self._last = await anext(self._subscription)
        return self._last


def read_key(file: str | Path) -> SigningKey:
    """A private key in PEM. Raises `ConfigError` for a file that cannot be read, `RejectedError` for one that holds none."""
    try:
        return SigningKey.from_pem(Path(file).read_bytes(), str(file))
    except OSError as error:
        mend = "name the private key that `skerry device add ID --out FILE` has written"
        raise ConfigError(f"cannot be read: {error.strerror}", where=str(file), mend=mend) from error


def answer_to(device: str, key: SigningKey, answer: Any) -> dict[str, str]:
    """The body of `/auth/token` for what `/auth/challenge` has answered. Raises `UnavailableError` for what is no challenge."""
    text = answer.get("challenge") if isinstance(answer, dict) else None
    challenge = from_base64(text, BYTES) if isinstance(text, str) else None
    if challenge is None:
        raise _no_node(CHALLENGE_PATH)
    signature = base64.b64encode(key.sign(signed_message(device, challenge))).decode()
    return {"device": device, "challenge": str(text), "signature": signature}


def token_of(answer: Any) -> tuple[str, float]:
    """The token of an answer and the seconds that it lives. Raises `UnavailableError` for what is none."""
    token, life = (answer.get("token"), answer.get("expires_in")) if isinstance(answer, dict) else (None, None)
    if not isinstance(token, str) or not isinstance(life, int | float) or not life > 0:
        raise _no_node(TOKEN_PATH)
    return token, float(life)


def _no_node(where: str) -> UnavailableError:
    return UnavailableError("what answers there is no node of skerry", where=where, mend="check the address of its HTTP")


def check_channel(channel: str) -> None:
    """Raises `RejectedError` unless it can follow `devices/<device>/` in the topic of a message."""
    if not channel or len(channel.encode("utf-8", "surrogatepass")) > LONGEST_CHANNEL or any(sign in channel for sign in "+#\0 "):
        raise RejectedError(
            f"{channel[:80]!r} is no channel", where="channel",
            mend=f"use 1 to {LONGEST_CHANNEL} bytes without +, # and spaces, such as vibration",
        )  # fmt: skip


def _api_of(mqtt: MqttConfig) -> str:
    address = mqtt.address()
    host = f"[{address.host}]" if ":" in address.host else address.host
    return f"{'https' if address.encrypted else 'http'}://{host}:{API_PORT}"
