"""The status of a node for people. Takes what `/api/v1/node` answers, whatever of it is there."""

from collections.abc import Mapping
from typing import Any

from skerry.cli.session import Paper, clean, number
from skerry.core.units import counted, show_duration, show_size

Row = Mapping[str, Any]
LAST_LINES = 5


def draw_status(paper: Paper, status: Row) -> None:
    """Print all of it, at most 80 columns wide where names are short."""
    paper.line(f"{clean(status.get('node'))} at {clean(status.get('site'))}, skerry {clean(status.get('version'))}")
    reason = clean(status.get("reason") or "")
    paper.line(("ready" if status.get("ready") else "NOT READY") + (f": {reason}" if reason else ""))
    ratio = status.get("uptime_ratio")
    if isinstance(ratio, int | float):
        paper.line(f"up {100 * ratio:.3f} % of the time since it was first ready")
    for warning in status.get("warnings") or ():
        paper.line(f"warning: {clean(warning)}")
    paper.line()
    draw_pipelines(paper, status.get("pipelines") or [])
    ledger = status.get("ledger")
    if ledger:
        paper.line()
        paper.line(books_sentence(ledger))
    paper.line()
    for name in ("broker", "storage", "history", "resources", "uplink", "dashboard", "cluster", "telemetry"):
        sentence = _sentence(status.get(name))
        if sentence:
            paper.line(f"{name}: {sentence}")
        if name == "storage":
            _draw_parts(paper, status.get(name))
    broker = status.get("broker")
    if isinstance(broker, Mapping) and broker.get("url"):
        paper.line(f"api: {clean(broker['url'])}/api/v1/node")
    bundle = status.get("bundle")
    if isinstance(bundle, Mapping):
        paper.line(f"bundle: {_bundle(bundle)}")
    models = status.get("models") or []
    if models:
        paper.line(f"models: {', '.join(_model(model) for model in models)}")
    promises = status.get("promises") or {}
    for name, part in promises.items():
        paper.line(f"{clean(name)}: {_sentence(part)}")
    for row in status.get("processes") or ():
        if row.get("last"):
            _draw_last_words(paper, row)


def _bundle(bundle: Row) -> str:
    """Which bundle is active, and what is being done with one."""
    active = f"{clean(bundle['active'])} is active" if bundle.get("active") else "none is active"
    trial = bundle.get("trial")
    return f"{active}; {clean(trial['bundle'])} is {clean(trial['phase'])}" if isinstance(trial, Mapping) else active


def _draw_parts(paper: Paper, storage: object) -> None:
    """A line for each part that takes something: how much, of how much, and what happens when that is used up."""
    for part in (storage.get("parts") or ()) if isinstance(storage, Mapping) else ():
        size, limit = part.get("bytes") or 0, part.get("limit")
        if size:
            of = f" of {show_size(limit)}" if limit else ""
            full = f"; when full: {clean(part['when_full'])}" if part.get("when_full") else ""
            paper.line(f"  {clean(part.get('name'))}: {show_size(size)}{of}{full}")


def draw_uptime(paper: Paper, report: Row) -> None:
    """How long it was up and down, and each gap: begin, end, how long, whether somebody wanted it, why."""
    since, until = clean(report.get("since")), clean(report.get("until"))
    paper.line(f"up {100 * float(report.get('ratio') or 0.0):.3f} % from {since} to {until}")
    up, planned, unplanned = (_duration(report.get(f"{kind}_s")) for kind in ("up", "planned", "unplanned"))
    paper.line(f"up {up}, down {planned} planned and {unplanned} unplanned; {counted(report.get('starts'), 'start')} in all")
    gaps = report.get("gaps") or []
    if not gaps:
        paper.line("no gaps")
        return
    paper.line()
    columns = ("begin", "end", "down", "planned", "reason")
    paper.table(columns, [_gap(gap) for gap in gaps], right=("down",))


def _gap(gap: Row) -> list[str]:
    end = clean(gap.get("end")) if gap.get("over", True) else "not over"
    planned = "yes" if gap.get("planned") else "no"
    return [clean(gap.get("begin")), end, _duration(gap.get("seconds")), planned, clean(gap.get("reason"))]


def _duration(seconds: object) -> str:
    return show_duration(float(seconds) * 1e6) if isinstance(seconds, int | float) else "-"


def _draw_last_words(paper: Paper, row: Row) -> None:
    """How the process before the one that runs ended, and what it said last."""
    last = row["last"]
    peak = f"; it had {show_size(last['peak'])} of memory at most" if last.get("peak") else ""
    paper.line(f"the last {clean(row.get('name'))}: {clean(last.get('words'))}{peak}")
    for line in (last.get("stderr") or [])[-LAST_LINES:]:
        paper.line(f"  | {clean(line)}")


def draw_pipelines(paper: Paper, pipelines: list[Row]) -> None:
    """Two tables: how each works, and its books; then why one does not."""
    if not pipelines:
        paper.line("no pipelines")
        return
    figures = ("rate/s", "lag", "events", "p50 ms", "p99 ms")
    paper.table(("pipeline", "state", *figures), [_work(row) for row in pipelines], right=figures)
    paper.line()
    shed = ("shed",) if any((row.get("ledger") or {}).get("shed") for row in pipelines) else ()
    counts = ("received", "scored", "open", "waiting", "duplicates", *shed, "dead", "off")
    paper.table(("the books", *counts), [_books(row, shed) for row in pipelines], right=counts)
    for row in pipelines:
        if row.get("reason"):
            paper.line(f"{clean(row.get('name'))}: {clean(row['reason'])}")
        if row.get("network"):
            paper.line(f"{clean(row.get('name'))}: {_network(row['network'])}")
        if row.get("nodes"):
            parts = ", ".join(f"{clean(node)} {' '.join(map(str, each))}" for node, each in row["nodes"].items())
            paper.line(f"{clean(row.get('name'))}: partitions by node: {parts}")


def _network(network: Row) -> str:
    """`sends at most 64.0 KiB/s; 1.2 MiB so far, 120 waiting`."""
    waiting = network.get("waiting")
    waits = f", {number(waiting)} waiting" if waiting else ""
    return f"sends at most {show_size(network['limit'])}/s; {show_size(network['sent'])} so far{waits}"


def books_sentence(ledger: Row) -> str:
    """`the books: received 9 = scored 5 + open 2 + waiting 0 + duplicates 1 + dead letters 1; difference 0`, reasons behind it."""
    dead = ledger.get("dead_letters") or {}
    reasons = ", ".join(f"{clean(reason)} {number(count)}" for reason, count in dead.items() if count)
    parts = [f"{name} {number(ledger.get(name, 0))}" for name in ("scored", "open", "waiting", "duplicates")]
    parts.append(f"dead letters {number(_total(dead))}" + (f" ({reasons})" if reasons else ""))
    parts += [f"shed {number(ledger['shed'])}"] if ledger.get("shed") else []
    gone = ledger.get("given_up")
    after = f"; given up unread by retention {number(gone)}" if gone else ""
    received, difference = number(ledger.get("received", 0)), number(ledger.get("difference", 0))
    return f"the books: received {received} = {' + '.join(parts)}; difference {difference}{after}"


def _work(row: Row) -> list[str]:
    latency = row.get("latency_ms") or {}
    return [
        clean(row.get("name")),
        clean(row.get("state")),
        number(row.get("rate"), 1),
        number(row.get("lag")),
        number(row.get("events")),
        number(latency.get("p50"), 1),
        number(latency.get("p99"), 1),
    ]


def _books(row: Row, shed: tuple[str, ...]) -> list[str]:
    ledger = row.get("ledger") or {}
    names = ("received", "scored", "open", "waiting", "duplicates", *shed)
    counts = [number(ledger.get(name)) for name in names]
    return [clean(row.get("name")), *counts, number(_total(ledger.get("dead_letters"))), number(ledger.get("difference"))]


def _total(dead: object) -> int:
    if isinstance(dead, Mapping):
        return sum(count for count in dead.values() if isinstance(count, int))
    return dead if isinstance(dead, int) else 0


def _sentence(part: object) -> str:
    if isinstance(part, Mapping):
        return clean(part.get("sentence") or part.get("status") or part.get("state") or "")
    return clean(part) if part else ""


def _model(model: Row) -> str:
    name = f"{clean(model.get('name'))}@{clean(model.get('version'))}"
    if model.get("error"):
        return f"{name} ({clean(model['error'])})"
    return f"{name} (active)" if model.get("active") else name
