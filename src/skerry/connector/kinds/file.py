"""Files: what is appended to CSV and JSONL files becomes messages, over rotation and restarts; a pattern watches a directory.

A file is known by its inode and its first bytes, not by its name: one that was renamed is read to its end where it is now, one that
was emptied or replaced from its beginning. Only whole lines are taken.
"""

import asyncio
import csv
import hashlib
import io
import os
from collections.abc import AsyncIterator, Sequence
from pathlib import Path
from typing import Literal

import msgspec

from skerry.connector.contract import MOST_MESSAGES, Batch, Connector, Message, Place
from skerry.connector.kinds.http import json_fields
from skerry.connector.mapping import check_template, fields_of, fill
from skerry.core.errors import ConfigError, UnavailableError
from skerry.core.units import at_key, parse_duration

MOST_FILES = 1000
"""Files that are followed at one time; the cursor has a place for each."""
HEAD = 64
MOST_LINE = 1024 * 1024
CHUNK = 1024 * 1024


class FileSettings(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """What to read: a path, or a pattern with `*` and `?` in its last part.

    Attributes:
        format: by default what the name ends in.
        begin: where a file begins that is there at the very first start; one that comes later is read whole.
        poll: how often it is looked.
    """

    path: str
    topic: str
    format: Literal["csv", "jsonl", ""] = ""
    begin: Literal["start", "end"] = "start"
    poll: str = "1s"

    def __post_init__(self) -> None:
        check_template(self.topic, "topic", ("name", "file"))
        if not self.path or any(mark in str(Path(self.path).parent) for mark in "*?["):
            raise ConfigError(f"{self.path!r} is no file", where="path", allowed="a path; * and ? in its last part only")
        if not 50_000 <= at_key("poll", parse_duration, self.poll) <= 3_600_000_000:
            raise ConfigError(f"{self.poll} is out of range", where="poll", allowed="50ms to 1h")
        if not self.format and Path(self.path).suffix not in (".csv", ".jsonl", ".ndjson"):
            raise ConfigError("say what the lines are", where="format", allowed="csv, jsonl")

    @property
    def lines_are(self) -> str:
        return self.format or ("csv" if self.path.endswith(".csv") else "jsonl")


class Followed(msgspec.Struct, array_like=True):
    """How far a file was read: `head` is the digest of its first `size` bytes (of up to 64); `columns`: a CSV's first line."""

    inode: int
    head: str
    size: int
    offset: int
    columns: list[str] = []


class _Cut(msgspec.Struct, frozen=True):
    """Whole lines of one file, and where each ends."""

    lines: Sequence[bytes]
    ends: Sequence[int]


class FileIn(Connector):
    """Follows files; the cursor has the offset of each."""

    Settings = FileSettings

    def __init__(self, settings: FileSettings, place: Place) -> None:
        super().__init__(settings, place)
        self.settings: FileSettings = settings
        self._path = place.base / settings.path
        self._names = [name for name in fields_of(settings.topic) if name.startswith(".")]

    async def read(self, cursor: bytes) -> AsyncIterator[Batch]:
        first = not cursor
        known = {each.inode: each for each in msgspec.json.decode(cursor, type=list[Followed])} if cursor else {}
        pause = parse_duration(self.settings.poll) / 1e6
        while True:
            found = await asyncio.to_thread(self._look, known, first and self.settings.begin == "end")
            gone = set(known) - {each.inode for _, each in found}
            known = {each.inode: each for _, each in found}
            if first or gone:
                yield Batch((), _cursor(known))
            first = False
            more = False
            for path, each in found:
                messages = await asyncio.to_thread(self._next, path, each)
                if messages is None:
                    continue
                more = True
                yield Batch(messages, _cursor(known))
            if not more:
                await asyncio.sleep(pause)

    def _look(self, known: dict[int, Followed], at_end: bool) -> list[tuple[Path, Followed]]:
        """The files that match, oldest first, and of those that were renamed beside them what is not yet read."""
        wanted = set(self._path.parent.glob(self._path.name))
        if not wanted and not self._path.parent.is_dir():
            raise UnavailableError("there is no such directory", where=str(self._path.parent), mend="make it, or set another path")
        found: list[tuple[int, Path, Followed]] = []
        with os.scandir(self._path.parent) as entries:
            for entry in entries:
                path, status = Path(entry.path), entry.stat()
                mine = known.get(status.st_ino)
                if not entry.is_file() or (path not in wanted and mine is None):
                    continue
                mine = self._same(path, status, mine)
                if mine is None and path in wanted:
                    mine = Followed(status.st_ino, "", 0, 0)
                    if at_end:
                        self._to_end(path, mine, status.st_size)
                if mine is not None and (path in wanted or mine.offset < status.st_size):
                    found.append((status.st_mtime_ns, path, mine))
        found.sort(key=lambda each: each[0])
        if len(found) > MOST_FILES:
            raise UnavailableError(
                f"{len(found)} files are more than {MOST_FILES}", where=str(self._path), mend="move those away that are read"
            )
        return [(path, each) for _, path, each in found]

    def _same(self, path: Path, status: os.stat_result, mine: Followed | None) -> Followed | None:
        """What is known of the file that has this inode now; None where it is another one, or was written anew."""
        if mine is None or status.st_size < mine.offset:
            return None
        return mine if _digest(path, mine.size) == mine.head else None

    def _to_end(self, path: Path, mine: Followed, size: int) -> None:
        with path.open("rb") as file:
            if self.settings.lines_are == "csv":
                mine.columns = _columns(file.readline(MOST_LINE))
            file.seek(max(0, size - MOST_LINE))
            begin = file.tell()
            mine.offset = begin + file.read(size - begin).rfind(b"\n") + 1
        self._remember(path, mine)

    def _remember(self, path: Path, mine: Followed) -> None:
        mine.size = min(HEAD, mine.offset)
        mine.head = _digest(path, mine.size)

    def _next(self, path: Path, mine: Followed) -> list[Message] | None:
        """What the next lines become; None where there is no whole one. `mine` moves on."""
        try:
            cut = _cut(path, mine.offset)
        except FileNotFoundError:
            return None
        if not cut.ends:
            return None
        inode = mine.inode
        messages = []
        for line, end in zip(cut.lines, cut.ends, strict=True):
            if self.settings.lines_are == "csv" and not mine.columns:
                mine.columns = _columns(line)
            elif len(line) > MOST_LINE:
                self.drop("line too long")
            elif line.strip():
                made = self._message(path, line.strip(), mine.columns, f"{inode}.{mine.head[:8]}.{end}")
                messages += [made] if made is not None else []
        mine.offset = cut.ends[-1]
        if mine.size < HEAD:
            self._remember(path, mine)
        return messages

    def _message(self, path: Path, line: bytes, columns: list[str], id: str) -> Message | None:
        if self.settings.lines_are == "csv":
            row = next(iter(csv.reader(io.StringIO(line.decode(errors="replace")))), [])
            if len(row) != len(columns):
                self.drop("not as many cells as columns")
                return None
            fields: dict[str, str] = {f".{name}": text for name, text in zip(columns, row, strict=True)}
            line = msgspec.json.encode({name: _value(text) for name, text in zip(columns, row, strict=True)})
        else:
            fields = json_fields(line, self._names) if self._names else {}
        topic = fill(self.settings.topic, {**fields, "name": self.place.name, "file": path.stem})
        if topic is None:
            self.drop("no topic for it")
            return None
        return Message(topic, line, id)

    async def test(self) -> str:
        found = await asyncio.to_thread(lambda: list(self._path.parent.glob(self._path.name)))
        if not self._path.parent.is_dir():
            raise UnavailableError("there is no such directory", where=str(self._path.parent), mend="make it, or set another path")
        for path in found:
            with path.open("rb"):
                pass
        return f"{self._path}: {len(found)} file{'' if len(found) == 1 else 's'} can be read"


def _cursor(known: dict[int, Followed]) -> bytes:
    return msgspec.json.encode(list(known.values()))


def _digest(path: Path, size: int) -> str:
    try:
        with path.open("rb") as file:
            return hashlib.blake2b(file.read(size), digest_size=8).hexdigest()
    except OSError:
        return ""


def _cut(path: Path, offset: int) -> _Cut:
    """At most 500 whole lines from an offset on; a line without an end is left for later, unless it is longer than any may be."""
    with path.open("rb") as file:
        file.seek(offset)
        data = file.read(CHUNK)
        while data and b"\n" not in data and len(data) <= MOST_LINE and (more := file.read(CHUNK)):
            data += more
    lines: list[bytes] = []
    ends: list[int] = []
    begin = 0
    while len(lines) < MOST_MESSAGES and (end := data.find(b"\n", begin)) >= 0:
        lines.append(data[begin:end])
        ends.append(offset + end + 1)
        begin = end + 1
    if not lines and len(data) > MOST_LINE:
        return _Cut([data], [offset + len(data)])
    return _Cut(lines, ends)


def _columns(line: bytes) -> list[str]:
    return [name.strip() for name in next(iter(csv.reader(io.StringIO(line.decode("utf-8-sig", errors="replace")))), [])]


def _value(text: str) -> float | int | str | None:
    """A cell as JSON has it: a number where it is one, null where it is empty."""
    try:
        return int(text) if text.lstrip("+-").isdecimal() and len(text) < 18 else float(text)
    except ValueError:
        return text or None
