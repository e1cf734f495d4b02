"""`skerry init`: a configuration that runs as it is."""

from pathlib import Path
from typing import Annotated

import typer

from skerry.cli.session import Paper, session
from skerry.cli.templates import GITIGNORE, NAMES, toml
from skerry.core.errors import ConfigError, RejectedError, suggestion


def init(
    context: typer.Context,
    directory: Annotated[Path, typer.Argument(metavar="[DIR]", help="Where to write skerry.toml.")] = Path(),
    name: Annotated[str, typer.Option(help="Name of the node; this machine's by default.")] = "",
    site: Annotated[str, typer.Option(help="Where it stands.")] = "site",
    template: Annotated[str, typer.Option(help=f"One of {', '.join(NAMES)}.")] = "readings",
    force: Annotated[bool, typer.Option("--force", help="Write over a skerry.toml that is there.")] = False,
) -> None:
    """Write a commented skerry.toml that runs as it is."""
    if template not in NAMES:
        raise ConfigError(
            f"there is no template {template!r}{suggestion(template, NAMES)}", where="--template", allowed=", ".join(NAMES)
        )
    file = directory / "skerry.toml"
    if file.exists() and not force:
        raise RejectedError("is there already", where=str(file), mend="--force writes over it")
    _write(file, toml(template, _checked(name, site), site))
    written = [file]
    ignore = directory / ".gitignore"
    if not ignore.exists():
        ignore.write_text(GITIGNORE, encoding="utf-8")
        written.append(ignore)

    def draw(paper: Paper) -> None:
        for each in written:
            paper.line(f"wrote {each}")
        paper.line("next: skerry run" if directory == Path() else f"next: cd {directory} && skerry run")

    session(context).show({"written": [str(each) for each in written]}, draw)


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
