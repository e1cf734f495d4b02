"""`skerry logs`: the node's log file, read without the node."""

import json
import time
from collections import deque
from collections.abc import Generator
from pathlib import Path
from typing import Annotated, Any

import typer

from skerry.cli.session import LOG_FILE, clean, print_json, session
from skerry.core.errors import RejectedError

_LOOK_S = 0.3
_KNOWN = ("timestamp", "level", "event")


def logs(
    context: typer.Context,
    lines: Annotated[int, typer.Option("-n", "--lines", min=0, max=100_000, help="How many of the last lines.")] = 50,
    follow: Annotated[bool, typer.Option("--follow", "-f", help="Go on with what comes.")] = False,
) -> None:
    """Show the last lines of the node's log."""
    here = session(context)
    file = here.config().data_dir / LOG_FILE
    if not file.is_file():
        raise RejectedError("there is no log yet", where=str(file), mend="start the node with `skerry run`")
    with file.open(encoding="utf-8", errors="replace") as opened:
        last = deque(opened, maxlen=lines)
        at = opened.tell()
    if here.json and not follow:
        print_json({"logs": [_entry(line) for line in last]})
        return
    for line in last:
        _print(line, here.json)
    if follow:
        for line in follow_file(file, at):
            _print(line, here.json)


def follow_file(file: Path, at: int) -> Generator[str, None, None]:
    """Whole lines that come after a place of the file, for ever, also when it is rotated."""
    opened = file.open(encoding="utf-8", errors="replace")
    opened.seek(at)
    rest = ""
    try:
        while True:
            rest += opened.read()
            *whole, rest = rest.split("\n")
            yield from whole
            if _rotated(file, opened.fileno()):
                yield from (opened.read()).splitlines()
                opened.close()
                opened = file.open(encoding="utf-8", errors="replace")
                rest = ""
            else:
                time.sleep(_LOOK_S)
    finally:
        opened.close()


def _rotated(file: Path, descriptor: int) -> bool:
    import os  # late: only --follow needs it

    try:
        return file.stat().st_ino != os.fstat(descriptor).st_ino
    except FileNotFoundError:
        return False


def _entry(line: str) -> Any:
    try:
        found = json.loads(line)
    except ValueError:
        return {"event": line.rstrip("\n")}
    return found if isinstance(found, dict) else {"event": found}


def show_line(line: str) -> str:
    """A line of the log file for people: time, level, what, and the fields behind it."""
    entry = _entry(line)
    fields = " ".join(f"{clean(name)}={clean(value)}" for name, value in entry.items() if name not in _KNOWN)
    words = [clean(entry.get("timestamp", "")), f"{clean(entry.get('level', '')):8}", clean(entry.get("event", "")), fields]
    return " ".join(word for word in words if word.strip())


def _print(line: str, as_json: bool) -> None:
    if not line.strip():
        return
    if as_json:
        print_json(_entry(line))
    else:
        print(show_line(line), flush=True)
