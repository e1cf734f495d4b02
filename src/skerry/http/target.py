"""Where a client goes: a Unix socket or an http address."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any
from urllib.parse import urlencode, urlsplit

import msgspec

from skerry.core.errors import ConfigError
from skerry.http.problem import UnreachableError


class Target(msgspec.Struct, frozen=True):
    """A Unix socket (`socket`) or `host:port`."""

    host: str
    port: int = 80
    socket: str = ""

    def __str__(self) -> str:
        return self.socket or f"http://{self.netloc}"

    @property
    def netloc(self) -> str:
        """`host:port`, an IPv6 address in brackets: what goes into a URL and into `Host`."""
        return f"[{self.host}]:{self.port}" if ":" in self.host else f"{self.host}:{self.port}"

    def unreachable(self, why: Exception | str) -> UnreachableError:
        """The error that nobody answers here, or nobody who is a node."""
        return UnreachableError(f"the node is not reachable: {_sentence(why)}", where=str(self), mend="start it with `skerry run`")

    def decode(self, content: bytes) -> Any:
        """The JSON of an answer; None of an empty one. Raises `UnreachableError` where it is no JSON."""
        if not content:
            return None
        try:
            return msgspec.json.decode(content)
        except msgspec.MsgspecError as error:
            raise self.unreachable("what answers there is not a node") from error


def _sentence(why: Exception | str) -> str:
    if isinstance(why, TimeoutError):
        return "it does not answer in time"
    if isinstance(why, FileNotFoundError):
        return "its socket is not there"
    if isinstance(why, OSError) and why.strerror:
        return why.strerror.lower()
    return str(why) or type(why).__name__


def parse_target(where: Path | str) -> Target:
    """A path or an `http://host:port` URL. Raises `ConfigError`."""
    if isinstance(where, Path):
        return Target("localhost", socket=str(where))
    try:
        url = urlsplit(where)
        port = url.port or 80
    except ValueError as error:
        raise ConfigError(f"{where!r} is not a URL: {error}", allowed="http://host:port") from error
    if url.scheme == "https":
        raise ConfigError("https is not part of this version", where=where, allowed="http://host:port")
    if url.scheme != "http" or not url.hostname or url.path not in ("", "/") or url.query or url.username:
        raise ConfigError(f"{where!r} is not the address of a node", allowed="http://host:port")
    return Target(url.hostname, port)


def with_query(path: str, query: Mapping[str, object] | None) -> str:
    """The path with its query; names whose value is None or empty are left out."""
    given = {name: value for name, value in (query or {}).items() if value not in (None, "")}
    return f"{path}?{urlencode(given)}" if given else path
