"""`skerry backup`: one file with all of a node, made while it runs or not, and brought back."""

import os
import sys
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from skerry.cli.session import Paper, Session, clean, session
from skerry.core.errors import ConfigError
from skerry.core.units import counted, show_size

if TYPE_CHECKING:
    from skerry.backup import Running
    from skerry.http import Client

app = typer.Typer(help="One file with all of a node.", no_args_is_help=True)
PASSPHRASE = "SKERRY_PASSPHRASE"
_AT = "/api/v1/backup"
_PASSPHRASE_FILE = Annotated[
    Path | None,
    typer.Option("--passphrase-file", metavar="FILE", help=f"Holds the passphrase; else ${PASSPHRASE}, else it is asked for."),
]
_FILE = Annotated[Path, typer.Argument(metavar="FILE", help="The backup.")]


@app.command()
def create(
    context: typer.Context,
    file: Annotated[Path, typer.Argument(metavar="FILE", help="A new file (0600).")],
    with_secrets: Annotated[bool, typer.Option("--with-secrets", help="Keys and tokens too, under a passphrase.")] = False,
    passphrase_file: _PASSPHRASE_FILE = None,
) -> None:
    """Write a backup of this node, running or not: configuration, models, log, events, devices, history and store."""
    from skerry.backup import create_backup  # late, as all below: --help goes without

    here = session(context)
    if here.url:
        raise ConfigError("a backup is made on the node's own computer", where="--url", mend="run this there")
    config = here.config(with_models=False)
    words = _passphrase(passphrase_file, twice=True) if with_secrets else None
    running: Running | None = here.asked(lambda: _running(here), lambda: None)
    answer = create_backup(config, file, running, passphrase=words, told=_progress(here, "writing"))

    def draw(paper: Paper) -> None:
        files, streams = counted(answer["files"], "file"), counted(len(answer["streams"]), "stream")
        paper.line(f"wrote {clean(file)}: {show_size(answer['bytes'])}, {files}, {streams}")
        if not with_secrets:
            paper.line("without keys, tokens and the node's passwords (--with-secrets takes them too, under a passphrase)")
        paper.line("it holds readings and password hashes: keep it where only you can read it")

    here.show(answer, draw)


@app.command()
def restore(
    context: typer.Context,
    file: _FILE,
    force: Annotated[bool, typer.Option("--force", help="Delete what is in the data directory first.")] = False,
    passphrase_file: _PASSPHRASE_FILE = None,
    without_secrets: Annotated[bool, typer.Option("--without-secrets", help="Make new ones though it has some.")] = False,
) -> None:
    """Bring a backup back into an empty data directory. The node must be stopped; all is verified before anything is written."""
    from skerry.backup import Reader, restore_backup
    from skerry.core import log

    here = session(context)
    log.configure("info" if here.verbose else "error")
    target = here.config_file or here.file or Path("skerry.toml")
    words = None
    if not without_secrets and (passphrase_file or os.environ.get(PASSPHRASE) or _sealed(Reader(file))):
        words = _passphrase(passphrase_file, twice=False)
    answer = restore_backup(
        file, target, force=force, passphrase=words, without_secrets=without_secrets, told=_progress(here, "restoring")
    )

    def draw(paper: Paper) -> None:
        paper.line(f"restored {clean(answer['node'])} as of {answer['created']} into {clean(answer['data_dir'])}")
        for note in answer["notes"]:
            paper.line(clean(note))
        paper.line("the same node must not run twice: start this one only where the other is gone, or give it another node.name")
        paper.line(f"next: skerry --config {clean(answer['config'])} run")

    here.show(answer, draw)


@app.command()
def verify(context: typer.Context, file: _FILE) -> None:
    """Read a backup to its end and check every digest; nothing is written."""
    from skerry.backup import Reader

    here = session(context)
    reader = Reader(file)
    told = _progress(here, "reading")
    done = 0

    def note(size: int) -> None:
        nonlocal done
        done += size
        told(done, done)

    manifest = reader.verify(note)
    header = reader.header
    answer = {
        "file": str(file), "format": header.format, "node": header.node, "site": header.site, "version": header.version,
        "created": header.created, "files": len(manifest.members), "bytes": manifest.size, "streams": sorted(manifest.streams),
        "secrets": manifest.sealed, "left_out": manifest.left_out,
    }  # fmt: skip

    def draw(paper: Paper) -> None:
        who = f"{clean(header.node)} at {clean(header.site)}"
        paper.line(f"whole: {who} as of {clean(header.created)}, skerry {clean(header.version)}")
        having = "with" if manifest.sealed else "without"
        paper.line(f"{counted(len(manifest.members), 'file')} of {show_size(manifest.size)}, {having} secrets")

    here.show(answer, draw)


class _Node:
    """The node that runs, over its socket."""

    def __init__(self, client: "Client", answer: dict[str, Any]) -> None:
        self._client, self._answer = client, answer

    def begin(self) -> dict[str, Any]:
        return self._answer

    def end(self) -> None:
        self._client.delete(_AT)


def _running(here: Session) -> _Node:
    # begun at once: whether a node runs is known by its answer alone
    client = here.client(timeout=300)
    return _Node(client, client.post(_AT))


def _sealed(reader: Any) -> bool:
    """Whether it is worth asking for a passphrase: on a terminal, where the backup has secrets."""
    return sys.stdin.isatty() and any(name == "secrets/sealed" for name, _, _ in reader.members())


def _passphrase(file: Path | None, *, twice: bool) -> str:
    if file is not None:
        try:
            found = file.read_text("utf-8").strip("\r\n")
        except (OSError, UnicodeDecodeError) as error:
            why = getattr(error, "strerror", None) or "it is not text"
            raise ConfigError(f"cannot be read: {why}", where=str(file), mend="name the file with the passphrase") from error
    else:
        found = os.environ.get(PASSPHRASE, "")
    if not found and sys.stdin.isatty():
        found = typer.prompt("Passphrase", hide_input=True, confirmation_prompt=twice, err=True)
    if not found:
        mend = f"name a file that holds it, or set ${PASSPHRASE}"
        raise ConfigError("a passphrase is needed", where="--passphrase-file", mend=mend)
    return found


def _progress(here: Session, word: str) -> Callable[[int, int], None]:
    """Says how far it is, on a terminal; nothing elsewhere."""
    if here.quiet or not sys.stderr.isatty():
        return lambda _done, _all: None
    shown = -1

    def told(done: int, whole: int) -> None:
        nonlocal shown
        if done >> 22 != shown:
            shown = done >> 22
            part = f" of {show_size(whole)}" if whole > done else ""
            print(f"\r{word} {show_size(done)}{part}   ", end="\r", file=sys.stderr, flush=True)

    return told
