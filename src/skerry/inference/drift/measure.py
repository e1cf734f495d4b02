"""Drift: how far the features that a model is given have moved from those that it was trained on.

The measure is the population stability index (N. Siddiqi, "Credit Risk Scorecards", Wiley 2006, chapter 10): with `e` the share of
the reference and `a` that of the rows at hand in a bin,

    PSI = sum over bins of (a - e) * ln(a / e)

over the ten quantile bins of the reference. By custom below 0.1 is no change, above 0.25 a change to act on. Without any drift it
is about `(bins - 1) * (1 / N + 1 / M)` for N reference rows and M rows at hand (B. Yurdakul, "Statistical Properties of Population
Stability Index", 2018): 0.036 at 500 and 500, which is why a judgement looks at hundreds of rows.
"""

from collections.abc import Mapping, Sequence
from itertools import pairwise
from typing import Any

import msgspec
import numpy as np
from numpy.typing import ArrayLike, NDArray

from skerry.core.errors import RejectedError
from skerry.inference.drift.state import FORMAT, FeatureReference, Reference

Floats = NDArray[np.float64]
Counts = NDArray[np.int64]
METADATA_KEY = "drift_reference"
BINS = 10
EPSILON = 1e-4
"""Added to every share, so that an empty bin has a logarithm: one that held a tenth and is empty now adds 0.69."""
MOST_COMPARED = 2_000_000
"""Comparisons (rows x features x cuts) in one step: bounds its memory to 2 MB."""
_MEND = f"write the metadata {METADATA_KEY!r} with skerry.inference.reference_of(rows, names), or leave it out"


def reference_of(rows: ArrayLike, names: Sequence[str], bins: int = BINS) -> Reference:
    """The reference of training rows `[N, F]` with the features' names, for `reference_json`.

    Cuts are values of the rows themselves, so that features with few distinct values get fewer bins, and their shares are counted.
    Raises `RejectedError` when the rows are none, or not as wide as the names.
    """
    table = np.asarray(rows, np.float64)
    if table.ndim != 2 or table.shape[1] != len(names) or not len(table):
        raise RejectedError(
            f"a drift reference needs rows [N, {len(names)}], one column a name, and has {list(table.shape)}",
            mend="give the rows that the model was trained on",
        )
    if len(set(names)) != len(names):
        raise RejectedError("a feature is named twice in the drift reference", mend="give every column its own name")
    return Reference(len(table), {name: _spread(table[:, at], bins) for at, name in enumerate(names)})


def _spread(column: Floats, bins: int) -> FeatureReference:
    finite = column[np.isfinite(column)]
    edges: list[float] = []
    low = high = 0.0
    if len(finite):
        low, high = float(finite.min()), float(finite.max())
        cuts = np.quantile(finite, np.arange(1, bins) / bins, method="inverted_cdf")
        if cuts[0] == low:
            # the lowest value fills a bin of its own: what is below it must not be counted with it
            cuts = np.concatenate([[np.nextafter(low, -np.inf)], cuts])
        edges = np.unique(cuts[np.isfinite(cuts)]).tolist()
    bins_of = np.searchsorted(np.array(edges), column)
    bins_of[np.isnan(column)] = len(edges) + 1
    counted = np.bincount(bins_of, minlength=len(edges) + 2)
    return FeatureReference(edges, (counted / len(column)).tolist(), low, high)


def psi(expected: Floats, counts: Counts) -> Floats:
    """PSI a feature `[F]` of counts `[F, bins]` against shares `[F, bins]`, both smoothed by `EPSILON`; 0 without rows."""
    rows = counts.sum(1, keepdims=True)
    bins = expected.shape[1]
    actual = (counts / np.maximum(rows, 1) + EPSILON) / (1 + bins * EPSILON)
    wanted = (expected + EPSILON) / (1 + bins * EPSILON)
    found: Floats = np.where(rows[:, 0] > 0, ((actual - wanted) * np.log(actual / wanted)).sum(1), 0.0)
    return found


class Meter:
    """Counts rows in the bins of a reference.

    Args:
        reference: where the bins and ranges are from.
        columns: names of the columns of the rows that will be added, each a feature of the reference.
    """

    def __init__(self, reference: Reference, columns: Sequence[str]) -> None:
        features = [reference.features[name] for name in columns]
        width = max((len(feature.edges) for feature in features), default=0)
        self.expected = np.zeros((len(features), width + 2))
        # between the least and the greatest value the bins' cuts, filled up with such that nothing is above: their bins stay empty
        self._cuts = np.full((len(features), width + 2, 1), np.inf)
        for at, feature in enumerate(features):
            self._cuts[at, 0] = np.nextafter(feature.min, -np.inf)
            self._cuts[at, 1 : len(feature.edges) + 1, 0] = feature.edges
            self._cuts[at, -1] = feature.max
            self.expected[at, : len(feature.edges) + 1] = feature.fractions[:-1]
            self.expected[at, -1] = feature.fractions[-1]
        self._known_missing = self.expected[:, -1:] > 0
        self._step = max(1, MOST_COMPARED // max(1, self._cuts.size))
        self.counts = self.empty()
        self.outside = 0
        self.outside_of = np.zeros(len(features), np.int64)

    def empty(self) -> Counts:
        """Counts of no rows `[F, bins]`."""
        return np.zeros(self.expected.shape, np.int64)

    def add(self, rows: Floats) -> None:
        """Count rows `[n, F]`, and those with a value outside the reference's range (or not a number where it had none)."""
        for begin in range(0, len(rows), self._step):
            part = rows[begin : begin + self._step]
            columns = np.ascontiguousarray(part.T)
            over = columns[:, None, :] > self._cuts
            above = np.add.reduce(over.view(np.uint8), axis=2, dtype=np.int64)
            between = above[:, 1:-1]
            self.counts[:, 0] += len(part)
            self.counts[:, 1:-1] += between
            self.counts[:, :-2] -= between  # what is above one cut and not above the next is between them
            below = len(part) - above[:, 0]
            outside_of = below + above[:, -1]
            if outside_of.any():
                inside = over[:, 0] > over[:, -1]
                if below.any():  # no comparison holds for what is not a number
                    inside = self._without_missing(columns, inside, outside_of)
                self.outside += len(part) - int(np.count_nonzero(np.logical_and.reduce(inside)))
                self.outside_of += outside_of

    def _without_missing(self, columns: Floats, inside: NDArray[np.bool_], outside_of: Counts) -> NDArray[np.bool_]:
        """Move what is not a number from the first bin, since it is above no cut, to the last; what is inside then."""
        missing = np.isnan(columns)
        if not missing.any():
            return inside
        lost = missing.sum(1)
        self.counts[:, 0] -= lost
        self.counts[:, -1] += lost
        outside_of -= lost * self._known_missing[:, 0]
        return inside | (missing & self._known_missing)

    def merge(self, other: "Meter") -> None:
        """Add what another meter of the same reference and columns has counted."""
        self.counts += other.counts
        self.outside += other.outside
        self.outside_of += other.outside_of

    def psi(self) -> Floats:
        """PSI a feature of what was counted."""
        return psi(self.expected, self.counts)


def reference_json(reference: Reference) -> str:
    """The reference as the value of the model's metadata `drift_reference`."""
    return msgspec.json.encode(reference).decode()


def reference_in(metadata: Mapping[str, str], columns: Sequence[str]) -> Reference | None:
    """The reference that a model's metadata carries for these columns, or None where it has none.

    Raises `RejectedError` when it cannot be read, contradicts itself, or lacks a column.
    """
    text = metadata.get(METADATA_KEY, "")
    if not text:
        return None
    try:
        reference = msgspec.json.decode(text, type=Reference)
    except msgspec.MsgspecError as error:
        raise RejectedError(f"the model's drift reference cannot be read: {error}", mend=_MEND) from error
    if reference.format > FORMAT:
        raise RejectedError(f"the model's drift reference has format {reference.format}, this version reads up to {FORMAT}")
    lacking = [name for name in columns if name not in reference.features]
    if lacking:
        raise RejectedError(f"the model's drift reference has no feature {lacking[0]!r}", mend=_MEND)
    for name in columns:
        wrong = _wrong(reference.features[name])
        if wrong:
            raise RejectedError(f"the model's drift reference of {name!r} {wrong}", mend=_MEND)
    return Reference(reference.rows, {name: reference.features[name] for name in columns})


def _wrong(feature: FeatureReference) -> str:
    """What is wrong with a feature's reference, or nothing."""
    edges, shares = feature.edges, feature.fractions
    if len(edges) > 1000:
        return f"has {len(edges)} cuts, allowed are 1,000"
    if len(shares) != len(edges) + 2:
        return f"has {len(shares)} fractions for {len(edges)} cuts, not {len(edges) + 2}"
    if any(one >= other for one, other in pairwise(edges)):
        return "has cuts that do not ascend"
    if any(share < 0 for share in shares) or abs(sum(shares) - 1) > 1e-3:
        return "has fractions that do not add up to 1"
    if feature.min > feature.max:
        return f"has a min of {feature.min} above its max of {feature.max}"
    return ""


def shown(columns: Sequence[str], values: Any, most: int = 64) -> dict[str, float]:
    """Values by column, rounded, the largest first and at most so many: what is shown to people and to metrics."""
    pairs = sorted(zip(columns, map(float, values), strict=True), key=lambda pair: -pair[1])
    return {name: round(value, 4) for name, value in pairs[:most]}
