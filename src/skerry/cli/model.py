"""`skerry model`: the models that the configuration names."""

from typing import Annotated, Any

import typer

from skerry.cli.session import Paper, Session, clean, session
from skerry.core.errors import RejectedError, suggestion

app = typer.Typer(help="Models.", no_args_is_help=True)


@app.command("list")
def list_models(context: typer.Context) -> None:
    """List all models."""
    here = session(context)
    rows = _models(here)

    def draw(paper: Paper) -> None:
        if not rows:
            paper.line("no models: name one in [[models]] of skerry.toml")
            return
        columns = ("model", "version", "active", "file", "input")
        paper.table(columns, [[row["name"], row["version"], _active(row), row["file"], _input(row)] for row in rows])

    here.show({"models": rows}, draw)


@app.command()
def show(
    context: typer.Context,
    name: Annotated[str, typer.Argument(metavar="NAME[@VERSION]", help="The active version where none is named.")],
) -> None:
    """Show one model: inputs, outputs, metadata."""
    here = session(context)
    rows = _models(here)
    wanted, _, version = name.partition("@")
    found = [row for row in rows if row["name"] == wanted and (version in ("", "active") or row["version"] == version)]
    chosen = next((row for row in found if row.get("active")), found[-1] if found else None)
    if chosen is None:
        known = [f"{row['name']}@{row['version']}" for row in rows]
        raise RejectedError(f"there is no model {name!r}{suggestion(name, known)}", mend=f"there are {', '.join(known) or 'none'}")
    row: dict[str, Any] = chosen

    def draw(paper: Paper) -> None:
        paper.line(f"{clean(row['name'])}@{clean(row['version'])}{' (active)' if row.get('active') else ''}: {clean(row['file'])}")
        if row.get("error"):
            paper.line(f"it does not load: {clean(row['error'])}")
        for side in ("inputs", "outputs"):
            for signature in row.get(side) or []:
                paper.line(f"{side[:-1]:6} {_signature(signature)}")
        for key, value in (row.get("metadata") or {}).items():
            paper.line(f"{clean(key)}: {clean(value)}")

    here.show(row, draw)


def _models(here: Session) -> list[dict[str, Any]]:
    """What the node says, or, where none runs, what the configuration's files say."""
    from skerry.http import UnreachableError  # late: --help goes without

    try:
        rows: list[dict[str, Any]] = here.client().get("/api/v1/models")["models"]
    except UnreachableError:
        if here.url:
            raise
        from skerry.inference import Models  # late: it brings numpy

        config = here.config()
        here.note("no node is running: this is what the configuration says")
        rows = Models(config.models, config.base).listing()
    return rows


def _active(row: dict[str, Any]) -> str:
    return "error" if row.get("error") else "yes" if row.get("active") else "no"


def _input(row: dict[str, Any]) -> str:
    return ", ".join(_signature(each) for each in row.get("inputs") or []) or clean(row.get("error"))


def _signature(signature: dict[str, Any]) -> str:
    shape = ", ".join("N" if size is None else str(size) for size in signature.get("shape") or [])
    return f"{clean(signature.get('name'))} {clean(signature.get('dtype'))} [{shape}]"
