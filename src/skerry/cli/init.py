"""`skerry init`: a configuration that runs as it is."""

import sys
from pathlib import Path
from typing import Annotated

import typer

from skerry.cli.session import Paper, session
from skerry.cli.starters import contents
from skerry.cli.templates import GITIGNORE, NAMES, toml
from skerry.core.errors import ConfigError, RejectedError, suggestion


def init(
    context: typer.Context,
    directory: Annotated[Path, typer.Argument(metavar="[DIR]", help="Where to write skerry.toml.")] = Path(),
    name: Annotated[str, typer.Option(help="Name of the node; this machine's by default.")] = "",
    site: Annotated[str, typer.Option(help="Where it stands; `site` by default.")] = "",
    template: Annotated[str, typer.Option(help=f"One of {', '.join(NAMES)}; `readings` by default.")] = "",
    force: Annotated[bool, typer.Option("--force", help="Write over a skerry.toml that is there.")] = False,
    tls: Annotated[bool, typer.Option("--tls", help="Make a site CA and the node's certificate, and use them.")] = False,
    host: Annotated[
        list[str] | None, typer.Option(help="With --tls: a further name in the certificate, such as box1.example; may be repeated.")
    ] = None,
) -> None:
    """Write a commented skerry.toml that runs as it is; on a terminal, what no option says is asked."""
    here = session(context)
    if not (name or site or template or here.json) and sys.stdin.isatty() and sys.stdout.isatty():
        name, site, template = _asked()
    site, template = site or "site", template or "readings"
    if template not in NAMES:
        raise ConfigError(
            f"there is no template {template!r}{suggestion(template, NAMES)}", where="--template", allowed=", ".join(NAMES)
        )
    file = directory / "skerry.toml"
    if file.exists() and not force:
        raise RejectedError("is there already", where=str(file), mend="--force writes over it")
    _write(file, toml(template, _checked(name, site), site, tls))
    written = [file]
    if tls:
        written += _certificates(file, tuple(host or ()))
    for beside, content in contents(template).items():
        if force or not (directory / beside).exists():
            (directory / beside).write_bytes(content)
            written.append(directory / beside)
    ignore = directory / ".gitignore"
    if not ignore.exists():
        ignore.write_text(GITIGNORE, encoding="utf-8")
        written.append(ignore)

    def draw(paper: Paper) -> None:
        for each in written:
            paper.line(f"wrote {each}")
        if tls:
            paper.line("devices need ca.pem to know this node; ca.key signs their certificates (skerry ca issue): keep it safe")
        paper.line("next: skerry run" if directory == Path() else f"next: cd {directory} && skerry run")

    here.show({"written": [str(each) for each in written]}, draw)


def _asked() -> tuple[str, str, str]:
    """Name, site and template, each with its default at the touch of Return."""
    from skerry.config import NodeSection  # late: most of the start-up time is its imports

    name = typer.prompt("Name of the node", default=NodeSection().name)
    site = typer.prompt("Where it stands", default="site")
    return name, site, typer.prompt(f"What it looks at ({', '.join(NAMES)})", default="readings")


def _certificates(file: Path, hosts: tuple[str, ...]) -> list[Path]:
    from skerry.config import load  # late: most of the start-up time is its imports
    from skerry.core.clock import SystemClock
    from skerry.node import make_certificates

    return make_certificates(load(file), SystemClock(), hosts)


def _checked(name: str, site: str) -> str:
    from skerry.config import NodeSection  # late: most of the start-up time is its imports

    try:
        section = NodeSection(name=name, site=site) if name else NodeSection(site=site)
    except ConfigError as error:
        raise ConfigError(error.message, where=f"--{error.where}", mend=error.mend) from error
    return section.name


def _write(file: Path, text: str) -> None:
    try:
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_text(text, encoding="utf-8")
    except OSError as error:
        raise RejectedError(f"cannot be written: {error.strerror}", where=str(file), mend="choose another directory") from error
