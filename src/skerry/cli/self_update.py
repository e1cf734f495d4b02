"""`skerry self-update --check`: whether the package index that pip is configured for has a newer skerry. Nothing else ever asks."""

import re
import subprocess
import sys
from typing import Annotated, NamedTuple

import typer

from skerry.cli.session import Paper, clean, session
from skerry.core.errors import ConfigError

LOOK_S = 20.0
_PIP = ("-m", "pip", "--disable-pip-version-check", "--no-input")
_ASK = ("--retries", "0", "--timeout", "10", "index", "versions", "skerry")
_VERSIONS = re.compile(r"^Available versions: (.+)$", re.MULTILINE)


class Look(NamedTuple):
    """What is installed and what there is. `newer` is None, with `why`, where nobody could say."""

    installed: str
    newest: str | None
    newer: bool | None
    why: str = ""


def look(installed: str, seconds: float = LOOK_S) -> Look:
    """Ask the index through this interpreter's pip; never raises, and ends after so many seconds."""
    try:
        done = subprocess.run(
            [sys.executable, *_PIP, *_ASK], capture_output=True, text=True, check=False, timeout=seconds, stdin=subprocess.DEVNULL
        )
    except subprocess.TimeoutExpired:
        return Look(installed, None, None, f"no answer within {seconds:g} s")
    except OSError as error:
        return Look(installed, None, None, error.strerror or str(error))
    found = _VERSIONS.search(done.stdout)
    if done.returncode != 0 or found is None:
        return Look(installed, None, None, _last(done.stderr))
    newest = max(found[1].split(", "), key=_release)
    return Look(installed, newest, _release(newest) > _release(installed))


def _release(version: str) -> tuple[int, ...]:
    """The release of a version as numbers: 1.10.2 → (1, 10, 2)."""
    release = re.match(r"[\d.]*", version.partition("!")[2] or version)
    numbers = [int(part) for part in release[0].split(".") if part] if release else []
    while numbers and not numbers[-1]:
        numbers.pop()
    return tuple(numbers)


def _last(said: str) -> str:
    lines = [line for line in said.splitlines() if line.strip()]
    return lines[-1].removeprefix("ERROR: ") if lines else "pip said nothing"


def self_update(
    context: typer.Context,
    check: Annotated[bool, typer.Option("--check", help="Ask the index that pip is configured for; nothing is changed.")] = False,
) -> None:
    """Say whether there is a newer skerry; exit 0 also where nobody can be asked, as without a link."""
    if not check:
        raise ConfigError(
            "skerry does not change itself", where="self-update",
            mend="--check looks for a newer one; docs/operations.md, \"Upgrade\", says how to install it",
        )  # fmt: skip
    from skerry.cli.app import version  # late: that module imports this one

    found = look(version())

    def draw(paper: Paper) -> None:
        if found.newer is None:
            says = f"cannot look for a newer one: {found.why}; nothing depends on it"
        elif found.newer:
            says = f'{found.newest} is there; docs/operations.md, "Upgrade", says how to install it'
        else:
            says = "there is no newer one"
        paper.line(clean(f"skerry {found.installed} is installed; {says}"))

    session(context).show(found._asdict(), draw)
