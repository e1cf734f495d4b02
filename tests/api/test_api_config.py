"""What `[api]` may say."""

from typing import Any

import msgspec
import pytest

from skerry.api import ApiConfig
from skerry.core.errors import ConfigError
from skerry.core.settings import build
from skerry.runtime import is_loopback


@pytest.mark.parametrize(
    ("listen", "address"),
    [
        ("127.0.0.1:8080", ("127.0.0.1", 8080)),
        ("127.9.9.9:0", ("127.9.9.9", 0)),
        ("localhost:1", ("localhost", 1)),
        ("[::1]:65535", ("::1", 65535)),
    ],
)
def test_addresses(listen: str, address: tuple[str, int]) -> None:
    assert ApiConfig(listen=listen).address == address


@pytest.mark.parametrize(
    "listen", ["", "8080", "127.0.0.1", "127.0.0.1:", "127.0.0.1:x", "127.0.0.1:65536", "a@b:1", "b:1/x", "[::1:1"]
)
def test_what_is_no_address(listen: str) -> None:
    with pytest.raises(ConfigError, match="is not an address") as caught:
        ApiConfig(listen=listen)
    assert caught.value.where == "listen"
    assert "host:port" in caught.value.allowed


@pytest.mark.parametrize("listen", ["0.0.0.0:8080", "192.168.1.5:8080", "[::]:8080", "box.example:8080"])
def test_other_machines_need_tokens(listen: str) -> None:
    with pytest.raises(ConfigError, match="can be reached from other machines, which needs tokens") as caught:
        ApiConfig(listen=listen)
    assert caught.value.where == "listen"
    assert caught.value.mend.startswith('set token_file = "data/tokens.json", make a token with `skerry token create`')
    found = ApiConfig(listen=listen, token_file="t.json")
    assert (found.beyond, found.loopback) == (True, "none")


@pytest.mark.parametrize(
    ("given", "loopback"),
    [
        ({}, "all"),
        ({"token_file": "t.json"}, "none"),
        ({"token_file": "t.json", "loopback": "all"}, "all"),
        ({"loopback": "none"}, "none"),
        ({"listen": "0.0.0.0:1", "token_file": "t.json", "loopback": "read"}, "read"),
    ],
)
def test_what_loopback_may_do_follows_from_the_rest(given: dict[str, Any], loopback: str) -> None:
    assert ApiConfig(**given).loopback == loopback
    assert msgspec.to_builtins(build(ApiConfig, given, "api"))["loopback"] == loopback


@pytest.mark.parametrize(("rate", "each_second"), [("1000/s", 1000.0), ("1/s", 1.0), ("30/m", 0.5), ("9999999/s", 9999999.0)])
def test_rates(rate: str, each_second: float) -> None:
    assert ApiConfig(rate=rate).requests_per_s == each_second


@pytest.mark.parametrize("rate", ["", "0/s", "1", "1/h", "-1/s", "1.5/s", "10000000/s", "1/s/s"])
def test_what_is_no_rate(rate: str) -> None:
    with pytest.raises(ConfigError, match="is not a rate of requests; allowed: a whole number and /s or /m") as caught:
        ApiConfig(rate=rate)
    assert caught.value.where == "rate"


@pytest.mark.parametrize("host", ["", "http://box1", "box1/x", "*", "a b", "x" * 254])
def test_what_is_no_host_name(host: str) -> None:
    with pytest.raises(ConfigError, match="is no host name"):
        ApiConfig(hosts=("box1", host))


@pytest.mark.parametrize(
    ("table", "said"),
    [
        ({"rate": "often"}, "skerry.toml: api.rate: 'often' is not a rate of requests"),
        ({"hosts": ["a b"]}, "skerry.toml: api.hosts: 'a b' is no host name"),
        ({"listen": "0.0.0.0:1"}, "skerry.toml: api.listen: '0.0.0.0:1' can be reached from other machines"),
        ({"tls": {"cert": "c"}}, "skerry.toml: api.tls: needs the key 'key'"),
        ({"listn": "x"}, "unknown key 'listn', did you mean 'listen'?"),
        ({"loopback": "some"}, "api.loopback"),
        ({"listen": "nowhere"}, "skerry.toml: api.listen: 'nowhere' is not an address"),
    ],
)
def test_what_is_wrong_names_the_key(table: dict[str, object], said: str) -> None:
    with pytest.raises(ConfigError) as caught:
        build(ApiConfig, table, "skerry.toml: api")
    assert said in str(caught.value)


def test_loopback() -> None:
    assert all(map(is_loopback, ["localhost", "LocalHost", "127.0.0.1", "127.1.2.3", "::1"]))
    assert not any(map(is_loopback, ["", "localhost.evil.example", "127.0.0.1.evil.example", "0.0.0.0", "10.0.0.1", "2130706433"]))
