"""The one TOML file: joins the sections that the rooms own, and says where every value came from."""

import math
import os
import re
import socket
import tempfile
import zlib
from pathlib import Path
from typing import Any, Literal

import msgspec

from skerry.api import ApiConfig
from skerry.broker import BrokerConfig, parse_address
from skerry.core.errors import ConfigError, suggestion
from skerry.core.settings import Tables, build, load_tables, place
from skerry.core.units import at_key, parse_duration, parse_rate, parse_size
from skerry.inference import ModelConfig, Models
from skerry.pipeline import PipelineSpec, parse_pipeline

_NODE_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9_-]{0,62}")
_LATER = "is not part of this version"


def _host_name() -> str:
    return re.sub(r"[^A-Za-z0-9-]", "-", socket.gethostname().split(".")[0]).strip("-") or "node"


class NodeSection(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """`[node]`: who this is and where it keeps its data (relative to the file)."""

    name: str = msgspec.field(default_factory=_host_name)
    site: str = "site"
    data_dir: str = "./data"
    capabilities: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        if not _NODE_NAME.fullmatch(self.name):
            raise ConfigError(f"{self.name!r} is not a node name", where="name", allowed="letters, digits, - and _")


class RuntimeSection(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """`[runtime]`: processes and threads. `stall`: a worker that gets nowhere for so long is killed and started again."""

    workers: int = 1
    worker_threads: int = 1
    max_blocking_threads: int = 16
    thread_stack_size: str = "1MiB"
    stall: str = "10s"

    def __post_init__(self) -> None:
        for where in ("workers", "worker_threads", "max_blocking_threads"):
            if not 1 <= getattr(self, where) <= 256:
                raise ConfigError(f"{getattr(self, where)} is out of range", where=where, allowed="1 to 256")
        at_key("thread_stack_size", parse_size, self.thread_stack_size)
        if at_key("stall", parse_duration, self.stall) < 1_000_000:
            raise ConfigError("must be 1s or more", where="stall")


class ResourcesSection(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """`[resources]`: what the whole node may use."""

    memory: str = "1GiB"
    cpu: float = 2.0
    network: str = ""
    disk: str = "8GiB"

    def __post_init__(self) -> None:
        at_key("memory", parse_size, self.memory)
        at_key("disk", parse_size, self.disk)
        if self.network:
            at_key("network", parse_rate, self.network)
        if not 0 < self.cpu < math.inf:
            raise ConfigError(f"{self.cpu} is no number of cores", where="cpu", allowed="a number above 0")


class DevicesSection(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """`[devices]`: how long challenges and tokens live."""

    challenge_ttl: str = "30s"
    token_ttl: str = "1h"

    def __post_init__(self) -> None:
        at_key("challenge_ttl", parse_duration, self.challenge_ttl)
        at_key("token_ttl", parse_duration, self.token_ttl)


class StorageSection(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """`[storage]`: the local key-value store."""

    path: str = "./data/store"
    max_size: str = "2GiB"
    compression: Literal["none", "lz4", "zstd"] = "zstd"

    def __post_init__(self) -> None:
        at_key("max_size", parse_size, self.max_size)


class HistorySection(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """`[history]`: how long each level is kept."""

    keep: dict[str, str] = msgspec.field(default_factory=lambda: {"raw": "7d", "1m": "90d", "1h": "5y"})
    topics: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        for level, text in self.keep.items():
            if level not in ("raw", "1m", "1h"):
                raise ConfigError(f"unknown level {level!r}", where="keep", allowed="raw, 1m, 1h")
            at_key("keep", parse_duration, text)
        if self.topics:
            raise ConfigError(f"history {_LATER}", where="topics", mend="leave it out")


class DashboardSection(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """`[dashboard]`: the web page. `enabled` left out: shown where it is installed."""

    enabled: bool | None = None
    listen: str = "127.0.0.1:8081"

    def __post_init__(self) -> None:
        parse_address(self.listen, "listen")
        if self.enabled:
            raise ConfigError(f"the dashboard {_LATER}", where="enabled", mend="leave it out or set it to false")


class ClusterSection(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """`[cluster]`: several boxes as one."""

    enabled: bool = False
    name: str = ""
    listen: str = ""
    advertise: str = ""
    routes: str = ""
    replicas: int = 3
    discovery: Literal["mdns", "seeds", "both"] = "mdns"
    seeds: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        if self.enabled:
            raise ConfigError(f"the cluster {_LATER}", where="enabled", mend="set it to false")


class UplinkSection(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """`[uplink]`: the link to the centre; enabled by `url`."""

    kind: Literal["mqtt", "http", "nats", "file"] = "mqtt"
    url: str = ""
    credentials: str = ""
    batch: dict[str, int | str] = msgspec.field(default_factory=lambda: {"messages": 1000, "delay": "5s"})
    compression: Literal["none", "zstd"] = "zstd"
    select: tuple[str, ...] = ("event", "1m")
    redact: tuple[str, ...] = ()
    rate: str = ""

    def __post_init__(self) -> None:
        if self.url:
            raise ConfigError(f"the uplink {_LATER}", where="url", mend="leave the section out")


class Sections(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """The file as a whole."""

    node: NodeSection = NodeSection()
    runtime: RuntimeSection = RuntimeSection()
    resources: ResourcesSection = ResourcesSection()
    broker: BrokerConfig = BrokerConfig()
    devices: DevicesSection = DevicesSection()
    storage: StorageSection = StorageSection()
    history: HistorySection = HistorySection()
    api: ApiConfig = ApiConfig()
    dashboard: DashboardSection = DashboardSection()
    cluster: ClusterSection = ClusterSection()
    uplink: UplinkSection = UplinkSection()
    models: tuple[ModelConfig, ...] = ()
    pipelines: tuple[PipelineSpec, ...] = ()


class NodeConfig(msgspec.Struct, frozen=True):
    """The checked configuration of one node, its file, and the raw tables."""

    node: NodeSection
    runtime: RuntimeSection
    resources: ResourcesSection
    broker: BrokerConfig
    devices: DevicesSection
    storage: StorageSection
    history: HistorySection
    api: ApiConfig
    dashboard: DashboardSection
    cluster: ClusterSection
    uplink: UplinkSection
    models: tuple[ModelConfig, ...]
    pipelines: tuple[PipelineSpec, ...]
    tables: Tables

    @property
    def path(self) -> Path | None:
        return self.tables.path

    @property
    def base(self) -> Path:
        """The directory that relative paths start from."""
        return (self.path.parent if self.path else Path.cwd()).resolve()

    @property
    def data_dir(self) -> Path:
        return (self.base / self.node.data_dir).resolve()

    def pipeline_tables(self) -> list[dict[str, Any]]:
        """The raw `[[pipelines]]` tables."""
        return list(self.tables.values.get("pipelines", []))

    def pipeline(self, name: str) -> PipelineSpec:
        """The pipeline of a name. Raises `ConfigError`."""
        for spec in self.pipelines:
            if spec.name == name:
                return spec
        known = [spec.name for spec in self.pipelines]
        raise ConfigError(f"there is no pipeline {name!r}{suggestion(name, known)}", allowed=", ".join(known) or "none")


def find(explicit: Path | None) -> Path | None:
    """The configuration file: the one named, `$SKERRY_CONFIG`, `./skerry.toml`, `/etc/skerry/skerry.toml`; or None."""
    named = explicit or (Path(os.environ["SKERRY_CONFIG"]) if os.environ.get("SKERRY_CONFIG") else None)
    if named is not None:
        return named
    for candidate in (Path("skerry.toml"), Path("/etc/skerry/skerry.toml")):
        if candidate.is_file():
            return candidate
    return None


def load(path: Path | None) -> NodeConfig:
    """Read and check a configuration. Raises `ConfigError` with file, key, value and what is allowed."""
    tables = load_tables(path)
    where = place(path)
    known = {field.name: field.type for field in msgspec.structs.fields(Sections)}
    for key in tables.values:
        if key not in known:
            raise ConfigError(f"unknown section {key!r}{suggestion(key, known)}", where=where, allowed=", ".join(known))
    sections: dict[str, Any] = {}
    for name, kind in known.items():
        if name not in ("models", "pipelines"):
            sections[name] = build(kind, tables.values.get(name, {}), f"{where}: {name}")
    sections["models"] = tuple(
        build(ModelConfig, table, f"{where}: models[{at}]") for at, table in enumerate(_list(tables, "models", where))
    )
    sections["pipelines"] = tuple(
        parse_pipeline(table, f"{where}: pipelines[{at}]") for at, table in enumerate(_list(tables, "pipelines", where))
    )
    config = NodeConfig(**sections, tables=tables)
    _check_names(config, where)
    return config


def _list(tables: Tables, key: str, where: str) -> list[Any]:
    found = tables.values.get(key, [])
    if not isinstance(found, list):
        raise ConfigError(f"must be written as [[{key}]]", where=f"{where}: {key}")
    return found


def _check_names(config: NodeConfig, where: str) -> None:
    names = [spec.name for spec in config.pipelines]
    for name in names:
        if names.count(name) > 1:
            raise ConfigError(f"pipeline {name!r} is there twice", where=f"{where}: pipelines")
    try:
        models = Models(config.models, config.base)
    except ConfigError as error:
        raise error.at(where) from error
    for at, spec in enumerate(config.pipelines):
        if spec.model:
            try:
                models.find(spec.model)
            except ConfigError as error:
                raise error.at(f"{where}: pipelines[{at}]") from error


def show(path: Path | None) -> list[tuple[str, Any, str]]:
    """Every key, its value and its origin: the file, an environment variable, or `default`."""
    config = load(path)
    rows: list[tuple[str, Any, str]] = []
    for field in msgspec.structs.fields(Sections):
        section = getattr(config, field.name)
        if field.name in ("models", "pipelines"):
            tables = config.tables.values.get(field.name, [])
            for at, table in enumerate(tables):
                rows += [(f"{field.name}[{at}].{key}", value, place(path)) for key, value in table.items()]
            continue
        for key, value in msgspec.to_builtins(section).items():
            rows.append((f"{field.name}.{key}", value, _origin(config.tables, f"{field.name}.{key}")))
    return rows


def _origin(tables: Tables, key: str) -> str:
    for known, origin in tables.origins.items():
        if known == key or known.startswith((f"{key}.", f"{key}[")):
            return origin
    return "default"


def schema() -> dict[str, Any]:
    """JSON Schema of the file."""
    found = msgspec.json.schema(Sections)
    sinks = found["$defs"]["PipelineSpec"]["properties"]["sinks"]
    # `"event"` stands for `{kind = "event"}`; the other kinds need more than their name
    sinks["items"] = {"anyOf": [{"enum": ["event"]}, sinks["items"]]}
    return {"$schema": "https://json-schema.org/draft/2020-12/schema", "title": "skerry.toml", **found}


def socket_path(config: NodeConfig) -> Path:
    """The Unix socket of a node; in the temporary directory where the data directory's path is too long for one."""
    path = config.data_dir / "skerry.sock"
    if len(os.fsencode(path)) <= 100:
        return path
    mark = zlib.crc32(os.fsencode(config.data_dir))
    return Path(tempfile.gettempdir()) / f"skerry-{os.getuid()}-{mark:x}.sock"
