"""What drift is measured against and how far the measuring has come, as plain data: read and written without numpy."""

from collections.abc import Callable
from typing import TypeVar

import msgspec

FORMAT = 1
N = TypeVar("N", int, float)


class FeatureReference(msgspec.Struct, frozen=True):
    """How one feature was spread in the reference.

    Attributes:
        edges: cut points between the bins, ascending; a value on a cut belongs to the bin below it.
        fractions: share of the reference's rows in each bin, `len(edges) + 1` of them, and last the share that was not a number.
        min, max: the range of the finite values.
    """

    edges: list[float]
    fractions: list[float]
    min: float
    max: float


class Reference(msgspec.Struct, frozen=True):
    """How the features were spread where the model was trained, or in its first windows. Its JSON is the model's metadata."""

    rows: int
    features: dict[str, FeatureReference]
    format: int = FORMAT


class DriftState(msgspec.Struct, array_like=True):
    """The drift of one model in one pipeline partition, as its checkpoint keeps it.

    Attributes:
        model: `name@version`; another one begins anew.
        columns: the features, in order.
        source: where the reference is from: `metadata` or `learned`; while it is being learned `learning`.
        learned: while learning: the rows so far, float64, row by row.
        block: counts by feature and bin of the rows since the last judgement; `in_block` rows.
        total: the same of all blocks that were judged; `judged` rows.
        outside: rows since the start with a value outside the reference's range; `outside_of`: by feature.
        psi: by feature, of the last block that was judged.
        begun: start of the first window of the block, microseconds.
        firing, alarm_id: whether the drift has passed its bound and not come back, and the name of that alarm.
    """

    model: str = ""
    columns: list[str] = []
    source: str = ""
    reference: Reference | None = None
    learned: bytes = b""
    block: list[list[int]] = []
    in_block: int = 0
    total: list[list[int]] = []
    judged: int = 0
    outside: int = 0
    outside_of: list[int] = []
    psi: list[float] = []
    begun: int = 0
    firing: bool = False
    alarm_id: str = ""
    format: int = FORMAT

    @property
    def rows(self) -> int:
        """Rows that were held against the reference."""
        return self.judged + self.in_block


def merge_states(states: list[DriftState]) -> DriftState:
    """Several partitions' states as one: counts are added where all have the same reference, else the one with most rows goes on.

    References that were learned apart have other bins, in which the others' counts do not fit; what was outside is still added.
    The last block's PSI and a block that is begun are of one partition, and are left to the next judgement.
    """
    first = max(states, key=lambda state: (state.reference is not None, state.rows, len(state.learned)))
    if first.reference is None:
        return first
    same = [
        state for state in states if (state.model, state.columns, state.reference) == (first.model, first.columns, first.reference)
    ]
    like = [state for state in states if (state.model, state.columns) == (first.model, first.columns)]
    return DriftState(
        model=first.model,
        columns=first.columns,
        source=first.source,
        reference=first.reference,
        total=_add([table for state in same for table in (state.total, state.block) if table]),
        judged=sum(state.rows for state in same),
        outside=sum(state.outside for state in like),
        outside_of=[sum(counts) for counts in zip(*[state.outside_of for state in like if state.outside_of], strict=True)],
        firing=any(state.firing for state in like),
        alarm_id=next((state.alarm_id for state in like if state.firing), first.alarm_id),
    )


def _add(tables: list[list[list[int]]]) -> list[list[int]]:
    """The sum of tables of counts, feature by feature and bin by bin."""
    return [[sum(counts) for counts in zip(*rows, strict=True)] for rows in zip(*tables, strict=True)]


class DriftReport(msgspec.Struct):
    """Drift as it is shown: on `model show`, in `status` and as metrics.

    Attributes:
        source: `learning`, `learned`, `metadata`, or empty where nothing is watched.
        reference_rows: rows that the reference was made of; while learning those so far.
        rows: rows held against it; `outside` of them had a value outside its range, by feature in `outside_of`.
        psi: by feature, of the last block that was judged, the largest first; empty before the first.
        psi_since_start: by feature, of all rows.
    """

    source: str = ""
    reference_rows: int = 0
    rows: int = 0
    outside: int = 0
    outside_of: dict[str, int] = {}
    psi: dict[str, float] = {}
    psi_since_start: dict[str, float] = {}
    bound: float = 0.25
    firing: bool = False


def merge_drift(one: DriftReport, other: DriftReport) -> DriftReport:
    """Two partitions as one: counts added, of every feature the larger PSI, since each partition judges its own rows."""
    if not (one.source and other.source):
        return one if one.source else other
    learned = [each.reference_rows for each in (one, other) if each.source != "metadata"]
    return DriftReport(
        source=one.source if one.source == other.source else "learning",
        reference_rows=sum(learned) if learned else max(one.reference_rows, other.reference_rows),
        rows=one.rows + other.rows,
        outside=one.outside + other.outside,
        outside_of=_merged(one.outside_of, other.outside_of, lambda a, b: a + b),
        psi=_merged(one.psi, other.psi, max),
        psi_since_start=_merged(one.psi_since_start, other.psi_since_start, max),
        bound=one.bound,
        firing=one.firing or other.firing,
    )


def _merged(one: dict[str, N], other: dict[str, N], join: Callable[[N, N], N]) -> dict[str, N]:
    total = dict(one)
    for name, value in other.items():
        total[name] = join(total[name], value) if name in total else value
    return dict(sorted(total.items(), key=lambda pair: -pair[1]))
