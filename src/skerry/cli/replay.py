"""`skerry pipeline replay`: a pipeline over what was, to try another model or rule."""

import os
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal

import typer

from skerry.cli.events import draw_run
from skerry.cli.session import Paper, Session, clean, number, session
from skerry.core.units import counted

if TYPE_CHECKING:
    from skerry.http import Client

_SHOWN = 50
_NICE = 10
"""Live work on the same machine goes before it."""
Row = dict[str, Any]
_Source = Literal["auto", "log", "history"]


def replay(
    context: typer.Context,
    name: Annotated[str, typer.Argument(metavar="NAME", help="The pipeline.")],
    since: Annotated[str, typer.Option("--from", help="RFC 3339, Unix seconds, or a duration before now such as -7d.")] = "-1h",
    to: Annotated[str, typer.Option("--to", help="As --from; now by default.")] = "now",
    model: Annotated[str, typer.Option(metavar="NAME@VERSION", help="In the place of the pipeline's model.")] = "",
    diff: Annotated[bool, typer.Option("--diff", help="Show what differs from the events of then.")] = False,
    source: Annotated[_Source, typer.Option(help="auto: the log where it reaches back far enough.")] = "auto",
    file: Annotated[Path | None, typer.Option(help="Recorded messages in their place: .jsonl, .csv or .parquet.")] = None,
) -> None:
    """Run a pipeline over what the log or the history has of a time. Nothing of it goes anywhere but here."""
    os.setpriority(os.PRIO_PROCESS, 0, max(_NICE, os.getpriority(os.PRIO_PROCESS, 0)))
    here = session(context)
    config = here.config()
    from skerry.node import Pipeline  # late: most of the start-up time is its imports

    pipeline = Pipeline(config, name, model)
    client = here.asked(lambda: _reached(here), lambda: None)
    try:
        with _progress(here) as progress:
            options: Row = {"diff": diff, "source": source, "file": file or "", "progress": progress, "client": client}
            answer = pipeline.replay(since, to, **options)
    finally:
        if client is not None:
            client.close()
    here.show(answer, lambda paper: _draw(paper, answer))


def _reached(here: Session) -> "Client":
    client = here.client(60.0)
    client.get("/healthz")
    return client


@contextmanager
def _progress(here: Session) -> Iterator[Callable[[float], None]]:
    """A bar on a terminal, else nothing."""
    if here.quiet or not sys.stderr.isatty():
        yield lambda done: None
        return
    from rich.console import Console  # late: it takes a tenth of a second
    from rich.progress import Progress

    with Progress(console=Console(stderr=True), transient=True) as bar:
        task = bar.add_task("replay", total=1.0)
        yield lambda done: bar.update(task, completed=done)


def _draw(paper: Paper, answer: Row) -> None:
    diff = answer.get("diff")
    if diff is None:
        draw_run(paper, answer)
    else:
        _draw_diff(paper, diff)
        paper.line(_totals(answer))
    source = answer["source"]
    times = f" from {source['from']} to {source['until']}" if "from" in source else ""
    paper.line(f"read from the {source['kind']}{times}")
    for note in source["notes"]:
        paper.line(f"note: {clean(note)}")
    for gap in source["gaps"]:
        paper.line(f"no data from {gap['from']} to {gap['to']}")
    if answer["left_out"]:
        paper.line(f"{number(answer['left_out'])} further events are counted and not shown")


def _draw_diff(paper: Paper, diff: Row) -> None:
    rows, totals = diff["rows"], diff["totals"]
    if rows:
        columns = ("end", "key", "then", "now", "difference")
        cells = [[row["end"], row["key"], _event(row["then"]), _event(row["now"]), _words(row)] for row in rows[:_SHOWN]]
        paper.table(columns, cells)
    more = len(rows) - _SHOWN + diff["left_out"]
    if more > 0:
        paper.line(f"and {more:,} more that differ" + (": --json shows them" if not diff["left_out"] else ""))
    kinds = {name.replace("_", " "): totals[name] for name in totals if name.startswith(("other_", "only_")) and totals[name]}
    parts = [f"{counted(totals['then'], 'event')} then, {number(totals['now'])} now: {number(totals['same'])} the same"]
    parts += [f"{number(count)} {words}" for words, count in kinds.items()]
    apart = totals["score_difference"]
    if apart["max"]:
        parts.append(f"scores differ by {number(apart['mean'], 4)} on average, {number(apart['max'], 4)} at most")
    paper.line(", ".join(parts))


def _event(side: Row | None) -> str:
    if side is None:
        return "-"
    parts = [side["state"], number(side["score"], 4), side["label"]]
    return " ".join(clean(part) for part in parts if part is not None)


def _words(row: Row) -> str:
    then, now = row["then"], row["now"]
    if row["difference"] == "score" and None not in (then["score"], now["score"]):
        return f"score {now['score'] - then['score']:+.4f}"
    if row["difference"] == "count":
        return f"samples {number(then['count'])} → {number(now['count'])}"
    return str(row["difference"])


def _totals(answer: Row) -> str:
    return (
        f"{counted(answer['messages'], 'message')}, {counted(answer['windows'], 'window')}, {number(answer['late'])} late, "
        f"{counted(len(answer['dead_letters']), 'dead letter')}"
    )
