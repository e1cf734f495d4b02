"""Who may ask: by token, by being on this machine, and never by way of a web page. Pure.

A page of another site can make a browser send requests to a node: directly (then `Origin`, `Sec-Fetch-Site` or `Referer` names the
site), or by a name of its own that it lets point to the node (DNS rebinding: then `Host` is that name). What it cannot do is send
a token that it does not know: a request with a good one is judged by the token alone.
"""

from collections.abc import Iterable, Mapping

import msgspec

from skerry.api.config import Loopback
from skerry.api.scopes import Scope, covers
from skerry.http import UNIX, RefusedError, Request, UnauthorizedError
from skerry.runtime import FORWARDED, is_loopback, means_us

SAFE = frozenset({"GET", "HEAD"})
_OWN_SITES = frozenset({"same-origin", "none"})
_TOKEN_MEND = "`skerry token create NAME --scope {scope}` on the node makes one, for `Authorization: Bearer …` or --token-file"
_SOCKET_MEND = "use the `skerry` command on the node's computer, or a token"


class Policy(msgspec.Struct, frozen=True):
    """What one node allows.

    Attributes:
        loopback: what may be done from this machine without a token.
        names: host names, in lower case, that mean this node beside those of loopback.
        beyond: it listens beyond loopback too; then every address may be its own.
        secure: it speaks TLS, so its own pages are https.
    """

    loopback: Loopback = "all"
    names: frozenset[str] = frozenset()
    beyond: bool = False
    secure: bool = False


def check(request: Request, policy: Policy, scope: Scope | None, held: Iterable[Scope] | None = None) -> None:
    """Raise `RefusedError` or `UnauthorizedError` unless the request may be answered; over the Unix socket all may.

    Args:
        scope: what the path asks for; None: for nothing.
        held: the scopes of the good token that the request bears; None where it bears none.
    """
    if request.remote == UNIX:
        return
    if held is not None:
        _check_scope(request, scope, held)
        return
    _check_host(request.headers, policy)
    _check_page(request, policy)
    if scope is None or _open_here(request, policy, scope):
        return
    if _is_near(request) and not policy.beyond:
        raise UnauthorizedError(
            f"{request.method} {request.path} is not open on this port without a token (api.loopback is {policy.loopback!r})",
            mend=_SOCKET_MEND,
        )
    raise UnauthorizedError(f"{request.method} {request.path} needs a token", mend=_TOKEN_MEND.format(scope=scope))


def bearer_of(headers: Mapping[str, str]) -> str | None:
    """The token that a request bears; None where it bears none."""
    scheme, _, token = headers.get("authorization", "").partition(" ")
    return token.strip() if scheme.lower() == "bearer" else None


def _check_scope(request: Request, scope: Scope | None, held: Iterable[Scope]) -> None:
    if scope is not None and not covers(held, scope):
        raise RefusedError(
            f"{request.method} {request.path} needs the scope {scope!r}, which this token has not",
            mend=f"`skerry token create NAME --scope {scope}` on the node makes another",
            scope=scope,
        )


def _open_here(request: Request, policy: Policy, scope: Scope) -> bool:
    if policy.loopback == "none" or not _is_near(request):
        return False
    return policy.loopback == "all" or (request.method in SAFE and scope not in ("operate", "admin"))


def _is_near(request: Request) -> bool:
    """Whether it comes from this machine, and not through a proxy on it."""
    return is_loopback(request.remote) and FORWARDED.isdisjoint(request.headers)


def _check_host(headers: Mapping[str, str], policy: Policy) -> None:
    host = headers.get("host", "")
    if not means_us(host, policy.names, policy.beyond):
        mend = "add the name to api.hosts, or ask by address" if policy.beyond else "ask 127.0.0.1 or localhost"
        raise RefusedError(f"the request is for {host[:100] or 'no host'!r}, not for this node", mend=mend)


def _check_page(request: Request, policy: Policy) -> None:
    headers = request.headers
    own = f"{'https' if policy.secure else 'http'}://{headers['host']}".lower()
    origin = headers.get("origin")
    if origin is not None and origin.lower() != own:
        raise RefusedError(f"a page of {origin[:100]!r} may not ask this node")
    site = headers.get("sec-fetch-site")
    if site is not None and site not in _OWN_SITES and not _is_visit(request):
        raise RefusedError("a page of another site may not ask this node")
    referer = headers.get("referer")
    if referer is not None and request.method not in SAFE and not f"{referer.lower()}/".startswith(f"{own}/"):
        raise RefusedError(f"a page of {referer[:100]!r} may not change this node")


def _is_visit(request: Request) -> bool:
    """A person who follows a link from elsewhere: reads, and no page sees the answer."""
    return request.method in SAFE and request.headers.get("sec-fetch-mode", "navigate") == "navigate"
