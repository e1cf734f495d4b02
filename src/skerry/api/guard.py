"""Who may ask: keeps web pages from driving the node. Pure.

A page of another site can make a browser send requests to loopback: directly (then `Origin` or `Sec-Fetch-Site` names the site),
or by a name of its own that it lets point to 127.0.0.1 (DNS rebinding: then `Host` is that name).
"""

from collections.abc import Mapping
from typing import Literal
from urllib.parse import urlsplit

from skerry.api.config import is_loopback
from skerry.http import UNIX, RefusedError, Request

SAFE = frozenset({"GET", "HEAD"})
HEALTH = frozenset({"/healthz", "/readyz"})
_OWN_SITES = frozenset({"same-origin", "none"})


def check(request: Request, loopback: Literal["all", "read", "none"]) -> None:
    """Raise `RefusedError` unless the request may be answered; whatever comes over the Unix socket may."""
    if request.remote == UNIX:
        return
    _check_host(request.headers)
    _check_origin(request)
    if request.path in HEALTH or loopback == "all":
        return
    if loopback == "read" and request.method in SAFE:
        return
    raise RefusedError(
        f"{request.method} {request.path} is not open on this port (api.loopback is {loopback!r})",
        mend="use the `skerry` command on this machine",
    )


def _check_host(headers: Mapping[str, str]) -> None:
    host = headers.get("host", "")
    if not is_loopback(_host_name(host)):
        raise RefusedError(f"the request is for {host or 'no host'!r}, not for this machine", mend="ask 127.0.0.1 or localhost")


def _check_origin(request: Request) -> None:
    origin = request.headers.get("origin")
    if origin is not None and origin.lower() != f"http://{request.headers['host']}".lower():
        raise RefusedError(f"a page of {origin!r} may not ask this node")
    site = request.headers.get("sec-fetch-site")
    if site is not None and site not in _OWN_SITES and request.method not in SAFE:
        raise RefusedError("a page of another site may not change this node")


def _host_name(host: str) -> str:
    try:
        return urlsplit(f"//{host}").hostname or ""
    except ValueError:
        return ""
