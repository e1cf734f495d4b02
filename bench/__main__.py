"""`python -m bench [NAMES…] [--rounds 3] [--seconds 8] [--json FILE] [--write]`."""

import argparse
import asyncio
import signal
import sys
from pathlib import Path

import msgspec

from bench import machine, report
from bench.cluster import ROWS as CLUSTER
from bench.inference import ROWS as INFERENCE
from bench.leak import ROWS as LEAK
from bench.logins import ROWS as LOGINS
from bench.millions import millions
from bench.page import ROWS as PAGE
from bench.ready import ROWS as READY
from bench.refusals import ROWS as REFUSALS
from bench.rows import ROWS as MAIN_JOB
from bench.rows import Options, Row
from bench.runtime import ROWS as RUNTIME
from bench.serving import ROWS as SERVING
from bench.storage import ROWS as STORAGE
from bench.systems import ROOT
from bench.tls import ROWS as TLS
from bench.uplink import ROWS as UPLINK
from bench.uplink_p99 import ROWS as UPLINK_P99
from bench.uplink_wire import ROWS as UPLINK_WIRE

GROUPS = {
    "main": MAIN_JOB,
    "inference": {**INFERENCE, **SERVING, **READY},
    "devices": {**LOGINS, **REFUSALS, **TLS},
    "storage": {**STORAGE, "millions": millions},
    "runtime": {**RUNTIME, **LEAK},
    "uplink": {**UPLINK, **UPLINK_P99, **UPLINK_WIRE},
    "cluster": CLUSTER,
    "page": PAGE,
}
ROWS = {name: measure for rows in GROUPS.values() for name, measure in rows.items()}
RESULTS = {group: "RESULTS.md" if group == "main" else f"RESULTS-{group}.md" for group in GROUPS}
README = ROOT / "README.md"
SHOWN = (README, ROOT / "docs" / "comparison.md")


def arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m bench", description="Measures skerry beside what people run today.")
    parser.add_argument("names", nargs="*", help=f"what to measure: {', '.join([*GROUPS, *ROWS])}; all by default")
    parser.add_argument("--rounds", type=int, default=3, help="rounds, in turn with the peer; the median counts")
    parser.add_argument("--seconds", type=float, default=8.0, help="length of each measurement")
    parser.add_argument("--minutes", type=float, help="the same, in minutes: an hour of `fragments` with --minutes 60")
    parser.add_argument("--json", type=Path, metavar="FILE", help="write the figures to a file too")
    parser.add_argument("--write", action="store_true", help="write the tables to their files and the pages that show them")
    given = parser.parse_args()
    for name in given.names:
        if name not in ROWS and name not in GROUPS:
            parser.error(f"there is no row {name!r}: {', '.join([*GROUPS, *ROWS])}")
    given.names = [row for name in given.names or GROUPS for row in (GROUPS.get(name) or (name,))]
    if given.minutes is not None:
        given.seconds = 60 * given.minutes
    if given.rounds < 1 or given.seconds <= 0:
        parser.error("rounds must be 1 or more, seconds more than 0")
    return given


async def measure(names: list[str], options: Options) -> list[Row]:
    task = asyncio.current_task()
    assert task is not None
    for signum in (signal.SIGTERM, signal.SIGINT):
        asyncio.get_running_loop().add_signal_handler(signum, task.cancel)
    rows = []
    for name in names:
        report.say(f"{name}:")
        for row in await ROWS[name](options, report.say):
            rows.append(row)
            print(report.line(row), flush=True)
    return rows


def write(whole: report.Report) -> None:
    """Each group of rows that was measured into its file, and into the pages that show it."""
    for group, file in RESULTS.items():
        rows = [row for row in whole.rows if row.row in GROUPS[group]]
        if rows:
            found = msgspec.structs.replace(whole, rows=rows)
            (ROOT / "bench" / file).write_text(report.markdown(found, group), encoding="utf-8")
            for page in SHOWN:
                page.write_text(report.shown(page.read_text(encoding="utf-8"), found, group), encoding="utf-8")


def main() -> int:
    given = arguments()
    found = machine.look()
    print(report.heading(found), flush=True)
    rows = asyncio.run(measure(given.names, Options(given.rounds, given.seconds)))
    whole = report.report(found, rows, sys.argv[1:])
    if given.json:
        given.json.write_bytes(msgspec.json.format(msgspec.json.encode(whole)) + b"\n")
    if given.write:
        write(whole)
    return 0


if __name__ == "__main__":
    try:
        sys.exit(main())
    except asyncio.CancelledError:
        sys.exit(130)
