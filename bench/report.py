"""The figures as lines for a terminal, as a Markdown table, and as JSON."""

import datetime as dt
import shlex
import sys

import msgspec

from bench.machine import Machine
from bench.rows import Row


class Report(msgspec.Struct):
    """One run of the bench."""

    command: str
    date: str
    machine: Machine
    rows: list[Row]


def report(machine: Machine, rows: list[Row], arguments: list[str]) -> Report:
    command = shlex.join(["python", "-m", "bench", *arguments])
    return Report(command, dt.datetime.now(dt.UTC).date().isoformat(), machine, rows)


def number(value: float | None, unit: str = "") -> str:
    """`36,000 /s`, `1.24 ms`, `0`; `–` for what there is not."""
    if value is None:
        return "–"
    digits = 0 if abs(value) >= 100 or value == int(value) else 1 if abs(value) >= 10 else 2
    return f"{value:,.{digits}f}{' ' if unit and unit != '/s' else ''}{unit}"


def heading(machine: Machine) -> str:
    versions = ", ".join(f"{name} {text}" for name, text in machine.versions.items())
    return f"{machine.cpu}, {machine.cores} cores, {machine.kernel}, load {machine.load:.1f} at the start; {versions}"


def line(row: Row) -> str:
    """One row for a terminal."""
    text = f"{row.row:<11} {row.figure}: {number(row.skerry, row.unit)}"
    if row.peer is not None:
        text += f", peer {number(row.peer, row.unit)}"
    if row.ratio is not None:
        text += f", ratio {number(row.ratio)}"
    return f"{text}   (goal {row.goal})" if row.goal else text


def markdown(found: Report) -> str:
    """The file that the README's figures point to."""
    lines = [
        "# Measured",
        "",
        f"`{found.command}` on {found.date}: {heading(found.machine)}.",
        "",
        "Medians of the rounds, skerry and its peer in turn, load generator and sink on the same cores. The peer is",
        "`bench/peers/diy.py` (paho-mqtt and onnxruntime) behind mosquitto with persistence: 50 devices, QoS 1, JSON, windows of",
        "32 messages, 8 features of 3 columns, a small network, an event for each window.",
        "",
        "| row | figure | skerry | peer | ratio | goal | rounds of skerry; of the peer |",
        "| --- | --- | --- | --- | --- | --- | --- |",
    ]
    for row in found.rows:
        rounds = "; ".join(", ".join(number(value) for value in values) for values in row.rounds.values())
        cells = [row.row, row.figure, number(row.skerry, row.unit), number(row.peer, row.unit), number(row.ratio), row.goal, rounds]
        lines.append(f"| {' | '.join(cells)} |")
    return "\n".join(lines) + "\n"


def say(text: str) -> None:
    print(text, file=sys.stderr, flush=True)
