"""Drift of a pipeline's model: its features against a reference, judged after every so many rows; events when it passes its bound.

Judgements fall on counts of rows and not on times or reads, so that a replay of the log decides the same again.
"""

from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from skerry.core import log
from skerry.core.clock import to_rfc3339
from skerry.core.errors import RejectedError
from skerry.core.ports import Scorer
from skerry.inference import DriftReport, DriftState, Meter, Reference, psi, reference_in, reference_of, shown
from skerry.pipeline.event import Event
from skerry.pipeline.rule import digest
from skerry.pipeline.spec import DriftSpec, PipelineSpec
from skerry.window.state import Closed

DRIFT_KEY = "drift"
"""Key and label of the events, which are of the pipeline and not of one of its devices."""
CLEAR = 0.8
"""Share of the bound under which a drift is over, so that one at the bound does not flap."""
MOST_COLUMNS = 512
"""Wider rows (pictures, long windows of samples) are not watched."""
MOST_LEARNED = 65_536
"""Numbers that are kept while a reference is learned: 512 KiB in the checkpoint. Of wide rows fewer are learned from."""
LEAST_LEARNED = 100
MOST_NAMED = 32
"""Features in an event, the worst first."""
_log = log.get("pipeline")


class DriftWatch:
    """Watches the rows that a pipeline's model is given.

    Without a `drift` table everything is measured with its defaults, and no event is put out.

    Attributes:
        state: None until a model has scored something; what the checkpoint keeps, always up to date.
    """

    def __init__(self, spec: PipelineSpec, node: str, state: DriftState | None) -> None:
        self.state = state
        self._spec = spec.drift or DriftSpec(event=False)
        self._pipeline = spec.name
        self._severity = spec.rule.severity if spec.rule else "warning"
        self._node = node
        self._scorer: Scorer | None = None
        self._columns: Sequence[str] = ()
        self._meter: Meter | None = None
        self._buffer: NDArray[np.float64] = np.empty((0, 0))
        self._filled = 0
        self._on = False

    def observe(
        self, windows: Sequence[Closed], rows: NDArray[np.float64] | None, columns: Sequence[str], scorer: Scorer | None
    ) -> list[Event]:
        """Count the rows `[n, F]` of scored windows (one each, or one each sample); events of judgements that fell on the way."""
        if scorer is None:
            self.state = None
        if rows is None or scorer is None:
            return []
        if scorer is not self._scorer or columns is not self._columns:
            self._bind(scorer, columns)
        if not self._on or self.state is None:
            return []
        found: list[Event] = []
        at = 0
        while at < len(rows):
            if self._meter is None:
                at += self._learn(rows[at:])
                continue
            if self.state.in_block == 0:
                self.state.begun = _window_of_row(windows, at, len(rows)).start
            taken = self._measure(self._meter, rows[at:])
            at += taken
            if self.state.in_block >= self._spec.window:
                found += self._judge(self._meter, _window_of_row(windows, at - 1, len(rows)), scorer)
        self._note()
        return found

    def _bind(self, scorer: Scorer, columns: Sequence[str]) -> None:
        """Take a model: go on where the state is of the same one, its columns and its reference, else begin anew."""
        self._scorer, self._columns = scorer, columns
        model, names = f"{scorer.name}@{scorer.version}", list(columns)
        self._on = 0 < len(names) <= MOST_COLUMNS and len(set(names)) == len(names)
        if not self._on:
            return
        reference = self._given(scorer, names)
        before = self.state or DriftState()
        known = (before.model, before.columns, before.format)
        same = before.source and known == (model, names, DriftState().format)
        if not same or ((before.source == "metadata" or reference is not None) and before.reference != reference):
            # an alarm outlives the model that it began under: the next judgement says whether it is over
            self.state = DriftState(model, names, firing=before.firing, alarm_id=before.alarm_id)
            if reference is not None:
                self.state.source, self.state.reference = "metadata", reference
            elif self._spec.learn:
                self.state.source = "learning"
        assert self.state is not None
        self._on = bool(self.state.source)
        if self.state.reference is not None:
            self._begin(self.state.reference)
        elif self._on:
            self._continue_learning(len(names))

    def _given(self, scorer: Scorer, names: list[str]) -> Reference | None:
        """The reference in the model's metadata; one that does not fit is named in the log and passed over."""
        metadata: Any = getattr(scorer, "metadata", None)
        try:
            return reference_in(metadata, names) if isinstance(metadata, dict) else None
        except RejectedError as error:
            _log.warning(f"pipeline {self._pipeline} learns its drift reference: {error}")
            return None

    def _begin(self, reference: Reference) -> None:
        """Measure against a reference, from the counts that the state has."""
        assert self.state is not None
        state = self.state
        self._meter = meter = Meter(reference, state.columns)
        if np.shape(state.block) == meter.counts.shape:
            meter.counts[:] = state.block
        else:
            state.in_block = 0
        if np.shape(state.total) != meter.counts.shape:
            state.total, state.judged = meter.empty().tolist(), 0
        if len(state.outside_of) == len(state.columns):
            meter.outside_of[:] = state.outside_of
        meter.outside = state.outside

    def _continue_learning(self, width: int) -> None:
        assert self.state is not None
        wanted = min(self._spec.learn, max(LEAST_LEARNED, MOST_LEARNED // width))
        known = np.frombuffer(self.state.learned, np.float64).reshape(-1, width)[:wanted]
        self._meter, self._filled = None, len(known)
        self._buffer = np.empty((wanted, width))
        self._buffer[: len(known)] = known

    def _learn(self, rows: NDArray[np.float64]) -> int:
        """Keep rows for the reference; with the last one it is made. Answers how many were taken."""
        assert self.state is not None
        taken = min(len(rows), len(self._buffer) - self._filled)
        self._buffer[self._filled : self._filled + taken] = rows[:taken]
        self._filled += taken
        if self._filled == len(self._buffer):
            self.state.reference = reference_of(self._buffer, self.state.columns)
            self.state.source = "learned"
            self.state.learned = b""
            self._buffer, self._filled = np.empty((0, 0)), 0
            self._begin(self.state.reference)
        return taken

    def _measure(self, meter: Meter, rows: NDArray[np.float64]) -> int:
        """Count rows up to the end of the block; answers how many."""
        assert self.state is not None
        taken = min(len(rows), max(1, self._spec.window - self.state.in_block))
        meter.add(rows[:taken])
        self.state.in_block += taken
        return taken

    def _note(self) -> None:
        """Write what was counted into the state."""
        assert self.state is not None
        state, meter = self.state, self._meter
        if meter is None:
            state.learned = self._buffer[: self._filled].tobytes()
            return
        state.block = meter.counts.tolist()
        state.outside = meter.outside
        state.outside_of = meter.outside_of.tolist()

    def _judge(self, meter: Meter, last: Closed, scorer: Scorer) -> list[Event]:
        """End the block: its PSI, and an event if it passes the bound or is back."""
        assert self.state is not None
        state, bound = self.state, self._spec.bound
        found = meter.psi()
        rows, begun = state.in_block, state.begun
        state.psi = found.tolist()
        state.total = (np.array(state.total, np.int64) + meter.counts).tolist()
        state.judged += rows
        state.in_block = 0
        meter.counts = meter.empty()
        worst = float(found.max())
        if state.firing == (worst >= bound * CLEAR if state.firing else worst > bound):
            return []
        state.firing = not state.firing
        window = (last.key, str(last.start), str(last.end), str(last.index))
        place = (self._pipeline, DRIFT_KEY, state.model, *window, str(state.judged))
        if state.firing:
            state.alarm_id = digest(*place, "alarm")
        if not self._spec.event:
            return []
        return [self._event(digest(*place, str(state.firing)), worst, rows, begun, last, scorer)]

    def _event(self, name: str, worst: float, rows: int, begun: int, last: Closed, scorer: Scorer) -> Event:
        assert self.state is not None
        return Event(
            id=name,
            pipeline=self._pipeline,
            key=DRIFT_KEY,
            node=self._node,
            start=to_rfc3339(begun),
            end=to_rfc3339(last.end),
            count=rows,
            score=worst,
            label=DRIFT_KEY,
            state="firing" if self.state.firing else "cleared",
            severity=self._severity,
            features=shown(self.state.columns, self.state.psi, MOST_NAMED),
            model=scorer.name,
            version=scorer.version,
            latency_ms=0.0,
            alarm_id=self.state.alarm_id,
        )


def _window_of_row(windows: Sequence[Closed], row: int, rows: int) -> Closed:
    """The window that a row is of: the rows are one a window, or one a sample."""
    if rows == len(windows):
        return windows[row]
    for window in windows:
        row -= window.samples
        if row < 0:
            return window
    return windows[-1]


def drift_report(state: DriftState | None, spec: PipelineSpec) -> DriftReport:
    """What there is to show of a state."""
    bound = (spec.drift or DriftSpec()).bound
    if state is None or not state.source:
        return DriftReport(bound=bound)
    if state.reference is None:
        learned = len(state.learned) // (8 * max(1, len(state.columns)))
        return DriftReport(source=state.source, reference_rows=learned, bound=bound, firing=state.firing)
    meter = Meter(state.reference, state.columns)
    for counts in (state.total, state.block):
        if np.shape(counts) == meter.counts.shape:
            meter.counts += np.array(counts, np.int64)
    names = state.columns
    return DriftReport(
        source=state.source,
        reference_rows=state.reference.rows,
        rows=state.rows,
        outside=state.outside,
        outside_of={name: int(rows) for name, rows in shown(names, state.outside_of or [0] * len(names)).items() if rows},
        psi=shown(names, state.psi) if state.psi else {},
        psi_since_start=shown(names, psi(meter.expected, meter.counts)) if state.rows else {},
        bound=bound,
        firing=state.firing,
    )
