"""Train the detector on whole runs and write it as a directory that skerry runs.

    python examples/skab/train.py DIR --out OUT

DIR holds labelled runs, `<group>/<run>.csv`. Forest and rule are chosen by folds inside DIR, then the forest is trained
on all of its runs. OUT gets the model, the pipeline's skerry.toml and the feature function. Needs the extra `train`.
"""

import argparse
from collections.abc import Sequence
from pathlib import Path

import numpy as np
from skab_detector import AlarmRule, choose, fit, scores_of
from skab_export import MODEL, load, save
from skab_runs import Run, Windows, read_runs, windows


def main() -> int:
    """Choose, train, write, and check what was written against what was trained."""
    parser = argparse.ArgumentParser(description="Train the pump rig's detector and write it for skerry.")
    parser.add_argument("runs", type=Path, metavar="DIR", help="directory with labelled runs, <group>/<run>.csv")
    parser.add_argument("--out", type=Path, required=True, help="directory to write model and pipeline to")
    arguments = parser.parse_args()
    runs = read_runs(arguments.runs)
    made = {run.name: windows(run) for run in runs}
    choice = choose(runs, made)
    print(f"chosen by inner folds of {len(runs)} runs: {choice.kind}, {choice.rule}, F1 there {choice.f1:.3f}")
    forest = fit(choice.kind, runs, made)
    save(forest, choice.rule, arguments.out)
    furthest = check(arguments.out, forest, choice.rule, runs, made)
    size = (arguments.out / MODEL).stat().st_size
    print(f"{arguments.out / MODEL}: {size / 2**20:.1f} MiB; scores within {furthest:.1e} of the trained forest's, alarms equal")
    return 0


def check(out: Path, forest: object, rule: AlarmRule, runs: Sequence[Run], made: dict[str, Windows]) -> float:
    """The greatest difference of a score between file and forest. Raises `SystemExit` where an alarm differs."""
    detector = load(out)
    furthest = 0.0
    for run in runs:
        trained, written = scores_of(forest, run, made), detector.scores(made[run.name])
        furthest = max(furthest, float(np.abs(trained - written).max()))
        if not np.array_equal(rule.alarms(trained), detector.rule.alarms(written)):
            raise SystemExit(f"{out / MODEL}: other alarms than the trained forest on {run.name}; do not use it")
    return furthest


if __name__ == "__main__":
    raise SystemExit(main())
