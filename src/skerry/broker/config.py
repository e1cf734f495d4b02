"""`[broker]`, and nats-server's configuration file rendered from a plan. Pure."""

import ipaddress
import re
from typing import Literal

import msgspec

from skerry.broker.routes import Place, Routes, quoted, render_routes
from skerry.core.errors import ConfigError
from skerry.core.units import at_key, parse_duration, parse_size

CONTROL_PAYLOAD = 8 * 1024 * 1024
_HOST = re.compile(r"[A-Za-z0-9._-]{1,253}")
WAIT_S = 5
"""How long MQTT waits for the log before it ends the connection: through an election in a cluster, or seconds of a slow disk. With
2 s a busy machine lost devices by the hundred, which then all came back at once."""


class Retention(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """How long and how much may be held that is not processed yet or still owed to a session."""

    age: str = "24h"
    size: str = "2GiB"

    def __post_init__(self) -> None:
        if at_key("age", parse_duration, self.age) <= 0:
            raise ConfigError("must be more than 0", where="age")
        if at_key("size", parse_size, self.size) < 16 * 1024 * 1024:
            raise ConfigError("must be 16MiB or more", where="size")


class BrokerTls(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """PEM files of the TLS ports. `ca`: its certificates let devices in without a password."""

    cert: str
    key: str
    ca: str = ""

    def __post_init__(self) -> None:
        for where in ("cert", "key"):
            if not getattr(self, where):
                raise ConfigError("names no file", where=f"tls.{where}", mend="skerry init --tls makes certificates")


class BrokerConfig(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """The table `[broker]`.

    Attributes:
        mqtt: `host:port` for devices without TLS; port 0 asks the kernel, and keeps what it gave. Empty: with TLS only.
        mqtts: `host:port` for devices with TLS.
        websocket: `host:port` for MQTT over WebSocket, at any path that begins with /mqtt; with TLS where `tls` is given.
        tls: certificate and key of `mqtts` and `websocket`.
        sync: how often the log is synced to the disk: a duration, or `always`: before every PUBACK. `auto`: `1s` for a node
            alone, `always` for one of several.
        retention: bounds of what is not yet processed.
        max_payload: a device that sends more is disconnected.
        anonymous: clients without a user name may use devices/#, commands/# and events/#; web pages may not use WebSockets then.
    """

    mqtt: str = "127.0.0.1:1883"
    mqtts: str = ""
    websocket: str = ""
    tls: BrokerTls | None = None
    sync: str = "auto"
    retention: Retention = Retention()
    max_payload: str = "1MiB"
    max_connections: int = 10_000
    anonymous: bool = False

    def __post_init__(self) -> None:
        for where in ("mqtt", "mqtts", "websocket"):
            if getattr(self, where):
                parse_address(getattr(self, where), where)
        if not (self.mqtt or self.mqtts or self.websocket):
            raise ConfigError("no device could connect", where="mqtt", mend="set mqtt, mqtts or websocket")
        if self.mqtts and self.tls is None:
            raise ConfigError("needs a certificate", where="mqtts", mend="set tls = { cert, key }; skerry init --tls makes both")
        if self.tls is not None and not (self.mqtts or self.websocket):
            raise ConfigError("is of no use without mqtts or websocket", where="tls", mend='add mqtts = "0.0.0.0:8883"')
        if self.sync not in ("auto", "always") and at_key("sync", parse_duration, self.sync) <= 0:
            raise ConfigError("must be more than 0", where="sync", allowed='a duration, "always" or "auto"')
        if not 1024 <= at_key("max_payload", parse_size, self.max_payload) <= CONTROL_PAYLOAD:
            raise ConfigError(f"{self.max_payload} is out of range", where="max_payload", allowed="1KiB to 8MiB")
        if not 10 <= self.max_connections <= 1_000_000:
            raise ConfigError(f"{self.max_connections} is out of range", where="max_connections", allowed="10 to 1000000")

    @property
    def address(self) -> tuple[str, int]:
        """Where nats-server takes MQTT without TLS: a port of the kernel's on loopback where devices may not use it."""
        return parse_address(self.mqtt or "127.0.0.1:0", "mqtt")

    @property
    def websocket_address(self) -> tuple[str, int] | None:
        """Where nats-server takes WebSockets without TLS: as for `address`; None where there are none."""
        if not self.websocket:
            return None
        return parse_address("127.0.0.1:0" if self.tls is not None else self.websocket, "websocket")

    def sync_of(self, place: Place) -> str:
        """A duration, or `always`, for a server that stands there."""
        if self.sync != "auto":
            return self.sync
        return "1s" if place.routes is None else "always"

    @property
    def max_payload_bytes(self) -> int:
        return parse_size(self.max_payload)


def parse_address(text: str, where: str) -> tuple[str, int]:
    """Host and port of `host:port` or `[v6]:port`; port 0 asks the kernel. Raises `ConfigError`."""
    host, _, port = text.rpartition(":")
    if host.startswith("[") and host.endswith("]"):
        host = host[1:-1]
        good = ":" in host and _is_ip(host)
    else:
        good = _HOST.fullmatch(host) is not None
    if not good or re.fullmatch("[0-9]{1,5}", port) is None or int(port) > 65535:
        raise ConfigError(f"{text!r} is not an address", where=where, allowed="host:port, such as 0.0.0.0:1883 or [::1]:1883")
    return host, int(port)


def _is_ip(text: str) -> bool:
    try:
        ipaddress.ip_address(text)
    except ValueError:
        return False
    return True


class ServerPlan(msgspec.Struct, frozen=True):
    """All that nats-server's configuration says. The ports of `client` and `monitor` are on loopback. `routes`: to other servers;
    `mqtt_port` 0: no device may connect.

    `websocket_pages`: web pages may use WebSockets, which is safe only where each client has to say who it is: a browser opens one
    to any address that it reaches, for a page of any site."""

    name: str
    client_port: int
    monitor_port: int
    mqtt_host: str
    mqtt_port: int
    store_dir: str
    max_store: int
    sync: str
    max_connections: int
    log_file: str
    pid_file: str
    issuer: str
    agent_password: str
    relay_password: str
    sys_password: str
    websocket_host: str = ""
    websocket_port: int = 0
    websocket_pages: bool = True
    max_consumers: int = 20_000
    routes: Routes | None = None
    replicas: int = 1


# no device id begins with $: users of the configuration are never called out, so a device of such a name could not log in
AGENT, RELAY, SYSTEM = "$agent", "$relay", "$sys"


def _user(name: str, password: str, kind: Literal["STANDARD", "MQTT"]) -> str:
    return f'{{user: {quoted(name)}, password: {quoted(password)}, allowed_connection_types: ["{kind}"]}}'


def render(plan: ServerPlan) -> str:
    """The file's text. The node's own users are limited to their kind of connection, so that they are no way round the call-out."""
    sync = "always" if plan.sync == "always" else f"{max(1, parse_duration(plan.sync) // 1000)}ms"
    return f"""\
server_name: {quoted(plan.name)}
listen: "127.0.0.1:{plan.client_port}"
http: "127.0.0.1:{plan.monitor_port}"
pid_file: {quoted(plan.pid_file)}
log_file: {quoted(plan.log_file)}
logfile_size_limit: 8MB
logfile_max_num: 3
max_payload: {CONTROL_PAYLOAD}
max_pending: 64MB
max_connections: {plan.max_connections + 100}
ping_interval: "2s"
ping_max: 2
write_deadline: "5s"

jetstream {{
  store_dir: {quoted(plan.store_dir)}
  max_memory_store: 64MB
  max_file_store: {plan.max_store}
  limits {{ default_max_consumers: {plan.max_consumers} }}
  sync_interval: {sync}
}}

{_mqtt(plan)}{_websocket(plan)}{render_routes(plan.routes)}
accounts {{
  AGENT {{
    jetstream: enabled
    users: [
      {_user(AGENT, plan.agent_password, "STANDARD")}
      {_user(RELAY, plan.relay_password, "MQTT")}
    ]
  }}
  SYS {{ users: [{_user(SYSTEM, plan.sys_password, "STANDARD")}] }}
}}
system_account: SYS

authorization {{
  timeout: 2
  auth_callout {{
    issuer: {plan.issuer}
    account: AGENT
    auth_users: [{quoted(AGENT)}, {quoted(RELAY)}, {quoted(SYSTEM)}]
  }}
}}
"""


# RFC 2606: no page is there. A client that is no browser names no origin, and none is asked of it.
_NO_PAGES = '  allowed_origins: ["https://nowhere.invalid"]\n'


def _mqtt(plan: ServerPlan) -> str:
    """The block for devices; none where none may connect: what it keeps of them for the others are streams like all."""
    if not plan.mqtt_port:
        return ""
    return f"""mqtt {{
  host: {quoted(plan.mqtt_host)}
  port: {plan.mqtt_port}
  ack_wait: "2s"
  max_ack_pending: 1024
  js_api_timeout: "{WAIT_S}s"
{_replicas(plan)}}}
"""


def _replicas(plan: ServerPlan) -> str:
    """Of the server's own streams for MQTT; else it counts the servers that it knows when the first client comes: maybe too few."""
    return "" if plan.routes is None else f"  stream_replicas: {plan.replicas}\n"


def _websocket(plan: ServerPlan) -> str:
    """The block for WebSockets. TLS is taken off before: docs/adr/0009-tls-before-nats-server.md."""
    if not plan.websocket_port:
        return ""
    return f"""
websocket {{
  host: {quoted(plan.websocket_host)}
  port: {plan.websocket_port}
  no_tls: true
{"" if plan.websocket_pages else _NO_PAGES}}}
"""
