"""What makes one nats-server of several: routes by mutual TLS, and a password besides. Pure."""

import re
from urllib.parse import quote

import msgspec

ROUTE_USER = "route"
_ESCAPED = re.compile(r'[\x00-\x1f\x7f"\\]')


class Routes(msgspec.Struct, frozen=True):
    """A server's place in a cluster.

    Attributes:
        name: of the cluster, the same on all.
        host, port: where it takes routes.
        members: `host:port` of all, this one too: a server that knows fewer at its start may form a cluster of its own.
        advertise: `host:port` where the others reach it, when that is not what it listens on.
        cert, key, ca: PEM files; the certificate is good as server and client, for the host names or addresses of `members`.
        password: the same on all. Devices have certificates of the same CA, so a certificate alone lets nobody in.
    """

    name: str
    host: str
    port: int
    members: tuple[str, ...]
    cert: str
    key: str
    ca: str
    password: str
    advertise: str = ""

    def __repr__(self) -> str:
        return f"Routes(name={self.name!r}, host={self.host!r}, port={self.port!r}, members={self.members!r})"


class Place(msgspec.Struct, frozen=True):
    """Where a server stands among others.

    Attributes:
        name: of the server; two of one cluster must not have the same.
        store: folder of its streams. A server alone and one of several never share one: streams of the former would be deleted.
        routes: None for a server alone.
        replicas: how many servers keep each stream.
        quiet: no device reaches it, and who knew the password of before does not either: its streams are being copied.
    """

    name: str = "skerry"
    store: str = "jetstream"
    routes: Routes | None = None
    replicas: int = 1
    quiet: bool = False


ALONE = Place()


def render_routes(routes: Routes | None) -> str:
    """The block `cluster` of the server's configuration; empty for a server alone."""
    if routes is None:
        return ""
    secret = quote(routes.password, safe="")
    urls = ", ".join(quoted(f"nats://{ROUTE_USER}:{secret}@{member}") for member in routes.members)
    host = f"[{routes.host}]" if ":" in routes.host else routes.host
    return f"""
cluster {{
  name: {quoted(routes.name)}
  listen: {quoted(f"{host}:{routes.port}")}
  {f"cluster_advertise: {quoted(routes.advertise)}" if routes.advertise else "no_advertise: true"}
  routes: [{urls}]
  authorization {{ user: {ROUTE_USER}, password: {quoted(routes.password)}, timeout: 5 }}
  tls {{
    cert_file: {quoted(routes.cert)}
    key_file: {quoted(routes.key)}
    ca_file: {quoted(routes.ca)}
    verify: true
    timeout: 5
  }}
}}
"""


def quoted(text: str) -> str:
    """A string as nats-server's configuration takes it: it knows `\\xHH`, and takes all other characters as they are."""
    return '"' + _ESCAPED.sub(lambda match: f"\\x{ord(match[0]):02x}", text) + '"'
