"""The status of a node for people. Takes what `/api/v1/node` answers, whatever of it is there."""

from collections.abc import Mapping
from typing import Any

from skerry.cli.session import Paper, clean, number

Row = Mapping[str, Any]


def draw_status(paper: Paper, status: Row) -> None:
    """Print all of it, at most 80 columns wide where names are short."""
    paper.line(f"{clean(status.get('node'))} at {clean(status.get('site'))}, skerry {clean(status.get('version'))}")
    reason = clean(status.get("reason") or "")
    paper.line(("ready" if status.get("ready") else "NOT READY") + (f": {reason}" if reason else ""))
    ratio = status.get("uptime_ratio")
    if isinstance(ratio, int | float):
        paper.line(f"up {100 * ratio:.3f} % of the time since its first start")
    for warning in status.get("warnings") or ():
        paper.line(f"warning: {clean(warning)}")
    paper.line()
    draw_pipelines(paper, status.get("pipelines") or [])
    ledger = status.get("ledger")
    if ledger:
        paper.line()
        paper.line(books_sentence(ledger))
    paper.line()
    for name in ("broker", "storage", "uplink", "cluster"):
        sentence = _sentence(status.get(name))
        if sentence:
            paper.line(f"{name}: {sentence}")
    broker = status.get("broker")
    if isinstance(broker, Mapping) and broker.get("http"):
        paper.line(f"api: http://{clean(broker['http'])}/api/v1/node")
    models = status.get("models") or []
    if models:
        paper.line(f"models: {', '.join(_model(model) for model in models)}")


def draw_pipelines(paper: Paper, pipelines: list[Row]) -> None:
    """Two tables: how each works, and its books; then why one does not."""
    if not pipelines:
        paper.line("no pipelines")
        return
    figures = ("rate/s", "lag", "events", "p50 ms", "p99 ms")
    paper.table(("pipeline", "state", *figures), [_work(row) for row in pipelines], right=figures)
    paper.line()
    counts = ("received", "scored", "open", "waiting", "duplicates", "dead", "off")
    paper.table(("the books", *counts), [_books(row) for row in pipelines], right=counts)
    for row in pipelines:
        if row.get("reason"):
            paper.line(f"{clean(row.get('name'))}: {clean(row['reason'])}")


def books_sentence(ledger: Row) -> str:
    """`the books: received 9 = scored 5 + open 2 + waiting 0 + duplicates 1 + dead letters 1; difference 0`, reasons behind it."""
    dead = ledger.get("dead_letters") or {}
    reasons = ", ".join(f"{clean(reason)} {number(count)}" for reason, count in dead.items() if count)
    parts = [f"{name} {number(ledger.get(name, 0))}" for name in ("scored", "open", "waiting", "duplicates")]
    parts.append(f"dead letters {number(_total(dead))}" + (f" ({reasons})" if reasons else ""))
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


def _books(row: Row) -> list[str]:
    ledger = row.get("ledger") or {}
    names = ("received", "scored", "open", "waiting", "duplicates")
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
