"""`skerry pipeline`: what runs, and testing it offline; `explain`, `replay` and `new` have modules of their own."""

import json
import sys
from pathlib import Path
from typing import Annotated
from urllib.parse import quote

import typer

from skerry.cli import pipeline_explain, proposal, replay
from skerry.cli.deadletters import deadletters
from skerry.cli.events import draw_run
from skerry.cli.session import Paper, Session, clean, session
from skerry.cli.status import books_sentence, draw_pipelines
from skerry.cli.trace import trace
from skerry.core.errors import RejectedError
from skerry.core.units import counted

app = typer.Typer(help="Pipelines.", no_args_is_help=True)
_PIPELINES = "/api/v1/pipelines"
_Name = Annotated[str, typer.Argument(metavar="NAME", help="The pipeline.")]


@app.command("list")
def list_pipelines(context: typer.Context) -> None:
    """List all pipelines of the node and how they do."""
    here = session(context)
    answer = here.client().get(_PIPELINES)
    here.show(answer, lambda paper: draw_pipelines(paper, answer["pipelines"]))


@app.command()
def show(context: typer.Context, name: _Name) -> None:
    """Show one pipeline: how it does, its books, its configuration."""
    here = session(context)
    answer = here.client().get(_path(name))

    def draw(paper: Paper) -> None:
        draw_pipelines(paper, [answer])
        if answer.get("ledger"):
            paper.line(books_sentence(answer["ledger"]))
        paper.line()
        for key, value in (answer.get("config") or {}).items():
            paper.line(f"{clean(key)} = {clean(json.dumps(value, ensure_ascii=False))}")

    here.show(answer, draw)


@app.command()
def check(
    context: typer.Context,
    name: Annotated[str | None, typer.Argument(metavar="[NAME]", help="All where none is named.")] = None,
) -> None:
    """Check pipelines without a node: the configuration, and that each model loads and fits."""
    here = session(context)
    config = here.config()
    from skerry.node import check_pipelines  # late: most of the start-up time is its imports

    if name is not None:
        config.pipeline(name)
    rows = [row for row in check_pipelines(config) if name in (None, row["name"])]

    def draw(paper: Paper) -> None:
        for row in rows:
            columns = row.get("columns")
            made = f", {counted(len(columns), 'feature')}: {', '.join(columns)}" if columns else ""
            paper.line(f"{row['name']}: {'fits' + made if row['ok'] else row['problem']}")
        if not rows:
            paper.line("no pipelines")

    here.show({"pipelines": rows}, draw)
    for row in rows:
        if not row["ok"]:
            raise RejectedError(str(row["problem"]), where=f"pipeline {row['name']}")


@app.command("test")
def run_offline(
    context: typer.Context,
    name: _Name,
    file: Annotated[Path, typer.Argument(metavar="FILE", help="Recorded messages: .jsonl, .csv or .parquet.")],
    expect: Annotated[Path | None, typer.Option(help="Compare the events with this file: exit 1 when they differ.")] = None,
) -> None:
    """Run a pipeline over recorded messages, without a node, and print its events."""
    here = session(context)
    config = here.config()
    from skerry.cli.expect import differences, plain, read_expected  # late: --help goes without
    from skerry.node import offline_test  # late: most of the start-up time is its imports

    wanted = read_expected(expect) if expect is not None else None
    answer = offline_test(config, name, file)
    here.show(answer, lambda paper: draw_run(paper, answer))
    if not answer["messages"]:
        here.note(f"{file}: none of its messages is on a topic of {config.pipeline(name).source.topic}")
    if wanted is None:
        return
    found = differences(wanted, plain(answer["events"]))
    for line in found:
        print(clean(line), file=sys.stderr)
    if found:
        raise RejectedError(
            "the events are not as expected", where=str(expect), mend="mend the pipeline, or write the file anew with --json"
        )
    here.note(f"as expected: {counted(len(wanted), 'event')}")


app.command("explain")(pipeline_explain.explain)
app.command("replay")(replay.replay)
app.command("new")(proposal.new)
app.command("trace")(trace)
app.command()(deadletters)


@app.command()
def pause(context: typer.Context, name: _Name) -> None:
    """Take no more messages; they wait in the log."""
    _turn(session(context), name, "pause", "paused")


@app.command()
def resume(context: typer.Context, name: _Name) -> None:
    """Go on where it paused."""
    _turn(session(context), name, "resume", "resumed")


def _turn(here: Session, name: str, verb: str, done: str) -> None:
    answer = here.client().post(f"{_path(name)}/{verb}")
    here.show(answer, lambda paper: paper.line(f"{done} {clean(name)}"))


def _path(name: str) -> str:
    return f"{_PIPELINES}/{quote(name, safe='')}"
