"""The figures as lines for a terminal, as a Markdown table, and as JSON."""

import datetime as dt
import re
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


ABOUT = {
    "main": [
        "# Measured: the main job",
        "Medians of the rounds, skerry and its peer in turn, load generator and sink on the same cores. The peer is",
        "`bench/peers/diy.py` (paho-mqtt and onnxruntime) behind mosquitto with persistence: 50 devices, QoS 1, JSON, windows of",
        "32 messages, 8 features of 3 columns, a small network, an event for each window.",
    ],
    "inference": [
        "# Measured: inference",
        "Medians of the rounds, skerry and its peers in turn, callers on the same cores. The peer of a model by itself is plain",
        "onnxruntime, one thread, no spinning. The peers of the rows `v2` are the model servers in `bench/peers/`, each written as",
        "its own documents do, with the same network, the same requests and one session: mosec and LitServe batch at most 64",
        "requests within a millisecond, FastAPI runs each by itself.",
    ],
    "storage": [
        "# Measured: storage",
        "Medians of the rounds, skerry and its peer in turn on the same disk. The peer of `sets` is rocksdict's `put` with sync;",
        "that of `history` is SQLite: WAL, a table (series, time, value) with its primary key, a transaction an hour; 50 series of",
        "20 hours, a sample a second, two decimals. `millions`: 56 hours of them with jitter, beside SQLite and beside rocksdict",
        "with a row a sample, each in a process of its own; memory is what that took at most beside the samples.",
    ],
    "runtime": [
        "# Measured: runtime",
        "Medians of the rounds, load on the same cores. `idle` and `crowd`: all processes of a node with one model and no page, a",
        "connection for each device of `crowd`. `loop_lag`: a probe in the agent wants to run every 5 ms. The peer of `fragments`",
        "and `stacks` is the same without the pool, in numpy's own memory; up to 400 buffers of 1 KiB to 1 MiB are alive; that of",
        "`leak` the same node in which nothing leaks.",
    ],
    "uplink": [
        "# Measured: uplink",
        "Medians of the rounds. The peer is each message published by itself at QoS 1 and acknowledged before the next, over the",
        "same kind of connection to the same nats-server. Bytes of both directions, with 52 for the headers of each segment, which",
        "the kernel counts; the ratio is how many times less the uplink takes. `uplink-raw`: a node with 50 devices, three values",
        "of two decimals, and all that goes over its link. `uplink-demo`: ten minutes of the demo's pump station, its alarms and",
        "roll-ups in envelopes as a node closes them, published one after the other. `uplink-wire`: the same in real time, the",
        "pumps, the node and the centre's broker on machines (network namespaces) of their own; the peer is what the pumps'",
        "interface carried, skerry what the centre's did, with Ethernet headers and all else that comes by.",
    ],
    "cluster": [
        "# Measured: cluster",
        "Medians of the rounds. Three network namespaces on one bridge, each with a nats-server (R3, routes with TLS, sync before",
        "each acknowledgement) and a `ClusterManager` that runs its share of six partitions. From the moment of kill -9 until",
        "others have run all that the dead one had. The partitions do nothing, so loading of a checkpoint is not in it.",
    ],
    "page": [
        "# Measured: the page",
        "Medians of the rounds; the peer is the same node without a page. A real Chromium on the same machine (nice 10: it would",
        "be on another) has the overview, a pipeline and the log open. An update is timed from the arrival of its message over the",
        "WebSocket until the frame that shows it is drawn, so it holds the wait for the next frame (up to 17 ms) too.",
    ],
    "devices": [
        "# Measured: devices",
        "Medians of the rounds, devices on the same cores.",
    ],
}
_BEGIN, _END = "<!-- measured: {group}; written by python -m bench {group} --write -->\n", "<!-- end of measured: {group} -->\n"


def markdown(found: Report, group: str) -> str:
    """The file that the README's figures of one group of rows point to."""
    title, *about = ABOUT[group]
    lines = [
        title,
        "",
        f"`{found.command}` on {found.date}: {heading(found.machine)}.",
        "",
        *about,
        "",
        "| row | figure | skerry | peer | ratio | goal | rounds of skerry; of the peer |",
        "| --- | --- | --- | --- | --- | --- | --- |",
    ]
    for row in found.rows:
        rounds = "; ".join(", ".join(number(value) for value in values) for values in row.rounds.values())
        cells = [row.row, row.figure, number(row.skerry, row.unit), number(row.peer, row.unit), number(row.ratio), row.goal, rounds]
        lines.append(f"| {' | '.join(cells)} |")
    return "\n".join(lines) + "\n"


def shown(page: str, found: Report, group: str) -> str:
    """A page with the rows of a group between its two marks; as it was where it has no such marks."""
    begin, end = _BEGIN.format(group=group), _END.format(group=group)
    before, mark, rest = page.partition(begin)
    if not mark or end not in rest:
        return page
    lines = [f"{found.date}, {found.machine.cpu}, {found.machine.cores} cores:", "", "| figure | skerry | peer | ratio | goal |"]
    lines.append("| --- | --- | --- | --- | --- |")
    for row in found.rows:
        cells = [row.figure, number(row.skerry, row.unit), number(row.peer, row.unit), number(row.ratio), goal(row)]
        lines.append(f"| {' | '.join(cells)} |")
    return f"{before}{begin}{chr(10).join(lines)}\n{end}{rest.partition(end)[2]}"


def goal(row: Row) -> str:
    """A row's goal, and whether it was missed: `ratio ≥ 2`, `≤ 20: **not reached**`."""
    asked = re.fullmatch(r"(ratio )?([≥≤])? ?([\d,.]+)", row.goal)
    value = row.ratio if asked is not None and asked[1] else row.skerry
    if asked is None or value is None:
        return row.goal
    bound = float(asked[3].replace(",", ""))
    reached = value >= bound if asked[2] == "≥" else value <= bound
    return row.goal if reached else f"{row.goal}: **not reached**"


def say(text: str) -> None:
    print(text, file=sys.stderr, flush=True)
