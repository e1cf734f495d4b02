"""What `[api]` may say."""

import pytest

from skerry.api import ApiConfig
from skerry.api.config import is_loopback
from skerry.core.errors import ConfigError
from skerry.core.settings import build


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
    with pytest.raises(ConfigError, match="needs tokens, and those are not part of this version"):
        ApiConfig(listen=listen)


@pytest.mark.parametrize(
    ("table", "said"),
    [
        ({"token_file": "t"}, "skerry.toml: api.token_file: tokens are not part of this version; leave it out"),
        ({"tls": {"cert": "c"}}, "skerry.toml: api.tls: TLS is not part of this version; leave it out"),
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
