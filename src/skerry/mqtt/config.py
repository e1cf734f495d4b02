"""What an MQTT client is told: where the broker is, who we are, and the bounds."""

from typing import NamedTuple
from urllib.parse import unquote, urlsplit

import msgspec

from skerry.core.errors import ConfigError, RejectedError

PORT = 1883
LATER = {"mqtts", "ssl", "ws", "wss"}


class Address(NamedTuple):
    """A broker, and the log-in that its URL may carry."""

    host: str
    port: int
    username: str | None
    password: str | None

    @property
    def url(self) -> str:
        """The broker as errors name it, without the log-in."""
        host = f"[{self.host}]" if ":" in self.host else self.host
        return f"mqtt://{host}:{self.port}"


class LastWill(msgspec.Struct, frozen=True):
    """What the broker publishes for us when the connection ends without a good-bye."""

    topic: str
    payload: bytes = b""
    qos: int = 1
    retain: bool = True


class MqttConfig(msgspec.Struct, frozen=True):
    """One connection to one broker.

    Attributes:
        broker_url: `mqtt://[user:password@]host[:1883]`.
        client_id: names the session that the broker keeps; empty: a new name and a clean session each time.
        username, password: override those of the URL.
        keep_alive: seconds without traffic after which the connection is checked, 1 to 65,535.
        clean_session: True: the broker forgets subscriptions and undelivered messages when the connection ends.
        connect_timeout: seconds for the first connection, and for each later attempt.
        max_reconnect_delay: seconds; the back-off doubles from 0.1 s up to it.
        max_in_flight: messages published and not yet acknowledged; `publish` waits when there are as many.
        buffer: received messages a subscription holds for its reader.
        last_will: see `LastWill`.
    """

    broker_url: str
    client_id: str = ""
    username: str | None = None
    password: str | None = None
    keep_alive: int = 30
    clean_session: bool = False
    connect_timeout: float = 10.0
    max_reconnect_delay: float = 10.0
    max_in_flight: int = 100
    buffer: int = 2048
    last_will: LastWill | None = None

    def __post_init__(self) -> None:
        _check("keep_alive", self.keep_alive, 1, 65_535)
        _check("max_in_flight", self.max_in_flight, 1, 30_000)
        _check("buffer", self.buffer, 1, 1_000_000)
        _check("connect_timeout", self.connect_timeout, 0.01, 3600)
        _check("max_reconnect_delay", self.max_reconnect_delay, 0.01, 3600)

    def __repr__(self) -> str:
        """Without user name and password."""
        return f"MqttConfig(broker_url={_without_login(self.broker_url)!r}, client_id={self.client_id!r})"

    def address(self) -> Address:
        """Where to connect and as whom. Raises `ConfigError`, or `RejectedError` for transports that are not built in."""
        shown = _without_login(self.broker_url)
        try:
            parts = urlsplit(self.broker_url)
            host, port = parts.hostname, parts.port
        except ValueError as error:
            raise _bad_url(shown, str(error)) from error
        if parts.scheme in LATER:
            raise RejectedError(f"{parts.scheme}:// is not part of this version", where=shown, mend="use mqtt://")
        if parts.scheme not in ("mqtt", "tcp"):
            raise _bad_url(shown, f"the scheme is {parts.scheme!r}" if parts.scheme else "it has no scheme")
        if not host or port == 0:
            raise _bad_url(shown, "it has no host" if not host else "port 0")
        if parts.path not in ("", "/") or parts.query or parts.fragment:
            raise _bad_url(shown, "something follows the port")
        username = self.username if self.username is not None else _text(parts.username)
        password = self.password if self.password is not None else _text(parts.password)
        if password is not None and username is None:
            raise ConfigError("a password needs a username (MQTT 3.1.1, 3.1.2.9)", where="username", allowed="a name")
        return Address(host, PORT if port is None else port, username, password)


def _check(key: str, value: float, least: float, most: float) -> None:
    if not least <= value <= most:
        raise ConfigError(f"{value!r} is out of range", where=key, allowed=f"{least:g} to {most:g}")


def _bad_url(shown: str, why: str) -> ConfigError:
    return ConfigError(f"{shown!r} is not a broker: {why}", where="broker_url", allowed="mqtt://host:port")


def _text(quoted: str | None) -> str | None:
    return None if quoted is None else unquote(quoted)


def _without_login(url: str) -> str:
    scheme, slashes, rest = url.partition("://")
    return f"{scheme}{slashes}{rest.rpartition('@')[2]}"
