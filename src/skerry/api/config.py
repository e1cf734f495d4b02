"""`[api]`: where HTTP listens and what needs no token there."""

import re
from contextlib import suppress
from typing import Literal
from urllib.parse import urlsplit

import msgspec

from skerry.core.errors import ConfigError
from skerry.core.units import at_key
from skerry.runtime import is_loopback

Loopback = Literal["all", "read", "none"]
_RATE = re.compile(r"([1-9][0-9]{0,6})/(s|m)")
_HOST = re.compile(r"[A-Za-z0-9_.:-]{1,253}")


class ApiTls(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """PEM files of the HTTP port."""

    cert: str
    key: str

    def __post_init__(self) -> None:
        for where in ("cert", "key"):
            if not getattr(self, where):
                raise ConfigError("names no file", where=f"tls.{where}", mend="skerry init --tls makes certificates")


class ApiConfig(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """The table `[api]`.

    Attributes:
        listen: `host:port`; port 0 asks the kernel. Beyond loopback it needs `token_file`.
        loopback: what may be done from this machine without a token: `all`, `read` or `none` (health and log-in only). Left out:
            `all` while `listen` is loopback and no `token_file` is set, else `none`. The Unix socket may always do all.
        token_file: where tokens are kept, relative to the file; left out: `tokens.json` in the data directory.
        hosts: further names by which clients reach this node: what a request's `Host` may be.
        rate: requests that one address or token may send, such as `1000/s`; inference and log-in have limits of their own.
        tls: certificate and key; HTTPS is all that is spoken then.
    """

    listen: str = "127.0.0.1:8080"
    loopback: Loopback | None = None
    token_file: str = ""
    hosts: tuple[str, ...] = ()
    rate: str = "1000/s"
    tls: ApiTls | None = None

    def __post_init__(self) -> None:
        if self.beyond and not self.token_file:
            raise ConfigError(
                f"{self.listen!r} can be reached from other machines, which needs tokens",
                where="listen",
                mend='set token_file = "data/tokens.json", make a token with `skerry token create`, or listen on 127.0.0.1',
            )
        for host in self.hosts:
            if _HOST.fullmatch(host) is None:
                raise ConfigError(f"{host[:100]!r} is no host name", where="hosts", allowed="names such as box1.plant.example")
        at_key("rate", _parse_rate, self.rate)
        if self.loopback is None:
            # what holds is what `config show` and the documents say
            msgspec.structs.force_setattr(self, "loopback", "none" if self.beyond or self.token_file else "all")

    @property
    def beyond(self) -> bool:
        """Whether other machines can reach it."""
        return not is_loopback(self.address[0])

    @property
    def requests_per_s(self) -> float:
        """`rate`, a second."""
        return _parse_rate(self.rate) / 60

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


def _parse_rate(text: str) -> int:
    """Requests a minute."""
    found = _RATE.fullmatch(text.strip())
    if found is None:
        raise ConfigError(f"{text!r} is not a rate of requests", allowed="a whole number and /s or /m, such as 1000/s")
    return int(found[1]) * (60 if found[2] == "s" else 1)
