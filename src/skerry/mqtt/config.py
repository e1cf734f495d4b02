"""What an MQTT client is told: where the broker is, who we are, and the bounds."""

from typing import Literal, NamedTuple
from urllib.parse import unquote, urlsplit

import msgspec

from skerry.core.errors import ConfigError

PORTS = {"mqtt": 1883, "mqtts": 8883, "ws": 80, "wss": 443}
"""What a URL may begin with, and the port where it names none."""
VERSIONS = ("auto", "5", "3.1.1")
OLD_NAMES = {"tcp": "mqtt", "ssl": "mqtts"}
WS_PATH = "/mqtt"


class Address(NamedTuple):
    """A broker, and the log-in that its URL may carry."""

    host: str
    port: int
    username: str | None
    password: str | None
    scheme: str = "mqtt"
    path: str = ""

    @property
    def url(self) -> str:
        """The broker as errors name it, without the log-in."""
        host = f"[{self.host}]" if ":" in self.host else self.host
        return f"{self.scheme}://{host}:{self.port}{self.path}"

    @property
    def encrypted(self) -> bool:
        return self.scheme in ("mqtts", "wss")


class LastWill(msgspec.Struct, frozen=True):
    """What the broker publishes for us when the connection ends without a good-bye."""

    topic: str
    payload: bytes = b""
    qos: int = 1
    retain: bool = True


class MqttConfig(msgspec.Struct, frozen=True):
    """One connection to one broker.

    Attributes:
        broker_url: `mqtt://[user:password@]host[:1883]`; `mqtts` (8883) with TLS, `ws` (80) and `wss` (443) over a WebSocket, whose
            path is `/mqtt` where the URL has none.
        others: URLs of further brokers of one cluster, of the same scheme, which keep the same sessions: when a connection does not
            come or ends, the next one is tried.
        client_id: names the session that the broker keeps; empty: a new name and a clean session each time.
        username, password: override those of the URL.
        keep_alive: seconds, 1 to 65,535; a broker from which nothing has come for one and a half times as long is given up.
        version: of MQTT: `5`, `3.1.1`, or `auto`: 5, and 3.1.1 where the broker does not speak that.
        clean_session: True: the broker forgets subscriptions and undelivered messages when the connection ends.
        connect_timeout: seconds for the first connection, and for each later attempt.
        max_reconnect_delay: seconds; the back-off doubles from 0.1 s up to it.
        max_in_flight: messages published and not yet acknowledged; `publish` waits when there are as many.
        max_outbox, max_outbox_bytes: messages in the outbox, and bytes of their payloads, that may wait for the broker.
        buffer: received messages a subscription holds for its reader.
        last_will: see `LastWill`.
        ca: a PEM file with the authorities that may sign the broker's certificate; empty: those of this machine.
        cert, key: PEM files of our own certificate and its key, for brokers that ask for one.
    """

    broker_url: str
    client_id: str = ""
    others: tuple[str, ...] = ()
    username: str | None = None
    password: str | None = None
    keep_alive: int = 30
    version: Literal["auto", "5", "3.1.1"] = "auto"
    clean_session: bool = False
    connect_timeout: float = 10.0
    max_reconnect_delay: float = 10.0
    max_in_flight: int = 100
    max_outbox: int = 10_000
    max_outbox_bytes: int = 64 << 20
    buffer: int = 2048
    last_will: LastWill | None = None
    ca: str = ""
    cert: str = ""
    key: str = ""

    def __post_init__(self) -> None:
        if self.version not in VERSIONS:
            raise ConfigError(f"{self.version!r} is no version of MQTT", where="version", allowed=", ".join(VERSIONS))
        _check("keep_alive", self.keep_alive, 1, 65_535)
        _check("max_in_flight", self.max_in_flight, 1, 30_000)
        _check("max_outbox", self.max_outbox, 1, 40_000)
        _check("max_outbox_bytes", self.max_outbox_bytes, 1, 1 << 32)
        _check("buffer", self.buffer, 1, 1_000_000)
        _check("connect_timeout", self.connect_timeout, 0.01, 3600)
        _check("max_reconnect_delay", self.max_reconnect_delay, 0.01, 3600)

    def __repr__(self) -> str:
        """Without user name and password."""
        return f"MqttConfig(broker_url={_without_login(self.broker_url)!r}, client_id={self.client_id!r})"

    def addresses(self) -> tuple[Address, ...]:
        """Where to connect and as whom: one after the other. Raises `ConfigError`."""
        found = tuple(self.address(url) for url in (self.broker_url, *self.others))
        for each in found:
            if (each.scheme, each.path) != (found[0].scheme, found[0].path):
                raise ConfigError(f"{each.url} is none of {found[0].scheme}", where="others", allowed="the scheme of broker_url")
        return found

    def address(self, url: str = "") -> Address:
        """Of one URL: the first one's, unless it is said. Raises `ConfigError`."""
        url = url or self.broker_url
        shown = _without_login(url)
        try:
            parts = urlsplit(url)
            host, port = parts.hostname, parts.port
        except ValueError as error:
            raise _bad_url(shown, str(error)) from error
        scheme = OLD_NAMES.get(parts.scheme, parts.scheme)
        if scheme not in PORTS:
            raise _bad_url(shown, f"the scheme is {parts.scheme!r}" if parts.scheme else "it has no scheme")
        if not host or port == 0:
            raise _bad_url(shown, "it has no host" if not host else "port 0")
        web = scheme in ("ws", "wss")
        if (parts.path not in ("", "/") and not web) or parts.query or parts.fragment:
            raise _bad_url(shown, "something follows the port")
        path = (parts.path if len(parts.path) > 1 else WS_PATH) if web else ""
        username = self.username if self.username is not None else _text(parts.username)
        password = self.password if self.password is not None else _text(parts.password)
        if password is not None and username is None:
            raise ConfigError("a password needs a username (MQTT 3.1.1, 3.1.2.9)", where="username", allowed="a name")
        return Address(host, PORTS[scheme] if port is None else port, username, password, scheme, path)


def _check(key: str, value: float, least: float, most: float) -> None:
    if not least <= value <= most:
        raise ConfigError(f"{value!r} is out of range", where=key, allowed=f"{least:g} to {most:g}")


def _bad_url(shown: str, why: str) -> ConfigError:
    return ConfigError(f"{shown!r} is not a broker: {why}", where="broker_url", allowed="mqtt://host:port, or mqtts, ws, wss")


def _text(quoted: str | None) -> str | None:
    return None if quoted is None else unquote(quoted)


def _without_login(url: str) -> str:
    scheme, slashes, rest = url.partition("://")
    return f"{scheme}{slashes}{rest.rpartition('@')[2]}"
