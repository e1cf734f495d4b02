"""The dashboard's door: for whom a request is, whose page sent it, and whether somebody has logged in. Decides; `app` obeys. Pure.

A page of another site can make a browser send requests here, or let a name of its own point here (DNS rebinding): the first is told
by `Origin`, which browsers send with every WebSocket and every form that changes something, the second by `Host`.
"""

from collections.abc import Mapping
from urllib.parse import urlsplit

import msgspec

from skerry.runtime import FORWARDED, is_loopback, means_us

SAFE = frozenset({"GET", "HEAD"})


class Policy(msgspec.Struct, frozen=True):
    """What one dashboard allows.

    Attributes:
        names: host names, in lower case, that mean it, beside those of loopback.
        beyond: it listens beyond loopback; then every address may be its own, and nobody comes in without logging in.
        secure: it speaks TLS.
    """

    names: frozenset[str] = frozenset()
    beyond: bool = False
    secure: bool = False


def refusal(policy: Policy, method: str, headers: Mapping[str, str], websocket: bool = False) -> str:
    """Why a request is not answered, in a sentence; empty where it may be. Names of headers are in lower case."""
    host = headers.get("host", "")
    if not means_us(host, policy.names, policy.beyond):
        return "this name does not mean this node: use its address, or add the name to api.hosts"
    own = f"{'https' if policy.secure else 'http'}://{host}".lower()
    origin = headers.get("origin")
    if origin is not None and origin.lower() != own:
        return "a page of another site may not use this one"
    if origin is None and (websocket or method not in SAFE):
        return "what changes something has to say which page it comes from"
    return ""


def is_near(policy: Policy, remote: str, headers: Mapping[str, str]) -> bool:
    """Whether it comes from this machine, not through a proxy on it, to a dashboard that only this machine can reach."""
    return not policy.beyond and is_loopback(remote) and FORWARDED.isdisjoint(headers)


def safe_target(path: str) -> str:
    """Where a browser may be sent after log-in: a path of this page, whatever was asked for."""
    parts = urlsplit(path)
    fine = path.startswith("/") and not path.startswith(("//", "/\\")) and not parts.scheme and not parts.netloc
    return path if fine and path.isprintable() and "\\" not in path else "/"
