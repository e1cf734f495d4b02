"""From closed windows to scores: samples → features → one batched model run."""

import importlib
import time
from collections.abc import Callable, Sequence

import msgspec
import numpy as np
from numpy.typing import NDArray

from skerry.core.errors import ConfigError, SkerryError
from skerry.core.ports import Scorer
from skerry.pipeline.picture import TensorWindow, check_fits, stack
from skerry.pipeline.spec import PipelineSpec
from skerry.window.features import compute
from skerry.window.state import Closed

Floats = NDArray[np.float64]
FeatureFunction = Callable[[Floats, NDArray[np.int64]], Floats]
Label = str | int | None


class Scores(msgspec.Struct):
    """Scores, labels and feature rows of a batch of windows, in its order.

    `table` is what the model was given: a row a window, or a row a sample where the samples are the model's input.
    """

    scores: list[float]
    labels: Sequence[Label]
    rows: list[list[float]]
    columns: Sequence[str]
    table: Floats | None = None


class Timing(msgspec.Struct):
    """Model runs so far: how many, of how many rows, in how many seconds."""

    runs: int = 0
    rows: int = 0
    seconds: float = 0.0


class StageError(Exception):
    """A feature function or a model failed on this batch: the reason for the dead letter and its detail."""

    def __init__(self, reason: str, detail: str) -> None:
        super().__init__(detail)
        self.reason = reason
        self.detail = detail


def load_function(reference: str) -> FeatureFunction:
    """A user's feature function `module:function`. Raises `ConfigError` when it cannot be imported."""
    module_name, _, name = reference.partition(":")
    try:
        function = getattr(importlib.import_module(module_name), name)
    except (ImportError, AttributeError) as error:
        raise ConfigError(
            f"{reference!r} cannot be imported: {error}",
            where="features",
            mend="put the module beside skerry.toml or install it",
        ) from error
    except Exception as error:
        raise ConfigError(f"{reference!r} fails when it is imported: {error!r}", where="features") from error
    if not callable(function):
        raise ConfigError(f"{reference!r} is not a function", where="features")
    found: FeatureFunction = function
    return found


class Stage:
    """The features and the model of a pipeline. Without features the samples themselves are the model's input."""

    def __init__(self, spec: PipelineSpec, scorer: Scorer | None) -> None:
        self.scorer = scorer
        self.width = 1 + len(spec.source.names)
        self.names = spec.source.names
        self.layout = spec.source.layout
        self._function: FeatureFunction | None = None
        self.columns: Sequence[str] = spec.columns or ()
        if isinstance(spec.features, str):
            self._function = load_function(spec.features)
        elif spec.features:
            names = spec.features
            self._function = lambda values, offsets: compute(names, values, offsets)
        if spec.source.tensors:
            check_fits(spec.source, scorer)
        self.custom = isinstance(spec.features, str)
        self.timing = Timing()

    def score(self, windows: list[Closed]) -> Scores:
        """Score windows, one model run for all that have the same shape. Raises `StageError`."""
        with np.errstate(all="ignore"):  # what overflows becomes a score that is not a number, which has its own dead letter
            return self._score(windows)

    def _score(self, windows: list[Closed]) -> Scores:
        if self.scorer is not None and isinstance(windows[0], TensorWindow):
            scores, labels = self._run(self.scorer, stack(windows))
            return Scores(scores.tolist(), labels, [[] for _ in windows], ())
        if self._function is None and self.scorer is not None and len({window.samples for window in windows}) > 1:
            return self._score_by_length(windows)
        values, offsets = self._samples(windows)
        if self._function is None:
            return self._score_samples(values, offsets, windows[0].samples)
        rows = self._features(self._function, values, offsets)
        if self.scorer is None:
            return Scores(rows[:, 0].tolist(), [None] * len(windows), rows.tolist(), self._columns(rows))
        scores, labels = self._run(self.scorer, rows)
        return Scores(scores.tolist(), labels, rows.tolist(), self._columns(rows), rows)

    @property
    def watched(self) -> Sequence[str]:
        """Names of the columns of `Scores.table`."""
        return self.names if self._function is None else self.columns

    def _samples(self, windows: list[Closed]) -> tuple[Floats, NDArray[np.int64]]:
        offsets = np.zeros(len(windows) + 1, np.int64)
        offsets[1:] = np.cumsum([window.samples for window in windows])
        flat: list[float] = windows[0].flat if len(windows) == 1 else [n for window in windows for n in window.flat]
        table = np.array(flat, np.float64).reshape(-1, self.width)
        for at, window in enumerate(windows):
            if window.disordered:
                part = table[offsets[at] : offsets[at + 1]]
                part[:] = part[np.argsort(part[:, 0], kind="stable")]
        return np.ascontiguousarray(table[:, 1:]), offsets

    def _features(self, function: FeatureFunction, values: Floats, offsets: NDArray[np.int64]) -> Floats:
        if not self.custom:
            return function(values, offsets)
        try:
            rows = np.asarray(function(values, offsets), np.float64)
        except MemoryError:
            raise
        except Exception as error:
            raise StageError("feature-error", f"{type(error).__name__}: {error}") from error
        if rows.ndim != 2 or len(rows) != len(offsets) - 1 or rows.shape[1] < 1:
            raise StageError("feature-error", f"the feature function gave shape {rows.shape}, not [{len(offsets) - 1}, F]")
        return rows

    def _columns(self, rows: Floats) -> Sequence[str]:
        if not self.columns:
            named = getattr(self._function, "columns", None)
            fits = isinstance(named, list | tuple) and len(named) == rows.shape[1]
            self.columns = tuple(map(str, named)) if fits and named else tuple(f"f{at}" for at in range(rows.shape[1]))
        return self.columns

    def _score_samples(self, values: Floats, offsets: NDArray[np.int64], samples: int) -> Scores:
        count = len(offsets) - 1
        if self.scorer is None:
            last = values[offsets[1:] - 1]
            return Scores(last[:, 0].tolist(), [None] * count, last.tolist(), self.names)
        scores, labels = self._run(self.scorer, values.reshape(count, samples, len(self.names)))
        rows = values.tolist() if samples == 1 else [[] for _ in range(count)]
        return Scores(scores.tolist(), labels, rows, self.names if samples == 1 else (), values)

    def _score_by_length(self, windows: list[Closed]) -> Scores:
        merged = Scores([0.0] * len(windows), [None] * len(windows), [[] for _ in windows], ())
        labels: list[Label] = [None] * len(windows)
        for samples in sorted({window.samples for window in windows}):
            where = [at for at, window in enumerate(windows) if window.samples == samples]
            part = self._score([windows[at] for at in where])
            for place, at in enumerate(where):
                merged.scores[at] = part.scores[place]
                merged.rows[at] = part.rows[place]
                labels[at] = part.labels[place]
            merged.columns = merged.columns or part.columns
        merged.labels = labels
        merged.table = self._samples(windows)[0]
        return merged

    def _run(self, scorer: Scorer, rows: Floats) -> tuple[Floats, Sequence[Label]]:
        began = time.perf_counter()
        try:
            return scorer.score(rows)
        except MemoryError:
            raise
        except SkerryError as error:
            raise StageError("model-error", str(error)) from error
        finally:
            self.timing.runs += 1
            self.timing.rows += len(rows)
            self.timing.seconds += time.perf_counter() - began
