"""Score the detector on runs that it has not seen.

    python examples/skab/evaluate.py DIR                  # whole runs of DIR held out in turn
    python examples/skab/evaluate.py DIR --model OUT      # what train.py wrote to OUT, on the runs of DIR
    python examples/skab/evaluate.py DIR --rows FILE.csv  # the runs as `skerry pipeline test` reads them

Held out means: all that is chosen or trained for a run is chosen and trained on other runs. `--without-start N` drops
the first N rows of every run that is scored: a detector that had only learnt when in a run faults are due would fail
there. Needs the extra `train`.
"""

import argparse
import json
import sys
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import NamedTuple

import numpy as np
from skab_detector import Bools, Counts, choose, count, delay_s, fit, folds, scores_of
from skab_export import load
from skab_runs import Run, read_runs, windows, write_rows

FOLDS = 6


class Verdict(NamedTuple):
    """Alarms of one run that the detector had not seen."""

    run: Run
    alarms: Bools


def main() -> int:
    """Print the table, or one JSON object."""
    parser = argparse.ArgumentParser(description="Score the pump rig's detector on runs that it has not seen.")
    parser.add_argument("runs", type=Path, metavar="DIR", help="directory with labelled runs, <group>/<run>.csv")
    parser.add_argument("--model", type=Path, metavar="OUT", help="score what train.py wrote there")
    parser.add_argument("--rows", type=Path, metavar="FILE", help="write the runs for `skerry pipeline test` and end")
    parser.add_argument("--folds", type=int, default=FOLDS, help="outer folds (default: %(default)s)")
    parser.add_argument("--without-start", type=int, default=0, metavar="N", help="drop the first N rows of scored runs")
    parser.add_argument("--json", action="store_true", help="one JSON object")
    arguments = parser.parse_args()
    runs = read_runs(arguments.runs)
    if arguments.rows:
        print(f"{arguments.rows}: {write_rows(runs, arguments.rows)} rows of {len(runs)} runs")
        return 0
    verdicts = (
        list(with_model(runs, arguments.model, arguments.without_start))
        if arguments.model
        else list(held_out(runs, arguments.folds, arguments.without_start))
    )
    verdicts.sort(key=lambda verdict: verdict.run.name)
    print(json.dumps(report(verdicts)) if arguments.json else table(verdicts))
    return 0


def with_model(runs: Sequence[Run], out: Path, without: int) -> Iterator[Verdict]:
    """The verdicts of a trained detector."""
    detector = load(out)
    for run in (run.without_start(without) for run in runs):
        yield Verdict(run, detector.alarms(run))


def held_out(runs: Sequence[Run], parts: int, without: int) -> Iterator[Verdict]:
    """The verdicts on each fold of whole runs by a detector that was chosen and trained without any of them."""
    made = {run.name: windows(run) for run in runs}
    for number, held in enumerate(folds(runs, parts), start=1):
        names = {run.name for run in held}
        rest = [run for run in runs if run.name not in names]
        choice = choose(rest, made)
        print(f"fold {number}: {choice.kind}, {choice.rule}, inner F1 {choice.f1:.3f}", file=sys.stderr)
        forest = fit(choice.kind, rest, made)
        for run in (run.without_start(without) for run in held):
            seen = {run.name: windows(run)}
            yield Verdict(run, choice.rule.alarms(scores_of(forest, run, seen))[seen[run.name].newest])


def report(verdicts: Sequence[Verdict]) -> dict[str, object]:
    """`{"runs": [{run, f1, false_alarm_rate, missed_rate, delay_s}], "all": {…}}`; `all` has the median delay."""
    counted = [count(verdict.alarms, verdict.run.faulty) for verdict in verdicts]
    delays = [delay_s(verdict.run, verdict.alarms) for verdict in verdicts]
    known = [delay for delay in delays if delay is not None]
    each = [
        {"run": verdict.run.name, **_rates(counts), "delay_s": delay}
        for verdict, counts, delay in zip(verdicts, counted, delays, strict=True)
    ]
    whole = {**_rates(sum(counted, Counts())), "delay_s": float(np.median(known)) if known else None, "found": len(known)}
    return {"runs": each, "all": whole}


def _rates(counts: Counts) -> dict[str, float]:
    return {
        "f1": round(counts.f1, 4),
        "false_alarm_rate": round(counts.false_alarm_rate, 4),
        "missed_rate": round(counts.missed_rate, 4),
    }


def table(verdicts: Sequence[Verdict]) -> str:
    """The report as a Markdown table."""
    lines = ["| run | F1 | false alarms % | missed % | delay s |", "| --- | ---: | ---: | ---: | ---: |"]
    found = report(verdicts)
    each, whole = found["runs"], found["all"]
    assert isinstance(each, list)
    assert isinstance(whole, dict)
    for row in [*each, {**whole, "run": f"**all {len(each)}, {whole['found']} faults found**"}]:
        delay = "–" if row["delay_s"] is None else f"{row['delay_s']:.0f}"
        rates = f"{row['f1']:.3f} | {100 * row['false_alarm_rate']:.1f} | {100 * row['missed_rate']:.1f}"
        lines.append(f"| {row['run']} | {rates} | {delay} |")
    return "\n".join(lines)


if __name__ == "__main__":
    raise SystemExit(main())
