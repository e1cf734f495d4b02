"""`skerry data`: what the pipelines put out, and the history of sensors and events."""

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal

import typer

from skerry.cli.session import Paper, Session, clean, new_file, number, print_json, session
from skerry.core.errors import RejectedError
from skerry.core.units import counted

if TYPE_CHECKING:
    from skerry.historian import Asked, Source

app = typer.Typer(help="Events, and the history of sensors and events.", no_args_is_help=True)
_EVENTS = "/api/v1/events"
_From = Annotated[str, typer.Option("--from", help="RFC 3339, Unix seconds, or a duration before now such as -1h.")]
_To = Annotated[str, typer.Option("--to", help="As --from; now by default.")]
_Every = Annotated[str, typer.Option(help="One number for each stretch of this length, such as 1m.")]
_Agg = Annotated[str, typer.Option(help="mean, min, max, sum, last, count or a quantile such as p99.")]


@app.command()
def series(context: typer.Context, prefix: Annotated[str, typer.Option(help="Only series whose names begin so.")] = "") -> None:
    """List the series of the history."""
    here = session(context)
    with _history(here) as source:
        names = source.series(prefix)

    def draw(paper: Paper) -> None:
        for name in names:
            paper.line(clean(name))
        if not names:
            here.note("no series yet")

    here.show({"series": [{"name": name} for name in names]}, draw)


@app.command()
def query(
    context: typer.Context,
    name: Annotated[str, typer.Argument(metavar="SERIES", help="Such as pump-1/vibration/x.")],
    since: _From = "-1h",
    to: _To = "now",
    every: _Every = "",
    agg: _Agg = "mean",
) -> None:
    """Show the samples of a series, or one number for each stretch of time that has samples."""
    from skerry.historian import text_times, text_values  # late, as all below: --help goes without

    here = session(context)
    asked = _asked(since, to, every, agg)
    with _history(here) as source:
        pages = [page for page in source.pages(name, asked) if len(page.times)]
    if here.json:
        times, values = ([each for page in pages for each in page[column].tolist()] for column in (0, 1))
        print_json({"name": name, "every": every or None, "agg": agg if every else None, "times": times, "values": values})
        return

    def draw(paper: Paper) -> None:
        for page in pages:
            for time, value in zip(text_times(page.times), text_values(page.values), strict=True):
                paper.line(f"{time}  {value}")
        if not pages:
            here.note("no samples in that time")

    here.show(None, draw)


@app.command()
def export(
    context: typer.Context,
    names: Annotated[list[str] | None, typer.Argument(metavar="[SERIES]...", help="All by default.")] = None,
    prefix: Annotated[str, typer.Option(help="Series whose names begin so.")] = "",
    format: Annotated[Literal["csv", "parquet"], typer.Option(help="csv or parquet.")] = "csv",
    out: Annotated[Path | None, typer.Option(help="A new file; csv goes to stdout without it.")] = None,
    since: _From = "-1h",
    to: _To = "now",
    every: _Every = "",
    agg: _Agg = "mean",
) -> None:
    """Write history into a file: the columns series, time and value."""
    import sys

    from skerry.historian import write_csv, write_parquet

    here = session(context)
    if out is None and (format == "parquet" or here.json):
        raise RejectedError("needs a file to write to", where="--out", mend="name one")
    asked = _asked(since, to, every, agg)
    with _history(here) as source:
        wanted = names or source.series(prefix)
        if format == "parquet":
            assert out is not None
            count = write_parquet(source, wanted, asked, out)
        elif out is None:
            write_csv(source, wanted, asked, sys.stdout.write)
            return
        else:
            with new_file(out) as write:
                count = write_csv(source, wanted, asked, write)
    answer = {"rows": count, "series": len(wanted), "file": str(out)}
    here.show(answer, lambda paper: paper.line(f"{counted(count, 'row')} of {counted(len(wanted), 'series')} in {clean(out)}"))


def _asked(since: str, to: str, every: str, agg: str) -> "Asked":
    from skerry.core.clock import SystemClock
    from skerry.core.units import at_key, parse_duration
    from skerry.historian import Asked, moment

    now = SystemClock().now()
    width = at_key("--every", parse_duration, every) if every else None
    # the moment that is now is part of what is asked
    return Asked(moment(since, now), moment(to, now) + (to == "now"), width, agg)


@contextmanager
def _history(here: Session) -> "Iterator[Source]":
    """The node's history, or where none runs on this computer its files."""
    from skerry.historian import DirectorySource, NodeSource

    def of_node() -> "Source":
        client = here.client(60.0)
        client.get("/healthz")
        return NodeSource(client)

    source = here.asked(of_node, lambda: DirectorySource(here.config(with_models=False).history_path))
    try:
        yield source
    finally:
        source.close()


@app.command()
def tail(
    context: typer.Context,
    pipeline: Annotated[str, typer.Option(help="Only of this pipeline.")] = "",
    key: Annotated[str, typer.Option(help="Only of this key (device).")] = "",
    count: Annotated[int, typer.Option("-n", "--count", min=0, max=1000, help="How many of the last events.")] = 10,
    follow: Annotated[bool, typer.Option("--follow", "-f", help="Go on with what comes.")] = False,
) -> None:
    """Show the last events. With --follow and --json: one object a line."""
    here = session(context)
    only = {"pipeline": pipeline, "key": key}
    answer = here.client().get(_EVENTS, {**only, "last": count}) if count else {"events": []}
    if here.json and not follow:
        print_json({"events": answer["events"]})
        return
    for event in answer["events"]:
        _print(here, event)
    if count and not answer["events"] and not follow:
        only_of = " ".join(f"{name} {clean(value)}" for name, value in only.items() if value)
        here.note(f"no events{f' of {only_of}' if only_of else ''} yet")
    if follow:
        _follow(here, only, answer.get("sequence"))


def _follow(here: Session, only: dict[str, str], after: int | None) -> None:
    last = "" if after is None else str(after)
    while True:
        for found in here.client().stream(f"{_EVENTS}/stream", only, last_id=last):
            if found.event == "error":
                raise _told(found.data)
            last = found.id
            import msgspec  # late: --help goes without

            _print(here, msgspec.json.decode(found.data))


def _told(body: str) -> Exception:
    from skerry.http import error_of  # late: --help goes without

    return error_of(503, "application/problem+json", body.encode())


def _print(here: Session, event: dict[str, Any]) -> None:
    if here.json:
        import msgspec  # late: --help goes without

        print(msgspec.json.encode(event).decode(), flush=True)
    elif not here.quiet:
        print(show_event(event), flush=True)


def show_event(event: dict[str, Any]) -> str:
    """One event in one line; its time is its window's start, as everywhere."""
    words = [
        clean(event.get("start")),
        clean(event.get("pipeline")),
        clean(event.get("key")),
        clean(event.get("state")),
        clean(event["severity"]) if event.get("severity") else "",
        f"score {number(event.get('score'), 4)}",
        f"label {clean(event['label'])}" if event.get("label") is not None else "",
        counted(event.get("count"), "sample"),
        f"{number(event.get('latency_ms'), 1)} ms",
    ]
    return "  ".join(word for word in words if word)
