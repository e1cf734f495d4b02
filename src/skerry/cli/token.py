"""`skerry token`: who may ask the node over HTTP, and for what."""

import os
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, TypeVar
from urllib.parse import quote

import typer

from skerry.cli.session import Paper, Session, clean, new_file, session

if TYPE_CHECKING:
    from collections.abc import Callable

    from skerry.api import TokenStore
    from skerry.http import Client

app = typer.Typer(help="Tokens for HTTP: who may ask the node, and for what.", no_args_is_help=True)
T = TypeVar("T")
_TOKENS = "/api/v1/tokens"
_AUDIT = Path("logs") / "audit.log"
_Name = Annotated[str, typer.Argument(metavar="NAME", help="Whose it is; shown in lists and in the audit log.")]


@app.command()
def create(
    context: typer.Context,
    name: _Name,
    scope: Annotated[list[str], typer.Option(help="read, operate (and read), infer, uplink, ingest, admin (all); more than one.")],
    expires: Annotated[str, typer.Option(help="When it ends by itself, such as 90d; left out: never.")] = "",
    out: Annotated[Path | None, typer.Option(help="Write it to this new file (0600) instead of showing it.")] = None,
) -> None:
    """Make a token; it is shown this once."""
    here = session(context)
    scopes = [word.strip() for each in scope for word in each.split(",") if word.strip()]
    body = {"name": name, "scopes": scopes, "expires_in": expires or None}

    def offline(tokens: "TokenStore") -> dict[str, Any]:
        row, secret = tokens.create(name, scopes, expires or None)
        _note(here, "token created", name)
        return {**row, "token": secret}

    with new_file(out) as write:
        answer = _asked(here, lambda client: client.post(_TOKENS, body), offline)
        if out is not None:
            write(f"{answer.pop('token')}\n")
            answer = {**answer, "token_file": str(out)}

    def draw(paper: Paper) -> None:
        until = f", until {clean(answer['expires'])}" if answer.get("expires") else ""
        paper.line(f"created {clean(name)}: {', '.join(map(clean, answer['scopes']))}{until}")
        paper.line(f"token: in {out}" if out is not None else f"token: {clean(answer['token'])}   (not shown again)")

    if here.quiet and out is None and not here.json:
        # quiet or not: it is shown this once or lost
        print(answer["token"])
    here.show(answer, draw)


@app.command("list")
def list_tokens(context: typer.Context) -> None:
    """List all tokens: names, scopes and times."""
    here = session(context)
    answer = _asked(here, lambda client: client.get(_TOKENS), lambda tokens: {"tokens": tokens.rows()})

    def draw(paper: Paper) -> None:
        rows = answer["tokens"]
        if not rows:
            paper.line("no tokens: make one with `skerry token create NAME --scope read`")
            return
        paper.table(("name", "scopes", "created", "expires", "last used"), [_cells(row) for row in rows])

    here.show(answer, draw)


@app.command()
def revoke(context: typer.Context, name: _Name) -> None:
    """Refuse a token from now on, and end the event streams that it opened."""
    here = session(context)

    def offline(tokens: "TokenStore") -> dict[str, Any]:
        tokens.revoke(name)
        _note(here, "token revoked", name)
        return {"revoked": name}

    answer = _asked(here, lambda client: client.delete(f"{_TOKENS}/{quote(name, safe='')}"), offline)
    here.show(answer, lambda paper: paper.line(f"revoked {clean(name)}: it is refused from now on"))


def _asked(
    here: Session, ask: "Callable[[Client], dict[str, Any]]", offline: "Callable[[TokenStore], dict[str, Any]]"
) -> dict[str, Any]:
    """The node's answer, or where none runs on this computer that of its token file."""

    def alone() -> dict[str, Any]:
        from skerry.api import TokenStore  # late: --help goes without
        from skerry.core.clock import SystemClock
        from skerry.core.errors import SkerryError

        file = here.config(with_models=False).token_file
        tokens = TokenStore(file, SystemClock())
        if tokens.trouble:
            raise SkerryError(tokens.trouble)
        answer = offline(tokens)
        here.note(f"no node is running: this is what {file} says")
        return answer

    return here.asked(lambda: ask(here.client()), alone)


def _note(here: Session, event: str, name: str) -> None:
    """What a node would have noted."""
    from skerry.core.clock import SystemClock
    from skerry.device import AuditLog

    audit = AuditLog(here.config(with_models=False).data_dir / _AUDIT, SystemClock())
    audit.note(event, by=f"unix:{os.getuid()}", name=name)
    audit.close()


def _cells(row: dict[str, Any]) -> list[Any]:
    expires = f"{row['expires']} (expired)" if row.get("expired") else row.get("expires") or "never"
    return [row.get("name"), ", ".join(row.get("scopes") or []), row.get("created"), expires, row.get("last_used") or "not yet"]
