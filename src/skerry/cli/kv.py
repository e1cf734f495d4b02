"""`skerry kv`: the node's key-value store; where no node runs on this computer, its files."""

from base64 import urlsafe_b64encode
from collections.abc import Callable
from itertools import islice
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any
from urllib.parse import quote, urlencode

import typer

from skerry.cli.session import Paper, Session, clean, session
from skerry.core.errors import RejectedError

if TYPE_CHECKING:
    from skerry.http import Client
    from skerry.store import StorageConfig, SyncKeyValueStore

app = typer.Typer(help="Keys and values that outlive restarts and power cuts.", no_args_is_help=True)
_KV = "/api/v1/kv"
_MOST_PATH = 8000
"""What a node takes as the path of a request."""
_Key = Annotated[str, typer.Argument(metavar="KEY", help="Text, to 8000 bytes as a URL is written.")]


@app.command("set")
def set_value(
    context: typer.Context,
    key: _Key,
    value: Annotated[str, typer.Argument(metavar="VALUE", help="Text.")],
    ttl: Annotated[str, typer.Option(help="Gone after this time, such as 1h.")] = "",
) -> None:
    """Set a value; it is on the disk when this returns."""
    from skerry.core.units import parse_duration  # late, as all below: --help goes without

    here = session(context)
    seconds = parse_duration(ttl) / 1e6 if ttl else None
    body = {"value": value, "ttl": ttl or None}

    def offline(store: "SyncKeyValueStore") -> dict[str, Any]:
        store.set(key.encode(), value.encode(), ttl=seconds)
        return {"set": key}

    answer = _asked(here, lambda client: client.post(_path(key), body), offline)
    here.show(answer, lambda paper: paper.line(f"set {clean(key)}"))


@app.command()
def get(context: typer.Context, key: _Key) -> None:
    """Print a value; exit 1 where there is none."""
    here = session(context)

    def offline(store: "SyncKeyValueStore") -> dict[str, Any]:
        value = store.get(key.encode())
        if value is None:
            raise RejectedError(f"there is no value of {key!r}")
        return {"key": key, "value": _shown(value)}

    answer = _asked(here, lambda client: client.get(_path(key)), offline)
    here.show(answer, lambda paper: paper.line(clean(_text(answer, "value"))))


@app.command()
def delete(context: typer.Context, key: _Key) -> None:
    """Remove a value; one that is not there is no error."""
    here = session(context)

    def offline(store: "SyncKeyValueStore") -> dict[str, Any]:
        store.delete(key.encode())
        return {"deleted": key}

    answer = _asked(here, lambda client: client.delete(_path(key)), offline)
    here.show(answer, lambda paper: paper.line(f"deleted {clean(key)}"))


@app.command()
def scan(
    context: typer.Context,
    prefix: Annotated[str, typer.Option(help="Only keys that begin so.")] = "",
    limit: Annotated[int, typer.Option(min=1, max=1000, help="At most so many.")] = 100,
) -> None:
    """Print keys and values in order."""
    here = session(context)

    def offline(store: "SyncKeyValueStore") -> dict[str, Any]:
        rows = list(islice(store.scan(prefix.encode()), limit + 1))
        entries = [{"key": _shown(key), "value": _shown(value)} for key, value in rows[:limit]]
        more = len(rows) > limit
        return {"entries": entries, "next": urlsafe_b64encode(rows[limit - 1][0]).decode() if more else None}

    asked = urlencode({"prefix": prefix, "limit": limit})
    answer = _asked(here, lambda client: client.get(f"{_KV}?{asked}"), offline)

    def draw(paper: Paper) -> None:
        rows = [[clean(_text(row, "key")), clean(_text(row, "value"))] for row in answer["entries"]]
        if not rows:
            paper.line("no keys")
            return
        paper.table(["key", "value"], rows)
        if answer.get("next"):
            paper.line(f"and more: --limit, or --prefix {clean(_text(answer['entries'][-1], 'key'))}")

    here.show(answer, draw)


@app.command()
def repair(
    context: typer.Context,
    into: Annotated[Path, typer.Option(help="A new directory for what can be read.")] = Path("store-repaired"),
) -> None:
    """Save what can be read of a damaged store into a new directory; the store stays as it is. The node must be stopped."""
    from skerry.store import repair as save

    here = session(context)
    config = _storage(here)
    count = save(config, into)
    answer = {"entries": count, "into": str(into)}
    here.show(answer, lambda paper: paper.line(f"saved {count} entries into {into}: move it to {config.path} to use it"))


def _asked(
    here: Session, ask: "Callable[[Client], dict[str, Any]]", offline: "Callable[[SyncKeyValueStore], dict[str, Any]]"
) -> dict[str, Any]:
    """The node's answer, or where none runs on this computer that of its files."""

    def alone() -> dict[str, Any]:
        from skerry.store import SyncKeyValueStore

        with SyncKeyValueStore(_storage(here)) as store:
            return offline(store)

    return here.asked(lambda: ask(here.client()), alone)


def _storage(here: Session) -> "StorageConfig":
    from skerry.store import StorageConfig

    config = here.config(with_models=False)
    return StorageConfig(config.store_path, config.storage.max_size, config.storage.compression)


def _path(key: str) -> str:
    path = f"{_KV}/{quote(key, safe='')}"
    if not key or len(path) > _MOST_PATH:
        words = f"a key of {len(key.encode())} bytes" if key else "a key of no bytes"
        most = _MOST_PATH - len(_KV) - 1
        mend = f"give 1 to {most} bytes, escaped; longer ones in Python, with the node stopped"
        raise RejectedError(words, where=key[:40], mend=mend)
    return path


def _text(row: dict[str, Any], name: str) -> str:
    return str(row.get(name, row.get(f"{name}_base64", "")))


def _shown(data: bytes) -> str:
    return data.decode("utf-8", "backslashreplace")
