"""`[api]`: where HTTP listens and what needs no token there."""

import ipaddress
from contextlib import suppress
from typing import Literal
from urllib.parse import urlsplit

import msgspec

from skerry.core.errors import ConfigError

_LATER = "not part of this version"


class ApiConfig(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """The table `[api]`.

    Attributes:
        listen: `host:port` of this machine's loopback; port 0 asks the kernel.
        loopback: what may be done there without a token: `all`, `read` or `none` (health only). The Unix socket may always do all.
        token_file, tls: other listeners than loopback need both; later.
    """

    listen: str = "127.0.0.1:8080"
    loopback: Literal["all", "read", "none"] = "all"
    token_file: str = ""
    tls: dict[str, str] = {}

    def __post_init__(self) -> None:
        if self.token_file:
            raise ConfigError(f"tokens are {_LATER}", where="token_file", mend="leave it out")
        if self.tls:
            raise ConfigError(f"TLS is {_LATER}", where="tls", mend="leave it out")
        host, _ = self.address
        if not is_loopback(host):
            raise ConfigError(
                f"{self.listen!r} can be reached from other machines, which needs tokens, and those are {_LATER}",
                where="listen",
                mend="listen on 127.0.0.1 and reach it through an SSH tunnel",
            )

    @property
    def address(self) -> tuple[str, int]:
        """Host and port of `listen`; an IPv6 host without its brackets."""
        host: str | None = None
        port: int | None = None
        with suppress(ValueError):
            parts = urlsplit(f"//{self.listen}")
            if parts.netloc == self.listen and parts.username is None:
                host, port = parts.hostname, parts.port
        if not host or port is None:
            raise ConfigError(
                f"{self.listen!r} is not an address", where="listen", allowed="host:port, such as 127.0.0.1:8080 or [::1]:8080"
            )
        return host, port


def is_loopback(host: str) -> bool:
    """Whether a host name or address can mean this machine only."""
    if host.lower() == "localhost":
        return True
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return False
