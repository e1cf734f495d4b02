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
from skerry.broker import BrokerConfig
from skerry.bundle import BundlesConfig, lay_over
from skerry.cluster import ClusterSection
from skerry.connector import ConnectorSpec, parse_connectors
from skerry.core.clock import Clock
from skerry.core.errors import ConfigError, suggestion
from skerry.core.settings import Tables, build, load_tables, place
from skerry.core.units import at_key, parse_duration, parse_rate, parse_size
from skerry.dashboard import DashboardConfig
from skerry.inference import MOST_VERSIONS, Catalogue, ModelConfig, Models
from skerry.pipeline import PipelineSpec, check_filter, check_name, parse_pipeline
from skerry.runtime import check_stack
from skerry.telemetry import TelemetryConfig
from skerry.uplink import UplinkConfig

_NODE_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9_-]{0,62}")
LISTS = ("models", "pipelines", "connectors")
"""What is written as [[…]]."""


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
        for at, capability in enumerate(self.capabilities):
            check_name(capability, f"capabilities[{at}]")


class RuntimeSection(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """`[runtime]`: processes and threads. `stall`: a worker that gets nowhere for so long is killed and started again.
    `keep_versions`: added versions of a model that stay, besides the active one, its shadow, what a rollback goes to, and what a
    pipeline names.
    """

    workers: int = 1
    worker_threads: int = 1
    max_blocking_threads: int = 16
    thread_stack_size: str = "1MiB"
    stall: str = "10s"
    keep_versions: int = 3

    def __post_init__(self) -> None:
        for where in ("workers", "worker_threads", "max_blocking_threads"):
            if not 1 <= getattr(self, where) <= 256:
                raise ConfigError(f"{getattr(self, where)} is out of range", where=where, allowed="1 to 256")
        if not 0 <= self.keep_versions <= MOST_VERSIONS:
            raise ConfigError(f"{self.keep_versions} is out of range", where="keep_versions", allowed=f"0 to {MOST_VERSIONS}")
        check_stack(at_key("thread_stack_size", parse_size, self.thread_stack_size))
        if at_key("stall", parse_duration, self.stall) < 1_000_000:
            raise ConfigError("must be 1s or more", where="stall")


class ResourcesSection(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """`[resources]`: what the whole node may use; and when pipelines shed: after `max_lag` messages have waited for one, or another
    limit was near, for `shed_after`; what was shed comes back after `recover_after` of calm."""

    memory: str = "1GiB"
    cpu: float = 2.0
    network: str = ""
    disk: str = "8GiB"
    max_lag: int = 10_000
    shed_after: str = "10s"
    recover_after: str = "1m"

    def __post_init__(self) -> None:
        if self.max_lag < 1:
            raise ConfigError("must be 1 message or more", where="max_lag")
        for where in ("shed_after", "recover_after"):
            if at_key(where, parse_duration, getattr(self, where)) < 2_000_000:
                raise ConfigError(f"{getattr(self, where)} is too short", where=where, allowed="2s or more")
        at_key("memory", parse_size, self.memory)
        at_key("disk", parse_size, self.disk)
        if self.network:
            at_key("network", parse_rate, self.network)
        if not 0 < self.cpu < math.inf:
            raise ConfigError(f"{self.cpu} is no number of cores", where="cpu", allowed="a number above 0")


class DevicesSection(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """`[devices]`: how long a challenge waits for its answer, and how long a token lets a device in."""

    challenge_ttl: str = "30s"
    token_ttl: str = "1h"

    def __post_init__(self) -> None:
        for where, least, most in (("challenge_ttl", "1s", "10m"), ("token_ttl", "1s", "365d")):
            if not parse_duration(least) <= at_key(where, parse_duration, getattr(self, where)) <= parse_duration(most):
                raise ConfigError(f"{getattr(self, where)} is out of range", where=where, allowed=f"{least} to {most}")


class StorageSection(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """`[storage]`: the local key-value store."""

    path: str = "./data/store"
    max_size: str = "2GiB"
    compression: Literal["none", "lz4", "zstd"] = "zstd"

    def __post_init__(self) -> None:
        at_key("max_size", parse_size, self.max_size)


_KEEP = {"raw": "7d", "1m": "90d", "1h": "5y"}


class HistorySection(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """`[history]`: what is kept of sensors without a pipeline's history sink, how long each level is kept, and its bounds.

    `topics`: filters of topics whose numbers are kept. `max_series`: further series are counted and left out.
    """

    keep: dict[str, str] = msgspec.field(default_factory=lambda: dict(_KEEP))
    topics: tuple[str, ...] = ()
    max_size: str = "2GiB"
    max_series: int = 10_000

    def __post_init__(self) -> None:
        for level, text in self.keep.items():
            if level not in _KEEP:
                raise ConfigError(f"unknown level {level!r}", where="keep", allowed="raw, 1m, 1h")
            if at_key("keep", parse_duration, text) < parse_duration("1h"):
                raise ConfigError(f"{text} is too short", where=f"keep.{level}", allowed="1h or more")
        for at, topic in enumerate(self.topics):
            try:
                check_filter(topic)
            except ConfigError as error:
                raise ConfigError(error.message, where=f"topics[{at}]", mend=error.mend) from error
        if at_key("max_size", parse_size, self.max_size) < parse_size("32MiB"):
            raise ConfigError(f"{self.max_size} is too small", where="max_size", allowed="32MiB or more")
        if not 1 <= self.max_series <= 1_000_000:
            raise ConfigError(f"{self.max_series} is out of range", where="max_series", allowed="1 to 1000000")

    def kept(self, level: str) -> int:
        """Microseconds that a level is kept."""
        return parse_duration(self.keep.get(level, _KEEP[level]))


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
    dashboard: DashboardConfig = DashboardConfig()
    cluster: ClusterSection = ClusterSection()
    uplink: UplinkConfig = UplinkConfig()
    bundles: BundlesConfig = BundlesConfig()
    telemetry: TelemetryConfig = TelemetryConfig()
    models: tuple[ModelConfig, ...] = ()
    pipelines: tuple[PipelineSpec, ...] = ()
    connectors: tuple[ConnectorSpec, ...] = ()


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
    dashboard: DashboardConfig
    cluster: ClusterSection
    uplink: UplinkConfig
    bundles: BundlesConfig
    telemetry: TelemetryConfig
    models: tuple[ModelConfig, ...]
    pipelines: tuple[PipelineSpec, ...]
    connectors: tuple[ConnectorSpec, ...]
    tables: Tables

    @property
    def path(self) -> Path | None:
        return self.tables.path

    @property
    def partitions(self) -> int:
        """Into how many parts the work of each pipeline is dealt: a worker has one each; in a cluster nodes take them in turn."""
        return self.cluster.partitions if self.cluster.enabled else self.runtime.workers

    @property
    def base(self) -> Path:
        """The directory that relative paths start from."""
        return _base(self.path)

    @property
    def data_dir(self) -> Path:
        return (self.base / self.node.data_dir).resolve()

    @property
    def store_path(self) -> Path:
        """Where `[storage]` lies."""
        return (self.base / self.storage.path).resolve()

    @property
    def history_path(self) -> Path:
        """Where the history lies."""
        return self.data_dir / "history"

    def catalogue(self, clock: Clock | None = None) -> Catalogue:
        """The models of the file, and those that were added to the node."""
        return Catalogue(self.data_dir / "models", self.models, self.base, clock)

    @property
    def token_file(self) -> Path:
        """Where the tokens of the API are kept."""
        return (self.base / self.api.token_file).resolve() if self.api.token_file else self.data_dir / "tokens.json"

    @property
    def model_cache(self) -> Path:
        """Where workers and the model server keep optimized graphs."""
        return self.data_dir / "models" / "optimized"

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


def _base(path: Path | None) -> Path:
    return (path.parent if path else Path.cwd()).resolve()


def load(path: Path | None, with_models: bool = True, bundle: str | None = None) -> NodeConfig:
    """Read and check a configuration. Raises `ConfigError` with file, line, key, value and what is allowed.

    Args:
        with_models: whether the models that pipelines name must be there, in the file or added to the catalogue.
        bundle: the one of the data directory that is laid over the file; None: the active one, an empty string: none.
    """
    tables = load_tables(path)
    try:
        return _checked(tables, with_models, bundle)
    except ConfigError as error:
        raise tables.placed(error) from error


def _checked(tables: Tables, with_models: bool, bundle: str | None) -> NodeConfig:
    path = tables.path
    where = place(path)
    known = {field.name: field.type for field in msgspec.structs.fields(Sections)}
    for key in tables.values:
        if key not in known:
            raise ConfigError(f"unknown section {key!r}{suggestion(key, known)}", where=where, allowed=", ".join(known))
    sections: dict[str, Any] = {}
    for name, kind in known.items():
        if name not in LISTS:
            sections[name] = build(kind, tables.values.get(name, {}), f"{where}: {name}")
    laid = lay_over(tables, _base(path) / sections["node"].data_dir, bundle)
    models, pipelines = _list(tables, "models", where), _list(tables, "pipelines", where)
    sections["models"] = tuple(build(ModelConfig, each, _at(tables, "models", at, where)) for at, each in enumerate(models))
    sections["pipelines"] = tuple(parse_pipeline(each, _at(tables, "pipelines", at, where)) for at, each in enumerate(pipelines))
    whole = f"{where} with {laid}" if laid else where
    sections["connectors"] = parse_connectors(_list(tables, "connectors", where), f"{whole}: connectors")
    config = NodeConfig(**sections, tables=tables)
    _check_uplink(config, whole)
    _check_names(config, whole, with_models)
    return config


def _check_uplink(config: NodeConfig, where: str) -> None:
    for at, spec in enumerate(config.pipelines):
        for number, sink in enumerate(spec.sinks):
            if sink.kind == "uplink" and not config.uplink.url:
                place_of = f"{where}: pipelines[{at}].sinks[{number}]"
                raise ConfigError("the sink 'uplink' has no centre", where=place_of, mend="set uplink.url")
    for filter_ in config.uplink.commands.allow:
        check_filter(filter_)


def _at(tables: Tables, name: str, at: int, where: str) -> str:
    """How messages name one table of a list: by the file, or by the bundle that it came in."""
    return f"{tables.origins.get(f'{name}[{at}]', where)}: {name}[{at}]"


def _list(tables: Tables, key: str, where: str) -> list[Any]:
    found = tables.values.get(key, [])
    if not isinstance(found, list):
        raise ConfigError(f"must be written as [[{key}]]", where=f"{where}: {key}")
    return found


def _check_names(config: NodeConfig, where: str, with_models: bool) -> None:
    names = [spec.name for spec in config.pipelines]
    for name in names:
        if names.count(name) > 1:
            raise ConfigError(f"pipeline {name!r} is there twice", where=f"{where}: pipelines")
    try:
        models = Models(config.models, config.base)
    except ConfigError as error:
        raise error.at(where) from error
    if (config.data_dir / "models").is_dir():
        models = Models(config.catalogue().configs(), config.base)
    # what is not here may come from the other nodes of the cluster before the pipelines run
    from_others = config.cluster.enabled and (config.data_dir / "cluster" / "joined.json").is_file()
    for at, spec in enumerate(config.pipelines):
        if spec.model and with_models and not from_others:
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
        if field.name in LISTS:
            tables = config.tables.values.get(field.name, [])
            for at, table in enumerate(tables):
                origin = config.tables.origins.get(f"{field.name}[{at}]", place(path))
                rows += [(f"{field.name}[{at}].{key}", value, origin) for key, value in table.items()]
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
    sinks["items"] = {"anyOf": [{"enum": ["event", "history"]}, sinks["items"]]}
    found["$defs"]["ConnectorSpec"]["properties"].pop("table")  # the keys of its kind stand beside the others
    return {"$schema": "https://json-schema.org/draft/2020-12/schema", "title": "skerry.toml", **found}


def socket_path(config: NodeConfig) -> Path:
    """The Unix socket of a node; in the temporary directory where the data directory's path is too long for one."""
    path = config.data_dir / "skerry.sock"
    if len(os.fsencode(path)) <= 100:
        return path
    mark = zlib.crc32(os.fsencode(config.data_dir))
    return Path(tempfile.gettempdir()) / f"skerry-{os.getuid()}-{mark:x}.sock"
