"""`skerry pipeline deadletters`: what no event could come of: shown, looked into, processed again or forgotten, each or all."""

from typing import Annotated, Any
from urllib.parse import quote

import typer

from skerry.cli.session import Paper, Session, clean, number, session
from skerry.core.errors import ConfigError, RejectedError
from skerry.core.units import counted

Row = dict[str, Any]
_WHERE = "pipeline deadletters"


def deadletters(
    context: typer.Context,
    name: Annotated[str, typer.Argument(metavar="NAME", help="The pipeline.")],
    retry: Annotated[bool, typer.Option("--retry", help="Process them again: those chosen, or all.")] = False,
    drop: Annotated[bool, typer.Option("--drop", help="Forget them: those chosen, or all.")] = False,
    id: Annotated[list[str] | None, typer.Option("--id", metavar="ID", help="Only this one, whole; may be repeated.")] = None,
    reason: Annotated[str, typer.Option(help="Only those of this reason, such as late.")] = "",
    device: Annotated[str, typer.Option(help="Only those of this device (key).")] = "",
    why: Annotated[str, typer.Option(help="With --drop: why, for the audit log.")] = "",
    limit: Annotated[int, typer.Option("-n", "--limit", min=1, max=1_000_000, help="Show at most so many, oldest first.")] = 100,
) -> None:
    """Show the messages that no event could come of, and why; look into one; process them again or forget them."""
    here = session(context)
    path = f"/api/v1/pipelines/{quote(name, safe='')}/deadletters"
    if retry and drop:
        raise ConfigError("--retry and --drop exclude each other", where=_WHERE)
    if why and not drop:
        raise ConfigError("--why goes with --drop", where=_WHERE)
    which = {key: value for key, value in (("ids", id or []), ("reason", reason), ("key", device), ("why", why)) if value}
    if retry or drop:
        _act(here, path, "retry" if retry else "drop", which)
    elif id:
        _look(here, path, id)
    else:
        _list(here, path, {"reason": reason, "key": device}, limit)


def _act(here: Session, path: str, verb: str, which: Row) -> None:
    answer = here.client(timeout=300.0).post(f"{path}/{verb}", which)
    count = answer.get("retried" if verb == "retry" else "dropped")
    done = "put back to be processed again" if verb == "retry" else "dropped"
    here.show(answer, lambda paper: paper.line(f"{number(count)} {done}"))


def _look(here: Session, path: str, ids: list[str]) -> None:
    client = here.client()
    rows = [row for each in ids for row in client.get(path, {"id": each})["dead_letters"]]
    if not rows:
        mend = f"`skerry {_WHERE} NAME --json` lists their ids"
        raise RejectedError(f"there is no dead letter {', '.join(ids)}", mend=mend)

    def draw(paper: Paper) -> None:
        for row in rows:
            for key, value in row.items():
                paper.line(f"{key}: {clean(value)}")
            paper.line()

    here.show({"dead_letters": rows}, draw)


def _list(here: Session, path: str, only: Row, limit: int) -> None:
    rows, following = _pages(here, path, only, limit)

    def draw(paper: Paper) -> None:
        columns = ("id", "at", "reason", "topic", "detail", "payload")
        if rows:
            paper.table(columns, [[*[row.get(each) for each in columns[:5]], _payload(row)] for row in rows])
        paper.line(counted(len(rows), "dead letter") + (", and more: -n shows them" if following else ""))

    here.show({"dead_letters": rows, "next": following}, draw)


def _pages(here: Session, path: str, only: Row, limit: int) -> tuple[list[Row], str | None]:
    client = here.client()
    rows: list[Row] = []
    after: str | None = None
    while len(rows) < limit:
        page = client.get(path, {**only, "limit": min(1000, limit - len(rows)), "after": after})
        rows += page["dead_letters"]
        after = page["next"]
        if after is None:
            break
    return rows, after


def _payload(row: Row) -> str:
    text = clean(row.get("payload") or row.get("payload_base64") or "")
    return text if len(text) <= 60 else f"{text[:59]}…"
