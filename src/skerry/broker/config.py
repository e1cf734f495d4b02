"""`[broker]`, and nats-server's configuration file rendered from a plan. Pure."""

import ipaddress
import re
from typing import Literal

import msgspec

from skerry.core.errors import ConfigError
from skerry.core.units import at_key, parse_duration, parse_size

CONTROL_PAYLOAD = 8 * 1024 * 1024
_LATER = "is not part of this version"
_HOST = re.compile(r"[A-Za-z0-9._-]{1,253}")
_ESCAPED = re.compile(r'[\x00-\x1f\x7f"\\]')


class Retention(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """How long and how much may be held that is not processed yet or still owed to a session."""

    age: str = "24h"
    size: str = "2GiB"

    def __post_init__(self) -> None:
        if at_key("age", parse_duration, self.age) <= 0:
            raise ConfigError("must be more than 0", where="age")
        if at_key("size", parse_size, self.size) < 16 * 1024 * 1024:
            raise ConfigError("must be 16MiB or more", where="size")


class BrokerConfig(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """The table `[broker]`.

    Attributes:
        mqtt: `host:port` for devices; port 0 asks the kernel, and keeps what it gave.
        sync: how often the log is synced to the disk: a duration, or `always`: before every PUBACK.
        retention: bounds of what is not yet processed.
        max_payload: a device that sends more is disconnected.
        anonymous: clients without a user name may use devices/#, commands/# and events/#.
    """

    mqtt: str = "127.0.0.1:1883"
    mqtts: str = ""
    websocket: str = ""
    tls: dict[str, str] = {}
    sync: str = "1s"
    retention: Retention = Retention()
    max_payload: str = "1MiB"
    max_connections: int = 10_000
    anonymous: bool = False

    def __post_init__(self) -> None:
        parse_address(self.mqtt, "mqtt")
        for where in ("mqtts", "websocket", "tls"):
            if getattr(self, where):
                raise ConfigError(f"{where} {_LATER}", where=where, mend="leave it out and use mqtt")
        if self.sync != "always" and at_key("sync", parse_duration, self.sync) <= 0:
            raise ConfigError("must be more than 0", where="sync", allowed='a duration, or "always"')
        if not 1024 <= at_key("max_payload", parse_size, self.max_payload) <= CONTROL_PAYLOAD:
            raise ConfigError(f"{self.max_payload} is out of range", where="max_payload", allowed="1KiB to 8MiB")
        if not 10 <= self.max_connections <= 1_000_000:
            raise ConfigError(f"{self.max_connections} is out of range", where="max_connections", allowed="10 to 1000000")

    @property
    def address(self) -> tuple[str, int]:
        return parse_address(self.mqtt, "mqtt")

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
    """All that nats-server's configuration says. Host and ports of `client` and `monitor` are on loopback."""

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


# no device id begins with $: users of the configuration are never called out, so a device of such a name could not log in
AGENT, RELAY, SYSTEM = "$agent", "$relay", "$sys"


def _user(name: str, password: str, kind: Literal["STANDARD", "MQTT"]) -> str:
    return f'{{user: {_quote(name)}, password: {_quote(password)}, allowed_connection_types: ["{kind}"]}}'


def render(plan: ServerPlan) -> str:
    """The file's text. The node's own users are limited to their kind of connection, so that they are no way round the call-out."""
    sync = "always" if plan.sync == "always" else f"{max(1, parse_duration(plan.sync) // 1000)}ms"
    return f"""\
server_name: {_quote(plan.name)}
listen: "127.0.0.1:{plan.client_port}"
http: "127.0.0.1:{plan.monitor_port}"
pid_file: {_quote(plan.pid_file)}
log_file: {_quote(plan.log_file)}
logfile_size_limit: 8MB
logfile_max_num: 3
max_payload: {CONTROL_PAYLOAD}
max_pending: 64MB
max_connections: {plan.max_connections + 100}
ping_interval: "2s"
ping_max: 2
write_deadline: "5s"

jetstream {{
  store_dir: {_quote(plan.store_dir)}
  max_memory_store: 64MB
  max_file_store: {plan.max_store}
  sync_interval: {sync}
}}

mqtt {{
  host: {_quote(plan.mqtt_host)}
  port: {plan.mqtt_port}
  ack_wait: "2s"
  max_ack_pending: 1024
  js_api_timeout: "2s"
}}

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
    auth_users: [{_quote(AGENT)}, {_quote(RELAY)}, {_quote(SYSTEM)}]
  }}
}}
"""


def _quote(text: str) -> str:
    """A string as nats-server's configuration takes it: it knows `\\xHH`, and takes all other characters as they are."""
    return '"' + _ESCAPED.sub(lambda match: f"\\x{ord(match[0]):02x}", text) + '"'
