import pytest

from skerry.core.errors import ConfigError, SkerryError
from skerry.mqtt import MqttClient, MqttConfig


@pytest.mark.parametrize(
    ("url", "host", "port", "username", "password"),
    [
        ("mqtt://box", "box", 1883, None, None),
        ("mqtt://box:18830/", "box", 18830, None, None),
        ("tcp://10.0.0.1:1884", "10.0.0.1", 1884, None, None),
        ("mqtt://[::1]:1884", "::1", 1884, None, None),
        ("mqtt://ann:p%40ss@box", "box", 1883, "ann", "p@ss"),
    ],
)
def test_an_address_is_read_from_the_url(url: str, host: str, port: int, username: str | None, password: str | None) -> None:
    assert MqttConfig(url).address()[:4] == (host, port, username, password)


def test_what_is_named_overrides_the_url() -> None:
    address = MqttConfig("mqtt://ann:old@box", username="bob", password="new").address()
    assert (address.username, address.password) == ("bob", "new")


@pytest.mark.parametrize(
    "url", ["", "box", "box:1883", "http://box", "mqtt://", "mqtt://box:0", "mqtt://box:x", "mqtt://box/topic", "mqtt://b?x"]
)
def test_a_bad_url_is_a_config_error_that_says_what_is_allowed(url: str) -> None:
    with pytest.raises(ConfigError, match="allowed: mqtt://host:port"):
        MqttClient(MqttConfig(url))


@pytest.mark.parametrize(
    ("url", "shown", "encrypted"),
    [
        ("tcp://box", "mqtt://box:1883", False),
        ("mqtts://box", "mqtts://box:8883", True),
        ("ssl://[::1]:1", "mqtts://[::1]:1", True),
        ("ws://box", "ws://box:80/mqtt", False),
        ("ws://box:8083/", "ws://box:8083/mqtt", False),
        ("wss://ann:secret@box/broker", "wss://box:443/broker", True),
    ],
)
def test_each_transport_has_its_port_and_path(url: str, shown: str, encrypted: bool) -> None:
    address = MqttConfig(url).address()
    assert (address.url, address.encrypted) == (shown, encrypted)


def test_no_error_and_no_repr_shows_a_password() -> None:
    config = MqttConfig("wss://ann:secret@box?x", username="ann", password="secret2")
    with pytest.raises(SkerryError) as caught:
        config.address()
    assert "secret" not in f"{caught.value} {config!r}"
    with pytest.raises(ConfigError) as bad:
        MqttConfig("mqtt://ann:secret@box:x").address()
    assert "secret" not in str(bad.value)
    assert "ann" not in MqttConfig("mqtt://ann:secret@box").address().url


def test_a_password_without_a_name_is_a_config_error() -> None:
    with pytest.raises(ConfigError, match="username"):
        MqttConfig("mqtt://box", password="x").address()


@pytest.mark.parametrize(
    ("key", "value"),
    [
        ("keep_alive", 0),
        ("keep_alive", 70_000),
        ("max_in_flight", 0),
        ("max_in_flight", 65_535),
        ("buffer", 0),
        ("connect_timeout", 0.0),
        ("max_reconnect_delay", 0.0),
        ("max_outbox", 0),
        ("max_outbox_bytes", 0),
        ("version", "4"),
    ],
)
def test_bounds_are_checked(key: str, value: float) -> None:
    with pytest.raises(ConfigError, match=key):
        MqttConfig("mqtt://box", **{key: value})  # type: ignore[arg-type]  # the keys are the struct's, with their types
