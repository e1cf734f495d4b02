"""The detector: a forest that scores windows and a rule that makes alarms of scores, both chosen on training runs alone."""

from collections.abc import Callable, Mapping, Sequence
from itertools import product
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray
from skab_features import BASELINE, Floats
from skab_runs import Run, Windows
from sklearn.ensemble import ExtraTreesClassifier, RandomForestClassifier
from sklearn.metrics import roc_auc_score

Bools = NDArray[np.bool_]
INNER_FOLDS = 4
STRIDE = 4
"""Every fourth window is trained on: neighbours share nearly all of their rows."""
TREES = 100

FORESTS: dict[str, Callable[[], Any]] = {
    "random forest": lambda: RandomForestClassifier(TREES, min_samples_leaf=10, max_features=0.2, n_jobs=2, random_state=0),
    "extra trees": lambda: ExtraTreesClassifier(TREES, min_samples_leaf=10, max_features=0.3, n_jobs=2, random_state=0),
}
"""Candidates of the inner selection."""


class AlarmRule(NamedTuple):
    """The pipeline's rule: fires after `for_` windows in a row above `above`, clears after `clear_for` below `clear_below`."""

    above: float
    clear_below: float
    for_: int
    clear_for: int

    def alarms(self, scores: Floats) -> Bools:
        """Whether the alarm is on after each window of one run."""
        firing, streak = False, 0
        out = np.zeros(len(scores), np.bool_)
        for at, score in enumerate(scores.tolist()):
            speaks = score < self.clear_below if firing else score > self.above
            streak = streak + 1 if speaks else 0
            if streak >= (self.clear_for if firing else self.for_):
                firing, streak = not firing, 0
            out[at] = firing
        return out


THRESHOLDS = range(20, 75, 5)
"""Candidates of `above`, in percent."""
HABITS = list(product((0, 10, 20), ((1, 1), (3, 5), (5, 10))))
"""Candidates of how far `clear_below` lies under `above`, in percent, and of (`for`, `clear_for`)."""
PLATEAU = 0.02
"""Thresholds whose F1 is no further than this from the best count as equally good: few runs do not tell them apart."""


class Counts(NamedTuple):
    """Rows by verdict and label."""

    hits: int = 0
    false: int = 0
    missed: int = 0
    quiet: int = 0

    def __add__(self, other: object) -> "Counts":
        if not isinstance(other, Counts):
            return NotImplemented
        return Counts(*(a + b for a, b in zip(self, other, strict=True)))

    @property
    def f1(self) -> float:
        return 2 * self.hits / max(1, 2 * self.hits + self.false + self.missed)

    @property
    def false_alarm_rate(self) -> float:
        """Of the rows without a fault."""
        return self.false / max(1, self.false + self.quiet)

    @property
    def missed_rate(self) -> float:
        """Of the rows with a fault."""
        return self.missed / max(1, self.missed + self.hits)


def count(alarms: Bools, faulty: Bools) -> Counts:
    """Rows of one or more runs counted."""
    hits, false = int((alarms & faulty).sum()), int((alarms & ~faulty).sum())
    return Counts(hits, false, int(faulty.sum()) - hits, int((~faulty).sum()) - false)


def delay_s(run: Run, alarms: Bools) -> int | None:
    """Seconds from the first faulty row to the first alarm within that fault; None where it was missed or there is none."""
    onset = int(run.faulty.argmax())
    past = np.flatnonzero(~run.faulty[onset:])
    end = onset + int(past[0]) if len(past) else len(alarms)
    found = np.flatnonzero(alarms[onset:end] & run.faulty[onset])
    return int(run.times[onset + found[0]] - run.times[onset]) if len(found) else None


def folds(runs: Sequence[Run], parts: int) -> list[list[Run]]:
    """Whole runs dealt out in turn, in the order of their names, so that every fold has some of every group."""
    if len(runs) < 2:
        raise SystemExit("two labelled runs at least: one to train on, one to score")
    parts = min(parts, len(runs))
    return [list(runs[at::parts]) for at in range(parts)]


Made = Mapping[str, Windows]
"""Windows of each run, by its name."""


def fit(kind: str, runs: Sequence[Run], made: Made) -> Any:
    """A forest trained on runs. Windows before a whole baseline are left out: their features say nothing yet."""
    rows = np.vstack([made[run.name].rows[made[run.name].newest[BASELINE::STRIDE]] for run in runs])
    labels = np.concatenate([run.faulty[BASELINE::STRIDE] for run in runs])
    if len(set(labels.tolist())) < 2:
        raise SystemExit("the training runs need rows with a fault and rows without one")
    return FORESTS[kind]().fit(rows, labels)


def scores_of(forest: Any, run: Run, made: Made) -> Floats:
    """Score of each window of a run: the probability of a fault."""
    found: Floats = forest.predict_proba(made[run.name].rows)[:, 1]
    return found


class Choice(NamedTuple):
    """What the inner folds chose, and the F1 that it had there."""

    kind: str
    rule: AlarmRule
    f1: float


def choose(runs: Sequence[Run], made: Made) -> Choice:
    """Forest and rule by inner folds of these runs, each scored by a forest that has not seen it.

    The forest with the greatest area under the ROC curve, then the rule with the best pooled F1 (see `choose_rule`).
    """
    faulty = np.concatenate([run.faulty for run in runs])
    scored = {kind: _scored_by_others(kind, runs, made) for kind in FORESTS}
    area = {
        kind: float(roc_auc_score(faulty, np.concatenate([scores[run.name][made[run.name].newest] for run in runs])))
        for kind, scores in scored.items()
    }
    kind = max(area, key=area.__getitem__)
    rule, f1 = choose_rule(runs, scored[kind], made)
    return Choice(kind, rule, f1)


def _scored_by_others(kind: str, runs: Sequence[Run], made: Made) -> dict[str, Floats]:
    scores: dict[str, Floats] = {}
    for held in folds(runs, INNER_FOLDS):
        names = {run.name for run in held}
        forest = fit(kind, [run for run in runs if run.name not in names], made)
        scores |= {run.name: scores_of(forest, run, made) for run in held}
    return scores


def choose_rule(runs: Sequence[Run], scores: Mapping[str, Floats], made: Made) -> tuple[AlarmRule, float]:
    """The habit with the best pooled F1 at any threshold, and of its thresholds the middle one of the best plateau."""
    best: list[tuple[AlarmRule, float]] = []
    for gap, (for_, clear_for) in HABITS:
        rules = [AlarmRule(above / 100, (above - gap) / 100, for_, clear_for) for above in THRESHOLDS]
        found = [(rule, pooled_f1(rule, runs, scores, made)) for rule in rules]
        if not best or max(f1 for _, f1 in found) > max(f1 for _, f1 in best):
            best = found
    top = max(f1 for _, f1 in best)
    plateau = [each for each in best if each[1] >= top - PLATEAU]
    return plateau[len(plateau) // 2]


def pooled_f1(rule: AlarmRule, runs: Sequence[Run], scores: Mapping[str, Floats], made: Made) -> float:
    """F1 over all rows of the runs."""
    parts = [count(rule.alarms(scores[run.name])[made[run.name].newest], run.faulty) for run in runs]
    return sum(parts, Counts()).f1
