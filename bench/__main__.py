"""`python -m bench [NAMES…] [--rounds 3] [--seconds 8] [--json FILE] [--write]`."""

import argparse
import asyncio
import signal
import sys
from pathlib import Path

import msgspec

from bench import machine, report
from bench.rows import ROWS, Options, Row

RESULTS = Path(__file__).parent / "RESULTS.md"


def arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m bench", description="Measures skerry beside what people run today.")
    parser.add_argument("names", nargs="*", help=f"rows to measure: {', '.join(ROWS)}; all by default")
    parser.add_argument("--rounds", type=int, default=3, help="rounds, in turn with the peer; the median counts")
    parser.add_argument("--seconds", type=float, default=8.0, help="length of each measurement")
    parser.add_argument("--json", type=Path, metavar="FILE", help="write the figures to a file too")
    parser.add_argument("--write", action="store_true", help=f"write the table to bench/{RESULTS.name}")
    given = parser.parse_args()
    for name in given.names:
        if name not in ROWS:
            parser.error(f"there is no row {name!r}: {', '.join(ROWS)}")
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


def main() -> int:
    given = arguments()
    found = machine.look()
    print(report.heading(found), flush=True)
    rows = asyncio.run(measure(given.names or list(ROWS), Options(given.rounds, given.seconds)))
    whole = report.report(found, rows, sys.argv[1:])
    if given.json:
        given.json.write_bytes(msgspec.json.format(msgspec.json.encode(whole)) + b"\n")
    if given.write:
        RESULTS.write_text(report.markdown(whole), encoding="utf-8")
    return 0


if __name__ == "__main__":
    try:
        sys.exit(main())
    except asyncio.CancelledError:
        sys.exit(130)
