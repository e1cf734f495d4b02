"""From a file to a model that is ready: prepared, opened, seen to run, measured. The same for asyncio and for scripts."""

import tempfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import msgspec
from numpy.typing import NDArray

from skerry.core.clock import Clock, SystemClock
from skerry.core.errors import ConfigError, RejectedError
from skerry.inference.batching.runs import FEW_SIZES, SIZES, Feed, Runner, how_to_run
from skerry.inference.engine.opening import open_session
from skerry.inference.engine.samples import first_rows
from skerry.inference.engine.seam import EngineOptions, Session
from skerry.inference.engine.signature import Signature, repr_html
from skerry.runtime import MemoryPool

LOAD_BUDGET_S = 0.05  # of measuring at load
OPTIMIZE_BUDGET_S = 2.0


class Batching(msgspec.Struct, frozen=True):
    """How requests become runs.

    Attributes:
        kind: `rows` (requests share runs), `ones` (the batch is fixed at 1, rows run one by one) or `whole` (one request, one run).
        max_batch: most rows of a run.
        reason: why, in a few words.
    """

    kind: str
    max_batch: int
    reason: str

    def __str__(self) -> str:
        told = {"rows": f"up to {self.max_batch} rows a run", "ones": "rows run one by one", "whole": "each request is a run"}
        return f"{told[self.kind]}: {self.reason}" if self.reason else told[self.kind]


class Optimized(msgspec.Struct, frozen=True):
    """What `optimize` found.

    Attributes:
        max_batch: most rows of a run from now on.
        seconds: of a run, by its rows.
        rows_per_second: of runs of `max_batch` rows; 0 when nothing could be measured.
    """

    max_batch: int
    seconds: dict[int, float]
    rows_per_second: float


class Stats(msgspec.Struct, frozen=True):
    """Counts since the model was loaded.

    Attributes:
        requests: feeds answered or refused by the engine; `waiting`: in the queue now.
        runs, rows: runs of the engine, and rows in them. seconds: in runs.
        inline, threaded: batches run on the loop, and in the model's thread.
        failed: runs that raised. split: batches that failed and ran again request by request.
        refused: requests that found the queue full. cancelled: requests taken out of the queue by their caller.
        pool_hits, pool_misses: blocks for stacked batches used again, and made. allocated: arrays that were made for
            a batch: all without a pool.
    """

    requests: int
    waiting: int
    runs: int
    rows: int
    seconds: float
    inline: int
    threaded: int
    failed: int
    split: int
    refused: int
    cancelled: int
    pool_hits: int
    pool_misses: int
    allocated: int

    @property
    def rows_per_run(self) -> float:
        """Rows of a run on average."""
        return self.rows / self.runs if self.runs else 0.0


class Loaded(msgspec.Struct):
    """A model that is ready to run, and what is known about it."""

    runner: Runner
    name: str
    version: str
    load_seconds: float
    feed: dict[str, NDArray[Any]] | None

    @property
    def batching(self) -> Batching:
        return Batching(self.runner.kind, self.runner.max_batch, self.runner.reason)

    def optimize(self, sample: Mapping[str, NDArray[Any]] | None) -> Optimized:
        """Measure all batch sizes and set the best. A `sample` of real rows is kept for the next time."""
        if sample is not None:
            (_, checked), _ = self.runner.check(sample)
            if any(len(array) == 0 for array in checked.values() if array.ndim):
                raise RejectedError("a sample needs one row or more")
            self.feed = dict(checked) if self.runner.kind == "whole" else first_rows(checked, 1)
        seconds = self.runner.tune(self.feed, SIZES, OPTIMIZE_BUDGET_S)
        best = seconds.get(self.runner.max_batch)
        return Optimized(self.runner.max_batch, seconds, self.runner.max_batch / best if best else 0.0)

    def stats(self, requests: int = 0, waiting: int = 0, **more: int) -> Stats:
        counts, pool = self.runner.counts, self.runner.pool
        known = {"inline": 0, "threaded": 0, "refused": 0, "cancelled": 0, **more}
        return Stats(
            requests=requests, waiting=waiting, runs=counts.runs, rows=counts.rows, seconds=counts.seconds, failed=counts.failed,
            split=counts.split, allocated=counts.allocated, pool_hits=pool.hits if pool else 0,
            pool_misses=pool.misses if pool else 0, **known,
        )  # fmt: skip


class Described:
    """What a loaded model says about itself, in asyncio and in scripts.

    Attributes:
        name, version: as given at load.
        load_seconds: what loading took, measuring included.
    """

    def __init__(self, loaded: Loaded) -> None:
        self.name = loaded.name
        self.version = loaded.version
        self.load_seconds = loaded.load_seconds
        self._loaded = loaded
        self._runner = loaded.runner

    @property
    def inputs(self) -> list[Signature]:
        """Name, dtype and shape of each input; an open dimension is None."""
        return list(self._runner.inputs)

    @property
    def outputs(self) -> list[Signature]:
        """Name, dtype and shape of each output."""
        return list(self._runner.outputs)

    @property
    def metadata(self) -> dict[str, str]:
        """What the model file says about itself (metadata_props)."""
        return dict(self._runner.session.metadata)

    @property
    def engine(self) -> str:
        """`onnxruntime` or `openvino`."""
        return self._runner.session.engine

    @property
    def batching(self) -> Batching:
        """How requests become runs, and why."""
        return self._loaded.batching

    def _repr_html_(self) -> str:
        about = [("engine", self.engine), ("batching", str(self.batching)), ("loaded in", f"{self.load_seconds:.3f} s")]
        return repr_html(self, about)


def load(
    source: Path | str | bytes,
    *,
    name: str = "",
    version: str = "",
    options: EngineOptions,
    max_batch: int | str = "auto",
    pool: MemoryPool | None = None,
    cache: Path | None = None,
    sample: Feed | None = None,
    clock: Clock | None = None,
) -> Loaded:
    """Load a model, run it once or more, and measure it within about 50 ms. Raises `RejectedError`, `ConfigError`."""
    if max_batch != "auto" and (not isinstance(max_batch, int) or isinstance(max_batch, bool) or max_batch < 1):
        raise ConfigError(f"max_batch is {max_batch!r}", where="max_batch", allowed='"auto", or 1 or more')
    clock = clock or SystemClock()
    started = clock.monotonic()
    path = Path(source) if isinstance(source, str | Path) else None
    session, batch, reason = _open(path if path is not None else source, options, cache)  # type: ignore[arg-type]  # bytes: a str became a Path
    try:
        if sample is not None:
            Runner(session, "whole", "").check(sample)
        kind, why = how_to_run(session, batch, reason, sample)
        runner = Runner(session, kind, why, pool=pool, clock=clock)
        loaded = Loaded(runner, name or (path.stem if path is not None else "model"), version, 0.0, None)
        if sample is not None:
            loaded.feed = dict(sample) if kind == "whole" else first_rows(sample, 1)
        else:
            loaded.feed = runner.sample()
        if kind == "rows" and isinstance(max_batch, int):
            runner.max_batch = max_batch
            if loaded.feed is not None:
                runner.measure(loaded.feed, tuple(dict.fromkeys((1, max_batch))), LOAD_BUDGET_S)
        else:
            runner.tune(loaded.feed, FEW_SIZES, LOAD_BUDGET_S)
    except BaseException:
        session.close()
        raise
    loaded.load_seconds = clock.monotonic() - started
    return loaded


def _open(source: Path | bytes, options: EngineOptions, cache: Path | None) -> tuple[Session, str, str]:
    """A session, and what `prepare` found about the batch."""
    from skerry.inference.graph.prepare import prepare  # late: it brings onnx, and some who import this never load a model

    if isinstance(source, Path):
        prepared = prepare(source, cache)
        return open_session(prepared.path, options, cache), prepared.batch, prepared.reason
    with tempfile.TemporaryDirectory(prefix="skerry-model-") as folder:
        path = Path(folder) / "model.onnx"
        path.write_bytes(source)
        prepared = prepare(path, cache)
        return open_session(prepared.path, options, cache), prepared.batch, prepared.reason
