"""`skerry logs`: the node's log and its audit log, read without the node."""

import json
import os
import time
from collections import deque
from collections.abc import Callable, Generator
from io import TextIOWrapper
from pathlib import Path
from typing import Annotated, Any

import typer

from skerry.cli.session import LOG_FILE, Session, clean, print_json, session
from skerry.core.errors import ConfigError, RejectedError

AUDIT_FILE = LOG_FILE.with_name("audit.log")
_LOOK_S = 0.3
_KNOWN = ("timestamp", "level", "event")
Place = tuple[Path, int]


def logs(
    context: typer.Context,
    lines: Annotated[int, typer.Option("-n", "--lines", min=0, max=100_000, help="How many of the last lines.")] = 50,
    follow: Annotated[bool, typer.Option("--follow", "-f", help="Go on with what comes.")] = False,
    audit: Annotated[bool, typer.Option("--audit", help="The audit log: who got in, who did not, every change of trust.")] = False,
    since: Annotated[str, typer.Option(metavar="TIME", help="From a time on, such as 2026-03-01T06:00:00Z, or 2h ago.")] = "",
) -> None:
    """Show the last lines of the node's log, or of its audit log."""
    here = session(context)
    begin = _time(since) if since else 0
    read = _read_audit if audit else _read_log
    try:
        places = read(here, begin, lines, not follow)
        for line in follow_files(*places) if follow else ():
            _print(line, here.json)
    except PermissionError as error:
        raise RejectedError("cannot be read by this user", where=str(error.filename), mend="ask as the node's user") from error


def _read_log(here: Session, since: int, lines: int, whole: bool) -> list[Place]:
    """Print the last lines; answers where to go on."""
    from skerry.core.clock import to_rfc3339  # late: --help goes without

    file = here.config(with_models=False).data_dir / LOG_FILE
    if not file.is_file():
        raise RejectedError("there is no log yet", where=str(file), mend="start the node with `skerry run`")
    begin = to_rfc3339(since) if since else ""
    with file.open(encoding="utf-8", errors="replace") as opened:
        chosen = (line for line in opened if not begin or str(_entry(line).get("timestamp", "")) >= begin)
        last = deque(chosen, maxlen=lines)
        at = os.fstat(opened.fileno()).st_size
    _show(here, "logs", [_entry(line) for line in last], whole)
    return [(file, at)]


def _read_audit(here: Session, since: int, lines: int, whole: bool) -> list[Place]:
    """Print the last entries; answers where to go on."""
    from skerry.device import audit_files, read_audit  # late: --help goes without

    file = here.config(with_models=False).data_dir / AUDIT_FILE
    files = audit_files(file)
    if not whole:
        places = [(each, each.stat().st_size if each.is_file() else 0) for each in files]
    elif not any(each.is_file() for each in files):
        raise RejectedError("there is no audit log yet", where=str(file), mend="start the node with `skerry run`")
    else:
        places = []
    found = read_audit(file, since=since, last=lines)
    _show(here, "audit", found.entries, whole)
    if found.torn:
        words = "line that a crash had torn was" if found.torn == 1 else "lines that crashes had torn were"
        here.note(f"{found.torn} {words} passed over")
    return places


def _show(here: Session, name: str, entries: list[dict[str, Any]], whole: bool) -> None:
    if here.json and whole:
        print_json({name: entries})
        return
    for entry in entries:
        _print_entry(entry, here.json)


def follow_files(*places: Place) -> Generator[str, None, None]:
    """Whole lines that come to any of some files after a place of each, for ever, also when they are rotated or not there yet."""
    tails = [_Tail(file, at) for file, at in places]
    try:
        while True:
            found = [line for tail in tails for line in tail.read_on()]
            yield from found
            if not found:
                time.sleep(_LOOK_S)
    finally:
        for tail in tails:
            tail.close()


class _Tail:
    """The lines that come to one file."""

    def __init__(self, file: Path, at: int) -> None:
        self._file = file
        self._at = at
        self._opened: TextIOWrapper | None = None
        self._rest = ""

    def read_on(self) -> list[str]:
        opened = self._opened = self._opened or self._open()
        if opened is None:
            return []
        *whole, self._rest = (self._rest + opened.read()).split("\n")
        if self._rotated(opened):
            whole += opened.read().splitlines()
            self._rest = ""
            self.close()
        return whole

    def close(self) -> None:
        if self._opened is not None:
            self._opened.close()
            self._opened = None

    def _open(self) -> TextIOWrapper | None:
        try:
            opened = self._file.open(encoding="utf-8", errors="replace")
        except FileNotFoundError:
            return None
        opened.seek(self._at)
        self._at = 0
        return opened

    def _rotated(self, opened: TextIOWrapper) -> bool:
        try:
            return self._file.stat().st_ino != os.fstat(opened.fileno()).st_ino
        except FileNotFoundError:
            return False


def _time(text: str) -> int:
    """Microseconds since the epoch of a time, or of a duration ago. Raises `ConfigError`."""
    from skerry.core.clock import SystemClock, from_rfc3339  # late: --help goes without
    from skerry.core.units import parse_duration

    readers: tuple[Callable[[str], int], ...] = (from_rfc3339, lambda text: SystemClock().now() - parse_duration(text))
    for read in readers:
        try:
            return read(text.removesuffix(" ago"))
        except (ValueError, ConfigError):
            continue
    allowed = "a time such as 2026-03-01T06:00:00Z, or a duration such as 2h"
    raise ConfigError(f"{text!r} is not a time", where="--since", allowed=allowed)


def _entry(line: str) -> dict[str, Any]:
    try:
        found = json.loads(line)
    except ValueError:
        return {"event": line.rstrip("\n")}
    return found if isinstance(found, dict) else {"event": found}


def show_line(line: str) -> str:
    """A line of the log file for people: time, level, what, and the fields behind it."""
    return _words(_entry(line))


def _words(entry: dict[str, Any]) -> str:
    fields = " ".join(f"{clean(name)}={clean(value)}" for name, value in entry.items() if name not in _KNOWN)
    level = f"{clean(entry['level']):8}" if "level" in entry else ""
    words = [clean(entry.get("timestamp", "")), level, clean(entry.get("event", "")), fields]
    return " ".join(word for word in words if word.strip())


def _print(line: str, as_json: bool) -> None:
    if line.strip():
        _print_entry(_entry(line), as_json)


def _print_entry(entry: dict[str, Any], as_json: bool) -> None:
    if as_json:
        print_json(entry)
    else:
        print(_words(entry), flush=True)
