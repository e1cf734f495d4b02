"""Features of one window of the pump rig: how its newest rows differ from its oldest ones.

The pipeline's window slides: every second it holds the ten minutes before. Its oldest minute is the baseline of the
rig as it ran then (for the first ten minutes of a run: the run's own first minute), its newest 10 to 120 rows are what
is judged. Only rows of the window are looked at, so nothing of the future comes in, and no clock: neither the time, nor
the window's length, nor a count. The two temperatures drift for as long as the rig runs, so their distance from the
baseline would be a clock of its own: they count by their jumps, their unrest, and as one of the distances.
"""

import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.float64]
Ints = NDArray[np.int64]

SENSORS = (
    "Accelerometer1RMS",
    "Accelerometer2RMS",
    "Current",
    "Pressure",
    "Temperature",
    "Thermocouple",
    "Voltage",
    "Volume Flow RateRMS",
)
FLOORS = np.array([0.003, 0.003, 0.1, 0.05, 0.2, 0.05, 2.0, 0.2])
"""Change of each sensor, in its own unit, that is taken for noise also where the baseline is quieter than that."""
STEADY = [at for at, sensor in enumerate(SENSORS) if sensor not in ("Temperature", "Thermocouple")]
"""Sensors that do not drift while the rig runs well."""
BASELINE = 60
"""Rows of the baseline: the oldest of the window."""
SCALES = (10, 30, 60)
"""Rows of the trailing means."""
SLOW = 120
"""Rows of the mean that the trailing means are compared with, to tell a jump from a drift."""


def _moments(values: Floats, first: Ints, last: Ints) -> tuple[Floats, Floats]:
    """Mean and population std of the rows `first[i]:last[i]`, each `[n, V]`; all ranges are short and none is empty."""
    longest = int((last - first).max())
    index = first[:, None] + np.arange(longest)
    inside = (index < last[:, None])[:, :, None]
    count = (last - first)[:, None].astype(np.float64)
    rows = values[np.minimum(index, len(values) - 1)]
    mean = np.where(inside, rows, 0.0).sum(axis=1) / count
    spread = np.where(inside, rows - mean[:, None, :], 0.0)
    return mean, np.sqrt((spread**2).sum(axis=1) / count)


def features(values: Floats, offsets: Ints) -> Floats:
    """Features of n windows.

    Args:
        values: `[total, 8]`, the rows of all windows end to end, columns as in `SENSORS`.
        offsets: `[n + 1]`, `offsets[i]:offsets[i + 1]` are the rows of window i, oldest first; no window is empty.

    Returns:
        `[n, 47]`, columns as in `features.columns`.
    """
    first, end = offsets[:-1], offsets[1:]
    base, noise = _moments(values, first, np.minimum(end, first + BASELINE))
    trailing = {rows: _moments(values, np.maximum(first, end - rows), end) for rows in (*SCALES, SLOW)}
    mean = {rows: moments[0] for rows, moments in trailing.items()}
    scale = np.abs(base) + FLOORS
    noise = noise + FLOORS
    change = [((mean[rows] - base) / scale)[:, STEADY] for rows in SCALES]
    jump = [(mean[10] - mean[60]) / scale, (mean[30] - mean[SLOW]) / scale]
    unrest = np.log((trailing[30][1] + 0.1 * FLOORS) / noise)
    # which sensor moves depends on the fault; that some of them do does not
    distance = np.sort(np.abs(mean[30] - base) / noise, axis=1)
    total = (distance**2).sum(axis=1, keepdims=True)
    return np.hstack([*change, *jump, unrest, distance[:, :-5:-1], np.log1p(total)])


def _columns() -> list[str]:
    changes = [f"{SENSORS[at]}_change{rows}" for rows in SCALES for at in STEADY]
    others = [f"{sensor}_{group}" for group in ("jump10", "jump30", "unrest") for sensor in SENSORS]
    return [*changes, *others, *(f"distance{rank}" for rank in range(1, 5)), "total"]


# the pipeline reads the names of the columns from the function, for its events and for rules on one of them
features.columns = _columns()  # type: ignore[attr-defined]  # functions take attributes, their type does not say so
