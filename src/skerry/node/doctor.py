"""What could hinder a node on this machine, looked at one by one: with what is wrong, and how to mend it."""

import errno
import os
import shutil
import stat
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path
from typing import Any, Literal

import msgspec

from skerry.broker import find_binary, parse_address
from skerry.config import NodeConfig, socket_path
from skerry.connector import Place, open_connector
from skerry.core.clock import SECOND, Clock, to_rfc3339
from skerry.core.errors import ConfigError, SkerryError
from skerry.core.units import counted, parse_size
from skerry.http import Client
from skerry.node.check import check_pipelines
from skerry.node.cluster import certificates, examine_cluster
from skerry.node.tls import is_own, judge, site_authority, tls_files
from skerry.runtime import can_listen, listener_of, most_open_files
from skerry.trust import RENEW_DAYS, TlsFiles, check_tls_files, read_public
from skerry.uplink import read_credentials

Level = Literal["ok", "warn", "fail"]
AUTHORITY_DAYS = 180
"""An authority that ends is told of so early: each device has to be given the next one."""
_DAY = 86_400 * SECOND
_LITTLE, _NOTHING = 1 << 30, 64 << 20
_OWN_FILES = 512
_FIRST_YEAR, _LAST_YEAR = 2025, 2100


class Finding(msgspec.Struct, frozen=True):
    """What one look found. `mend`: what to do, empty where all is well."""

    check: str
    level: Level
    says: str
    mend: str = ""


def examine(config: NodeConfig, clock: Clock) -> list[Finding]:
    """All findings, in the order in which a person should read them. Changes nothing but for a probe file that it removes."""
    status = _status(config)
    return [
        _node(status),
        *(Finding("node", "warn", warning) for warning in (status or {}).get("warnings", ())),
        *_pipelines(config),
        _clock(config, clock),
        _data_dir(config),
        _disk(config),
        _files(config.broker.max_connections, most_open_files()),
        *_measured(status),
        _broker(),
        *_ports(config, status is not None),
        *_certificates(config, clock),
        *_private(config),
        *(Finding(*each) for each in examine_cluster(config, status, clock)),
        *_uplink(config, status),
        *_connectors(config, status),
        Finding("mqtt", "ok", "the broker speaks MQTT 3.1.1; a client set to MQTT 5 is refused (code 1): set it to 3.1.1"),
    ]


def failed(check: str, error: SkerryError) -> Finding:
    """The finding that an error is."""
    where = f"{error.where}: " if error.where else ""
    return Finding(check, "fail", f"{where}{error.message}", error.mend)


def _status(config: NodeConfig) -> dict[str, Any] | None:
    """What the node says of itself, None where none runs."""
    with suppress(SkerryError), Client(socket_path(config), 5.0) as client:
        found: dict[str, Any] = client.get("/api/v1/node")
        return found
    return None


def _node(status: dict[str, Any] | None) -> Finding:
    if status is None:
        return Finding("node", "ok", "does not run now")
    if not status.get("ready"):
        return Finding("node", "warn", f"runs and is not ready: {status.get('reason') or 'it is starting'}", "see `skerry logs`")
    return Finding("node", "ok", "runs and is ready")


def _pipelines(config: NodeConfig) -> Iterator[Finding]:
    rows = check_pipelines(config)
    for row in rows:
        if not row["ok"]:
            yield Finding(f"pipeline {row['name']}", "fail", row["problem"], "see `skerry pipeline check`")
    if all(row["ok"] for row in rows):
        count = f"{len(rows)} pipeline{'' if len(rows) == 1 else 's'}"
        yield Finding("configuration", "ok", f"{config.path or 'the environment'}: well formed, {count}")


def _clock(config: NodeConfig, clock: Clock) -> Finding:
    now = clock.now()
    shown = to_rfc3339(now)
    mend = "set the clock; on a machine without a battery for it let NTP do so before the node starts"
    if not _FIRST_YEAR <= int(shown[:4]) < _LAST_YEAR:
        return Finding("clock", "fail", f"it says {shown}", mend)
    last = _newest(config.data_dir)
    if last > now + _DAY:
        return Finding("clock", "warn", f"it says {shown}, and the node wrote a file at {to_rfc3339(last)}", mend)
    return Finding("clock", "ok", shown)


def _newest(directory: Path) -> int:
    """When the newest file of a directory itself was written; 0 where there is none."""
    with suppress(OSError):
        return max((path.stat().st_mtime_ns // 1000 for path in directory.iterdir() if path.is_file()), default=0)
    return 0


def _data_dir(config: NodeConfig) -> Finding:
    data = config.data_dir
    probe = _existing(data) / f".skerry-doctor-{os.getpid()}"
    try:
        probe.touch(exist_ok=False)
        probe.unlink()
    except OSError as error:
        mend = "let the user who runs skerry write there, or set another node.data_dir"
        return Finding("data directory", "fail", f"{data} cannot be written: {(error.strerror or str(error)).lower()}", mend)
    if not data.exists():
        return Finding("data directory", "ok", f"{data} will be made")
    if stat.S_IMODE(data.stat().st_mode) & 0o077:
        return Finding("data directory", "warn", f"{data} can be looked into by others", f"chmod 700 {data}")
    return Finding("data directory", "ok", f"{data}")


def _existing(path: Path) -> Path:
    while not path.exists():
        path = path.parent
    return path


def _disk(config: NodeConfig) -> Finding:
    free, wanted = shutil.disk_usage(_existing(config.data_dir)).free, parse_size(config.broker.retention.size)
    says = f"{free >> 20} MiB are free, the log may take {wanted >> 20} MiB"
    if free < _NOTHING:
        return Finding("disk", "fail", says, "make room")
    if free < max(wanted, _LITTLE):
        return Finding("disk", "warn", says, "make room, or set a smaller broker.retention.size")
    return Finding("disk", "ok", says)


def _files(connections: int, limit: int) -> Finding:
    """A connection is a file of the broker; one with TLS is two of the agent."""
    says = f"a process may have {limit:,} files open, broker.max_connections is {connections:,}"
    if limit < connections + _OWN_FILES:
        return Finding("open files", "warn", says, "raise LimitNOFILE of the service or `ulimit -Hn`, or lower max_connections")
    return Finding("open files", "ok", says)


def _measured(status: dict[str, Any] | None) -> Iterator[Finding]:
    """Only a running node knows: its cgroup is not that of this command."""
    by = ((status or {}).get("resources") or {}).get("measured_by")
    if by == "cgroup":
        yield Finding("cgroup", "ok", "the node has a cgroup of its own, and is measured by it")
    elif by:
        yield Finding("cgroup", "ok", "the node has no cgroup of its own, and is measured process by process")
    held = ((status or {}).get("resources") or {}).get("enforced_by")
    if held:
        why = f": {held['why']}" if held["why"] else ""
        yield Finding("enforcement", "ok", f"memory by {held['memory']}, CPU by {held['cpu']}{why}")


def _broker() -> Finding:
    try:
        found = find_binary()
        return Finding("nats-server", "ok", f"{found.shown}, {found.path}")
    except SkerryError as error:
        return failed("nats-server", error)


def _ports(config: NodeConfig, running: bool) -> Iterator[Finding]:
    broker = config.broker
    places = [
        (f"broker.{key}", parse_address(text, key))
        for key, text in (("mqtt", broker.mqtt), ("mqtts", broker.mqtts), ("websocket", broker.websocket))
        if text
    ]
    if config.cluster.enabled:
        places.append(("cluster.listen", parse_address(config.cluster.listen, "cluster.listen")))
    for key, (host, port) in [*places, ("api.listen", config.api.address)]:
        if port == 0:
            yield Finding(key, "ok", "any port that is free")
            continue
        error = can_listen(host, port)
        if error is None and not running:
            yield Finding(key, "ok", f"{host}:{port} is free")
        elif error is None:
            yield Finding(key, "warn", f"the node runs and does not listen on {host}:{port}", "see `skerry status`")
        elif running and error.errno == errno.EADDRINUSE:
            yield Finding(key, "ok", f"the node listens on {host}:{port}")
        elif error.errno == errno.EADDRINUSE:
            who = listener_of(port) or "another program"
            yield Finding(key, "fail", f"{host}:{port} is taken by {who}", f"stop it, or set another {key}")
        else:
            yield Finding(key, "fail", f"{host}:{port}: {(error.strerror or str(error)).lower()}", f"set another {key}")


def _certificates(config: NodeConfig, clock: Clock) -> Iterator[Finding]:
    now, authority = clock.now(), site_authority(config)
    files = tls_files(config)
    for section, each in files.items():
        yield _certificate(f"{section}.tls", each, now, is_own(config, each))
    for section, each in certificates(config).items():
        yield _certificate(f"{section} certificate", each, now, True)
    if authority.exists:
        try:
            facts = authority.facts()
        except SkerryError as error:
            yield failed("site CA", error)
            return
        sentence = judge(facts, now, AUTHORITY_DAYS)
        mend = "make another authority, and give its ca.pem to the devices" if sentence else ""
        until = to_rfc3339(facts.not_after)[:10]
        yield Finding("site CA", "warn" if sentence else "ok", sentence or f"{authority.certificate}, good until {until}", mend)
    if not files:
        yield Finding("certificates", "ok", "none: no TLS is configured (skerry init --tls)")


def _certificate(check: str, files: TlsFiles, now: int, own: bool) -> Finding:
    try:
        facts = check_tls_files(files, now)
    except ConfigError as error:
        return failed(check, error)
    sentence = judge(facts, now, RENEW_DAYS)
    if sentence:
        mend = "start the node: it renews its own certificate" if own else f"have {files.cert} renewed; the node takes it by itself"
        return Finding(check, "warn", f"{files.cert} {sentence}", mend)
    what = "renewed by the node" if own else "brought, not renewed by the node"
    return Finding(check, "ok", f"good for {counted(facts.days_left(now), 'day')} more ({what}); {', '.join(facts.names[:4])}")


def _uplink(config: NodeConfig, status: dict[str, Any] | None) -> Iterator[Finding]:
    """Whether the files of the uplink can be read, and whether it gets through."""
    section = config.uplink
    if not section.url:
        return
    try:
        read_credentials(config.base / section.credentials if section.credentials else None)
        if section.commands.key:
            read_public((config.base / section.commands.key).read_bytes(), section.commands.key)
    except SkerryError as error:
        yield failed("uplink", error)
    except OSError as error:
        yield Finding("uplink", "fail", f"uplink.commands.key cannot be read: {error.strerror}", "name the centre's public key")
    row = (status or {}).get("uplink") or {}
    if row.get("trouble"):
        yield Finding("uplink", "warn", f"nothing gets through to the centre: {row['trouble']}", "try `skerry uplink test`")
    elif row.get("last"):
        yield Finding("uplink", "ok", f"{row['where']} acknowledged an envelope at {row['last']}")


def _connectors(config: NodeConfig, status: dict[str, Any] | None) -> Iterator[Finding]:
    """Whether what a connector needs is here, and, of a running node, whether it gets through."""
    rows = {row["name"]: row for row in (status or {}).get("connectors", ())}
    for spec in config.connectors:
        check = f"connector {spec.name}"
        try:
            open_connector(spec, Place(spec.name, config.node.name, config.node.site, config.base))
        except SkerryError as error:
            yield failed(check, error)
            continue
        row = rows.get(spec.name, {})
        if row.get("trouble"):
            yield Finding(check, "warn", f"it waits: {row['trouble']}", f"try `skerry connector test {spec.name}`")
        else:
            yield Finding(check, "ok", f"{spec.kind}, {spec.direction}: {counted(row.get('moved', 0), 'message')} since its start")


def _private(config: NodeConfig) -> Iterator[Finding]:
    """Whether what nobody else may read can be read by others."""
    data = config.data_dir
    paths = [*data.glob("keys/*"), *data.glob("tls/*.key"), *data.glob("cluster/*"), config.token_file]
    paths += [files.key for files in tls_files(config).values()]
    open_ones = []
    for path in dict.fromkeys(paths):
        with suppress(OSError):
            if path.is_file() and stat.S_IMODE(path.stat().st_mode) & 0o077:
                open_ones.append(path)
    for path in open_ones:
        yield Finding("private files", "warn", f"{path} can be read by others", f"chmod 600 {path}")
    if not open_ones:
        yield Finding("private files", "ok", "keys and tokens can be read by their owner only")
