"""One version of a model as a pipeline scores with it: counted, with another one in its shadow."""

import threading
import time
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from skerry.core.errors import SkerryError
from skerry.worker.protocol import ModelReport, ShadowReport

if TYPE_CHECKING:
    from skerry.inference import Model

Floats = NDArray[np.float64]
Label = str | int | None
RECENT = 64
"""Rows of the last batch that a new version is tried on."""
SHADOW_QUEUE = 8
KEPT = 8
"""Reports of earlier versions that a pipeline keeps."""


class Shadow:
    """A version that runs beside the active one, in a thread, on the same rows; at most `SHADOW_QUEUE` batches wait."""

    def __init__(self, model: "Model", against: str, threads: ThreadPoolExecutor) -> None:
        self.report = ShadowReport(model.name, model.version, against)
        self._model = model
        self._threads = threads
        self._waiting = 0
        self._lock = threading.Lock()

    def offer(self, rows: Floats, scores: Floats, labels: Sequence[Label]) -> None:
        """Compare what it answers with these answers, or pass over them where it cannot keep up."""
        with self._lock:
            if self._waiting >= SHADOW_QUEUE:
                self.report.skipped += len(rows)
                return
            self._waiting += 1
        try:
            self._threads.submit(self._run, rows, scores, labels)
        except RuntimeError:  # the threads are ending
            with self._lock:
                self._waiting -= 1

    def _run(self, rows: Floats, scores: Floats, labels: Sequence[Label]) -> None:
        report = self.report
        began = time.perf_counter()
        try:
            mine, named = self._model.score(rows)
        except SkerryError as error:
            with self._lock:
                report.errors += 1
                report.failure = report.failure or str(error)
            return
        finally:
            with self._lock:
                self._waiting -= 1
                report.runs += 1
                report.seconds += time.perf_counter() - began
        with self._lock:
            self._compare(rows, (scores, labels), (mine, named))

    def _compare(self, rows: Floats, active: tuple[Floats, Sequence[Label]], mine: tuple[Floats, Sequence[Label]]) -> None:
        report = self.report
        report.rows += len(rows)
        report.nan += nan_of(rows, mine[0])
        difference = np.abs(active[0] - mine[0])
        difference = difference[np.isfinite(difference)]
        if difference.size:
            report.sum_difference += float(difference.sum())
            report.max_difference = max(report.max_difference, float(difference.max()))
        pairs = [(a, b) for a, b in zip(active[1], mine[1], strict=True) if a is not None or b is not None]
        report.labels += len(pairs)
        report.agreed += sum(a == b for a, b in pairs)


class LiveModel:
    """One version as a pipeline scores with it (a `Scorer`): what it does is counted, and its shadow is given the same rows."""

    def __init__(self, model: "Model", epoch: int, load_seconds: float = 0.0, memory: int = 0) -> None:
        self.name = model.name
        self.version = model.version
        self.metadata = model.metadata
        self.model = model
        self.report = ModelReport(model.name, model.version, epoch, load_seconds=load_seconds, memory=memory)
        self.recent: Floats | None = None
        self.shadow: Shadow | None = None

    def score(self, rows: Floats) -> tuple[Floats, Sequence[Label]]:
        """As `Model.score`."""
        report = self.report
        began = time.perf_counter()
        try:
            scores, labels = self.model.score(rows)
        except SkerryError:
            report.errors += 1
            raise
        finally:
            report.runs += 1
            report.rows += len(rows)
            report.seconds += time.perf_counter() - began
        report.nan += nan_of(rows, scores)
        self.recent = rows if len(rows) <= RECENT else rows[:RECENT]
        if self.shadow is not None:
            self.shadow.offer(rows, scores, labels)
        return scores, labels


def nan_of(rows: Floats, scores: Floats) -> int:
    """How many scores are not a number although their row was."""
    bad = np.isnan(scores)
    if not bad.any():
        return 0
    if rows.dtype.kind == "O":  # strings
        return int(bad.sum())
    return int((bad & np.isfinite(rows.reshape(len(rows), -1)).all(axis=1)).sum())
