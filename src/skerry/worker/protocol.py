"""What agent and worker say to each other: one JSON object a line, down on stdin, up on stdout."""

from typing import Any

import msgspec

from skerry.core.histogram import Histogram


class Assignment(msgspec.Struct):
    """All that a worker needs to run; the first line it reads.

    Attributes:
        partition, partitions: which keys are its own.
        pipelines, models: the configuration's tables.
        base: directory of the configuration file; feature functions are imported from there.
        poison: messages and windows, by pipeline, that are not tried again.
        careful_until: up to this log sequence messages are taken one by one, since one of them ended a worker.
        trace: file that says what is being worked on.
    """

    node: str
    host: str
    port: int
    user: str
    password: str
    partition: int
    partitions: int
    pipelines: list[dict[str, Any]]
    models: list[dict[str, Any]]
    base: str
    trace: str
    threads: int = 1
    poison: dict[str, list[str]] = {}
    careful_until: int = 0


class Command(msgspec.Struct):
    """A later line to the worker: `drain` (checkpoint and end), `pause` or `resume` of a pipeline."""

    do: str
    pipeline: str = ""


class PipelineReport(msgspec.Struct):
    """How one pipeline partition stands."""

    state: str
    books: dict[str, Any] = {}
    cursor: int = 0
    durable: int = 0
    lag: int = 0
    keys: int = 0
    windows: int = 0
    events: int = 0
    received_bytes: int = 0
    unacknowledged: int = 0
    latency: Histogram = msgspec.field(default_factory=Histogram)
    recent_p50_ms: float | None = None
    recent_p99_ms: float | None = None
    infer_seconds: float = 0.0
    infer_runs: int = 0
    infer_rows: int = 0
    model: str = ""
    version: str = ""


class Report(msgspec.Struct):
    """A line from the worker, about twice a second: its heartbeat."""

    ready: bool
    pipelines: dict[str, PipelineReport] = {}
    failed: str = ""
    cpu_seconds: float = 0.0
