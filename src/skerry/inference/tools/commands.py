"""`skerry model verify | bench | optimize | quantize` in a child process: a model that crashes the engine ends that one only.

Each tool is a question with its `run`, the parent's side, and a function that the child answers it with.
"""

import contextlib
from collections.abc import Callable
from pathlib import Path
from typing import TypeVar

import msgspec

from skerry.core.errors import SkerryError
from skerry.inference.engine.choice import engine_for
from skerry.inference.engine.opening import open_session
from skerry.inference.engine.seam import EngineOptions
from skerry.inference.graph.prepare import prepare
from skerry.inference.host import EngineHost
from skerry.inference.tools.compare import Check, record_outputs, verify_model
from skerry.inference.tools.quantization import Optimized, Quantized, optimize_model, quantize_model
from skerry.inference.tools.recorded import Feed, rows_for
from skerry.inference.tools.sweep import Sweep, bench_model

SECONDS = 1800.0  # beyond those of its measuring that a tool may take
Progress = Callable[[int, int], None]
T = TypeVar("T")


class Verified(msgspec.Struct):
    """The checks, rows recorded, and the engine that ran."""

    engine: str
    checks: list[Check]
    recorded: int


class Verify(msgspec.Struct):
    """What `verify_model` takes; `record` is written from what the model answers when no check fails. Empty: not asked for."""

    path: str
    engine: str = ""
    data: str = ""
    expect: str = ""
    record: str = ""
    digest: str = ""

    def run(self, where: str) -> Verified:
        """The answer of a child. Raises what the tool raises, and `RejectedError` where the model ended its process."""
        return _run("tools.commands:verify", self, Verified, where, SECONDS)


class Benched(msgspec.Struct):
    """The sweep, the engine that ran, and what was done to a fixed batch."""

    engine: str
    batch: str
    sweep: Sweep


class Bench(msgspec.Struct):
    """What `bench_model` takes."""

    path: str
    engine: str = ""
    data: str = ""
    batches: tuple[int, ...] = ()
    threads: tuple[int, ...] = ()
    seconds: float = 10.0
    max_latency_ms: float | None = None

    def run(self, where: str, progress: Progress | None = None) -> Benched:
        """As `Verify.run`."""
        return _run("tools.commands:bench", self, Benched, where, SECONDS + self.seconds, progress)


class Optimize(msgspec.Struct):
    """What `optimize_model` takes."""

    path: str
    to: str
    level: str = "all"
    seconds: float = 1.0

    def run(self, where: str) -> Optimized:
        """As `Verify.run`."""
        return _run("tools.commands:optimize", self, Optimized, where, SECONDS + self.seconds)


class Quantize(msgspec.Struct):
    """What `quantize_model` takes."""

    path: str
    to: str
    data: str = ""
    static: bool = False
    bound: float = 0.05
    min_speedup: float = 1.0
    batch: int = 1
    seconds: float = 2.0

    def run(self, where: str) -> Quantized:
        """As `Verify.run`."""
        return _run("tools.commands:quantize", self, Quantized, where, SECONDS + self.seconds)


def _run(work: str, question: msgspec.Struct, kind: type[T], where: str, seconds: float, progress: Progress | None = None) -> T:
    with EngineHost() as host:
        return host.ask(work, question, kind, seconds=seconds, where=where, progress=progress)


def verify(question: bytes, _progress: Progress) -> Verified:
    """What the child does with `Verify`."""
    asked = msgspec.json.decode(question, type=Verify)
    path, data = Path(asked.path), _rows(asked.path, asked.data)
    engine = _engine(path, asked.engine)
    expect = Path(asked.expect) if asked.expect else None
    checks = verify_model(path, expect=expect, digest=asked.digest, data=data, engine=engine)
    failed = any(check.state == "failed" for check in checks)
    recorded = record_outputs(path, Path(asked.record), data, engine=engine) if asked.record and not failed else 0
    return Verified(engine, checks, recorded)


def _engine(path: Path, engine: str) -> str:
    """The engine for the checks; what the model lacks is for them to tell."""
    try:
        prepared = prepare(path).path
        return _ran(prepared, engine_for(prepared, engine))
    except SkerryError:
        return "onnxruntime"


def bench(question: bytes, progress: Progress) -> Benched:
    """What the child does with `Bench`."""
    asked = msgspec.json.decode(question, type=Bench)
    prepared = prepare(Path(asked.path))
    engine = engine_for(prepared.path, asked.engine)
    found = bench_model(
        prepared.path, batches=asked.batches, threads=asked.threads, seconds=asked.seconds, data=_rows(asked.path, asked.data),
        options=EngineOptions(engine=engine), max_latency_ms=asked.max_latency_ms, progress=progress,
    )  # fmt: skip
    return Benched(_ran(prepared.path, engine), prepared.batch, found)


def optimize(question: bytes, _progress: Progress) -> Optimized:
    """What the child does with `Optimize`."""
    asked = msgspec.json.decode(question, type=Optimize)
    return optimize_model(Path(asked.path), Path(asked.to), asked.level, asked.seconds)


def quantize(question: bytes, _progress: Progress) -> Quantized:
    """What the child does with `Quantize`."""
    asked = msgspec.json.decode(question, type=Quantize)
    return quantize_model(
        Path(asked.path), Path(asked.to), static=asked.static, data=_rows(asked.path, asked.data), bound=asked.bound,
        min_speedup=asked.min_speedup, batch=asked.batch, seconds=asked.seconds,
    )  # fmt: skip


def _ran(path: Path, engine: str) -> str:
    """The engine that runs a model when this one is asked for: openvino cannot run each."""
    if engine != "openvino":
        return "onnxruntime"
    with contextlib.closing(open_session(path, EngineOptions(engine=engine))) as session:
        return session.engine


def _rows(path: str, data: str) -> Feed | None:
    """Recorded rows for the model's inputs, where a file of them is named."""
    return rows_for(Path(path), Path(data)) if data else None
