"""What a power cut leaves: the journal of `disk.c` played on a model of a disk, that keeps what was synced and any of the rest.

The model is stricter than file systems are: a name is on the disk when its directory was synced, data when its file was, and of the
rest any beginning may be there, its last write torn, its end zeros. What a failed sync should have written is gone, as on Linux.
"""

import os
import random
import shutil
import struct
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

import pytest

_HEAD = struct.Struct("<BBHiqQ")
SOURCE = Path(__file__).with_suffix(".c")


class Record(NamedTuple):
    """One call, see `disk.c`."""

    what: str
    flag: int
    file: int
    at: int
    data: bytes


class File:
    """What of a file is on the disk, and what was written since: data at a place, or None for a new size."""

    def __init__(self) -> None:
        self.durable = bytearray()
        self.waiting: list[tuple[int, bytes | None]] = []

    def sync(self) -> None:
        for change in self.waiting:
            _apply(self.durable, *change)
        self.waiting = []

    def lose(self) -> None:
        """A sync failed: the kernel takes what it could not write for written. Only the size may be there."""
        most = max((at + len(data or b"") for at, data in self.waiting), default=0)
        self.waiting = [(most, None)] if most > len(self.durable) else []

    def after_cut(self, chance: random.Random | None) -> bytes:
        found = bytearray(self.durable)
        if chance is None or not self.waiting:
            return bytes(found)
        kept = chance.randint(0, len(self.waiting))
        for change in self.waiting[:kept]:
            _apply(found, *change)
        if kept < len(self.waiting):
            at, data = self.waiting[kept]
            if data:
                _apply(found, at, data[: chance.randrange(len(data))])
            if chance.random() < 0.3:
                _apply(found, max(len(found), at + len(data or b"")), None)
        return bytes(found)


def _apply(content: bytearray, at: int, data: bytes | None) -> None:
    end = at if data is None else at + len(data)
    if len(content) < end:
        content.extend(bytes(end - len(content)))
    if data is None:
        del content[at:]
    else:
        content[at:end] = data


class Name(NamedTuple):
    """A change of names: `file` appears as `path` (None: goes from it), and goes from `old` where that is said."""

    path: str
    file: File | None
    old: str = ""


class Disk:
    """The disk under `root` as of the records that were played; `said` is what the process had said by then."""

    def __init__(self, root: Path) -> None:
        self.said = b""
        self._root = str(root)
        self._names: dict[str, File] = {}
        self._durable: dict[str, File] = {}
        self._waiting: list[Name] = []
        self._open: dict[int, tuple[str, File]] = {}

    def play(self, record: Record) -> None:
        """Take one call in."""
        path = record.data.decode() if record.what in "OULRM" else ""
        match record.what:
            case "A":
                self.said += record.data
            case "O":
                if record.flag & 1:
                    self._name(Name(path, File()))
                file = self._names.setdefault(path, File())
                self._open[record.file] = path, file
                if record.flag & 2:
                    file.waiting.append((0, None))
            case "C":
                self._open.pop(record.file, None)
            case "W":
                self._open[record.file][1].waiting.append((record.at, record.data))
            case "T":
                self._open[record.file][1].waiting.append((record.at, None))
            case "S":
                self._sync(*self._open[record.file])
            case "F":
                self._open[record.file][1].lose()
            case "M":
                self._name(Name(path, File()))
            case "U":
                self._name(Name(path, None))
            case "L" | "R":
                old, _, new = path.partition("\0")
                if old in self._names:
                    self._name(Name(new, self._names[old], old if record.what == "R" else ""))

    def _name(self, change: Name) -> None:
        _rename(self._names, change)
        self._waiting.append(change)

    def _sync(self, path: str, file: File) -> None:
        file.sync()
        for change in [each for each in self._waiting if each.path.rpartition("/")[0] == path]:
            _rename(self._durable, change)
            self._waiting.remove(change)

    def path(self, file: int) -> str:
        """Of an open file."""
        return self._open[file][0] if file in self._open else ""

    @property
    def unsynced(self) -> int:
        """How many changes a cut may take or leave."""
        files = {id(file): file for file in (*self._names.values(), *self._durable.values())}
        return len(self._waiting) + sum(len(file.waiting) for file in files.values())

    def after_cut(self, chance: random.Random | None, place: Path) -> None:
        """Write what the cut leaves to a directory: only what was synced, or by chance more."""
        names = dict(self._durable)
        for change in self._waiting[: chance.randint(0, len(self._waiting)) if chance else 0]:
            _rename(names, change)
        directories = {path.rpartition("/")[0] for path in self._names | names}
        place.mkdir(parents=True)
        for path in sorted(names):
            target = place / os.path.relpath(path, self._root)
            if path in directories:
                if target.parent.is_dir():
                    target.mkdir()
            elif target.parent.is_dir():
                target.write_bytes(names[path].after_cut(chance))


def _rename(names: dict[str, File], change: Name) -> None:
    if change.old:
        names.pop(change.old, None)
        for path in [path for path in names if path.startswith(change.old + "/")]:
            names[change.path + path[len(change.old) :]] = names.pop(path)
    if change.file is None:
        names.pop(change.path, None)
    else:
        names[change.path] = change.file


def records(journal: Path) -> Iterator[Record]:
    """What a process did, as far as it got."""
    with journal.open("rb") as file:
        while len(head := file.read(_HEAD.size)) == _HEAD.size:
            what, flag, _, number, at, size = _HEAD.unpack(head)
            if len(data := file.read(size)) == size:
                yield Record(chr(what), flag, number, at, data)


def compiled(folder: Path) -> Path:
    """The library; where it cannot be built the test is skipped."""
    gcc = shutil.which("gcc")
    if not sys.platform.startswith("linux"):
        pytest.skip("optional: the failing disk is Linux's")
    if gcc is None:
        pytest.skip("gcc is not installed: scripts/ci-packages installs it")
    made = folder / "disk.so"
    subprocess.run([gcc, "-O1", "-shared", "-fPIC", "-Wall", "-o", made, SOURCE, "-ldl", "-lpthread"], check=True)
    return made


def environment(library: Path, root: Path, journal: Path | None = None, fault: str = "") -> dict[str, str]:
    """For a process whose disk under `root` is looked at, and fails as `fault` says."""
    more = {"LD_PRELOAD": str(library), "DISK_ROOT": str(root), "PYTHONDONTWRITEBYTECODE": "1"}
    if journal is not None:
        more["DISK_JOURNAL"] = str(journal)
    if fault:
        more["DISK_FAULT"] = fault
    return {**os.environ, **more}
