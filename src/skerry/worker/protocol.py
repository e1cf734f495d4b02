"""What agent and worker say to each other: one JSON object a line, down on stdin, up on stdout."""

from typing import Any

import msgspec

from skerry.core.histogram import Histogram
from skerry.inference import DriftReport
from skerry.pipeline import Sample, Standing


class Assignment(msgspec.Struct):
    """All that a worker needs to run; the first line it reads.

    Attributes:
        partition: the worker's number.
        partitions: into how many a pipeline's keys are dealt, the same on all nodes of a cluster.
        units: the partitions of pipelines that it runs, as `pipeline/partition`; None: that of its own number, of all pipelines.
        turn: counts the changes of the units.
        lease: until when it may work, by the monotonic clock of this computer; None: for as long as it runs, as on a node alone.
        pipelines, models: the configuration's tables.
        base: directory of the configuration file; feature functions are imported from there.
        poison: messages and windows, by pipeline, that are not tried again.
        careful_until: up to this log sequence messages are taken one by one, since one of them ended a worker.
        cache: directory for optimized graphs; empty for none.
        trace: file that says what is being worked on.
        shadows: by model name, the version that runs beside the active one.
        epoch: counts the changes of models; what a version did is told by the epoch it began in.
        standings: what each pipeline is given of the node, those that are not named all.
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
    cache: str = ""
    poison: dict[str, list[str]] = {}
    careful_until: int = 0
    shadows: dict[str, str] = {}
    epoch: int = 0
    standings: dict[str, Standing] = {}
    units: list[str] | None = None
    turn: int = 0
    lease: float | None = None


class Command(msgspec.Struct):
    """A later line to the worker: `drain` (checkpoint, end), `pause`, `resume` or `retry` of a pipeline, `standings`, `models`,
    `units`, `lease`.

    `trace` has the next message of a pipeline (and a `device`) followed, `after` so many seconds at most; 0: no longer. The report
    has it under its `number`.

    `retry` lets one go on, `after` so many seconds, that was stopped for its memory.

    `models` brings the models as they are now, with their shadows: pipelines whose reference means another version by that load
    it beside the one that runs, try it, and swap between two feeds. `standings` brings what all pipelines are given of the node.
    `units` names all that it is to run from now on, `lease` until when.
    """

    do: str
    pipeline: str = ""
    models: list[dict[str, Any]] = []
    shadows: dict[str, str] = {}
    epoch: int = 0
    after: float = 0.0
    standings: dict[str, Standing] = {}
    units: list[str] = []
    turn: int = 0
    lease: float = 0.0
    device: str = ""
    number: int = 0


class ModelReport(msgspec.Struct):
    """What one version of a model did in one pipeline partition, since the worker started.

    Attributes:
        epoch: of the change that brought it.
        nan: scores that were not a number although their row was.
        load_seconds: loading and warming it. memory: bytes that the process grew by meanwhile.
        failure: why it was not taken; the version before runs on.
    """

    model: str
    version: str
    epoch: int = 0
    runs: int = 0
    rows: int = 0
    errors: int = 0
    nan: int = 0
    seconds: float = 0.0
    load_seconds: float = 0.0
    memory: int = 0
    failure: str = ""


class ShadowReport(msgspec.Struct):
    """A version that runs beside the active one, on the same rows; what it answers is compared and thrown away.

    Attributes:
        against: the version it was compared with.
        sum_difference, max_difference: of the scores, absolute.
        labels, agreed: rows with two labels, and those whose labels were the same.
        skipped: rows that it was not given, since it takes too long to keep up.
        memory: bytes that the process grew by as it was loaded.
    """

    model: str
    version: str
    against: str
    runs: int = 0
    rows: int = 0
    errors: int = 0
    nan: int = 0
    seconds: float = 0.0
    sum_difference: float = 0.0
    max_difference: float = 0.0
    labels: int = 0
    agreed: int = 0
    skipped: int = 0
    memory: int = 0
    failure: str = ""


class PipelineReport(msgspec.Struct):
    """How one pipeline partition stands.

    Attributes:
        latency: from the arrival at the broker to the event. age: from the end of the window, by the device's clock, to the event.
        recent: key, end (microseconds) and score of windows since the report before, the last some of them.
        memory: bytes that the worker grew by while this pipeline was fed. over: what it was when it was stopped for that, until it
            goes on. allowed: what it may take. breaches: how often it was stopped, since the worker started.
    """

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
    age: Histogram = msgspec.field(default_factory=Histogram)
    age_p50_ms: float | None = None
    age_p99_ms: float | None = None
    infer_seconds: float = 0.0
    infer_runs: int = 0
    infer_rows: int = 0
    model: str = ""
    version: str = ""
    drift: DriftReport = msgspec.field(default_factory=DriftReport)
    models: list[ModelReport] = []
    shadow: ShadowReport | None = None
    memory: int = 0
    allowed: int = 0
    over: int = 0
    breaches: int = 0
    recent: list[tuple[str, int, float]] = []


class SampleReport(msgspec.Struct):
    """The answer to the request of a number; `sample` is None where no message came."""

    number: int
    sample: Sample | None = None


class Report(msgspec.Struct):
    """A line from the worker, about twice a second: its heartbeat.

    Attributes:
        waiting: why it cannot read the log now.
        units: those that are loaded, or not yet let go of. turn: of the last change of units that it has heard of.
        samples: messages that were followed to their end since the last report.
    """

    ready: bool
    pipelines: dict[str, PipelineReport] = {}
    failed: str = ""
    waiting: str = ""
    cpu_seconds: float = 0.0
    units: list[str] = []
    turn: int = 0
    samples: list[SampleReport] = []
