"""Where a client goes: a Unix socket, or an http or https address."""

import ssl
from collections.abc import Mapping
from pathlib import Path
from typing import Any
from urllib.parse import urlencode, urlsplit

import msgspec

from skerry.core.errors import ConfigError
from skerry.http.problem import UnreachableError

_ALLOWED = "http://host:port or https://host:port"
_START = "start it with `skerry run`"
# what OpenSSL says of a certificate (x509_vfy.h), in words and with the mend
_CERTIFICATE = {
    9: ("is not valid yet", "see whether the clocks of both machines are right"),
    10: ("has expired", "renew it on the node; `skerry doctor` there says which"),
    18: ("is signed by itself, and not known here", "name the site's CA with --ca FILE"),
    19: ("is signed by a CA that is not known here", "name the site's CA with --ca FILE"),
    20: ("is signed by a CA that is not known here", "name the site's CA with --ca FILE"),
    21: ("is signed by a CA that is not known here", "name the site's CA with --ca FILE"),
    62: ("is for other names", "use one of its names in the URL"),
    64: ("is for other addresses", "use one of its names in the URL"),
}


class Target(msgspec.Struct, frozen=True):
    """A Unix socket (`socket`) or `host:port`, with TLS or without."""

    host: str
    port: int = 80
    socket: str = ""
    tls: bool = False

    def __str__(self) -> str:
        return self.socket or self.url

    @property
    def netloc(self) -> str:
        """`host:port`, an IPv6 address in brackets: what goes into a URL and into `Host`."""
        return f"[{self.host}]:{self.port}" if ":" in self.host else f"{self.host}:{self.port}"

    @property
    def url(self) -> str:
        return f"{'https' if self.tls else 'http'}://{self.netloc}"

    def unreachable(self, why: BaseException | str, who: str = "the node", start: str = _START) -> UnreachableError:
        """The error that nobody answers here, or nobody who is what it should be."""
        if isinstance(why, ssl.SSLCertVerificationError):
            what, mend = _CERTIFICATE.get(why.verify_code, (f"is refused: {why.verify_message}", "see `skerry doctor` on the node"))
            return UnreachableError(f"{who}'s certificate {what}", where=str(self), mend=mend)
        if isinstance(why, ssl.SSLError):
            return UnreachableError(
                f"what answers there does not speak TLS as it should ({_reason(why)})",
                where=str(self),
                mend="is it http:// there, or another port",
            )
        mend = start
        if isinstance(why, ConnectionResetError) and not self.tls and not self.socket:
            mend += ", or is it https:// there"
        return UnreachableError(f"{who} is not reachable: {_sentence(why)}", where=str(self), mend=mend)

    def decode(self, content: bytes) -> Any:
        """The JSON of an answer; None of an empty one. Raises `UnreachableError` where it is no JSON."""
        if not content:
            return None
        try:
            return msgspec.json.decode(content)
        except msgspec.MsgspecError as error:
            raise self.unreachable("what answers there is not a node") from error


def _reason(error: ssl.SSLError) -> str:
    return str(getattr(error, "reason", None) or error).replace("_", " ").lower()


def _sentence(why: BaseException | str) -> str:
    if isinstance(why, TimeoutError):
        return "it does not answer in time"
    if isinstance(why, FileNotFoundError):
        return "its socket is not there"
    if isinstance(why, OSError) and why.strerror:
        return why.strerror.lower()
    return str(why) or type(why).__name__


def parse_target(where: Path | str) -> Target:
    """A path, or an `http://host:port` or `https://host:port` URL. Raises `ConfigError`."""
    if isinstance(where, Path):
        return Target("localhost", socket=str(where))
    try:
        url = urlsplit(where)
        port = url.port
    except ValueError as error:
        raise ConfigError(f"{where!r} is not a URL: {error}", allowed=_ALLOWED) from error
    wrong = url.path not in ("", "/") or url.query or url.fragment or url.username is not None
    if url.scheme not in ("http", "https") or not url.hostname or wrong:
        raise ConfigError(f"{where!r} is not the address of a node", allowed=_ALLOWED)
    tls = url.scheme == "https"
    return Target(url.hostname, port or (443 if tls else 80), tls=tls)


def client_tls(target: Target, ca: Path | str = "") -> ssl.SSLContext | None:
    """How to check the certificate of a target: by this machine's CAs, or by those of a file alone; None without TLS.

    Raises `ConfigError` for a file that cannot be read or holds no certificate."""
    if not target.tls:
        return None
    try:
        context = ssl.create_default_context(cafile=str(ca) or None)
    except ssl.SSLError as error:
        raise ConfigError("holds no certificate", where=str(ca), allowed="a CA's certificate in PEM") from error
    except OSError as error:
        raise ConfigError(f"cannot be read: {error.strerror}", where=str(ca), mend="name the CA's certificate, in PEM") from error
    context.minimum_version = ssl.TLSVersion.TLSv1_2
    return context


def bearer(token: str) -> dict[str, str]:
    """The header that carries a token; none for an empty one. Raises `ConfigError` for what can be no token."""
    if token and not (token.isascii() and token.isprintable() and " " not in token):
        raise ConfigError("what was given is no token", where="token", allowed="one line as `skerry token create` shows it")
    return {"Authorization": f"Bearer {token}"} if token else {}


def with_query(path: str, query: Mapping[str, object] | None) -> str:
    """The path with its query; names whose value is None or empty are left out."""
    given = {name: value for name, value in (query or {}).items() if value not in (None, "")}
    return f"{path}?{urlencode(given)}" if given else path
