"""`skerry device`: who may connect to the broker."""

import os
from pathlib import Path
from typing import Annotated, Any
from urllib.parse import quote

import typer

from skerry.cli.session import Paper, Session, clean, session
from skerry.core.errors import ConfigError, RejectedError, SkerryError

app = typer.Typer(help="Devices that may connect to the broker.", no_args_is_help=True)
_DEVICES = "/api/v1/devices"
_Id = Annotated[str, typer.Argument(metavar="ID", help="The device; its user name in MQTT.")]


@app.command()
def add(
    context: typer.Context,
    id: _Id,
    password: Annotated[bool, typer.Option("--password", help="Log in with a password, which is made and shown once.")] = False,
    out: Annotated[Path | None, typer.Option(help="Write the password to this new file (0600) instead of showing it.")] = None,
    topics: Annotated[
        list[str] | None, typer.Option(help="pub:TOPIC or sub:TOPIC beyond its own, {device} for its id; may be repeated.")
    ] = None,
) -> None:
    """Let a device in."""
    here = session(context)
    if not password:
        raise ConfigError("log-in with a key is not part of this version", where="device add", mend="add --password")
    wanted = [topic.strip() for each in topics or [] for topic in each.split(",") if topic.strip()]
    secret = _open_new(out) if out is not None else None
    try:
        answer = here.client().post(_DEVICES, {"id": id, "topics": wanted})
    except SkerryError:
        if out is not None and secret is not None:
            os.close(secret)
            out.unlink()
        raise
    if secret is not None:
        with os.fdopen(secret, "w", encoding="utf-8") as file:
            file.write(f"{answer.pop('password')}\n")
    _show_added(here, answer, out)


def _open_new(out: Path) -> int:
    try:
        return os.open(out, os.O_CREAT | os.O_EXCL | os.O_WRONLY, 0o600)
    except OSError as error:
        raise RejectedError(f"cannot be made: {error.strerror}", where=str(out), mend="name a new file") from error


def _show_added(here: Session, answer: dict[str, Any], out: Path | None) -> None:
    def draw(paper: Paper) -> None:
        paper.line(f"added {clean(answer.get('id'))}")
        if out is None:
            paper.line(f"password: {clean(answer.get('password'))}   (not shown again)")
        else:
            paper.line(f"password: in {out}")

    if out is not None:
        answer = {**answer, "password_file": str(out)}
    if here.quiet and out is None and not here.json:
        # quiet or not: the password is shown this once or lost
        print(answer.get("password"))
    here.show(answer, draw)


@app.command("list")
def list_devices(context: typer.Context) -> None:
    """List all devices."""
    here = session(context)
    answer = here.client().get(_DEVICES)

    def draw(paper: Paper) -> None:
        rows = answer["devices"]
        if not rows:
            paper.line("no devices: add one with `skerry device add ID --password`")
            return
        columns = [name for name in rows[0] if name != "topics"]
        paper.table([*columns, "topics"], [[*[row.get(name) for name in columns], _topics(row)] for row in rows])

    here.show(answer, draw)


@app.command()
def show(context: typer.Context, id: _Id) -> None:
    """Show one device."""
    here = session(context)
    answer = here.client().get(_path(id))

    def draw(paper: Paper) -> None:
        for name, value in answer.items():
            paper.line(f"{name}: {_topics(answer) if name == 'topics' else clean(value)}")

    here.show(answer, draw)


@app.command()
def revoke(context: typer.Context, id: _Id) -> None:
    """Refuse a device from now on; it stays in the list."""
    here = session(context)
    answer = here.client().post(f"{_path(id)}/revoke")
    here.show(answer, lambda paper: paper.line(f"revoked {clean(id)}: it is refused from now on"))


@app.command()
def remove(context: typer.Context, id: _Id) -> None:
    """Forget a device."""
    here = session(context)
    answer = here.client().delete(_path(id))
    here.show(answer, lambda paper: paper.line(f"removed {clean(id)}"))


def _path(id: str) -> str:
    return f"{_DEVICES}/{quote(id, safe='')}"


def _topics(row: dict[str, Any]) -> str:
    return ", ".join(map(clean, row.get("topics") or [])) or "its own"
