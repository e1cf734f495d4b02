"""The audit log: who got in and who did not, and every change of trust; append-only JSON lines in the data directory.

Two files, each with a bound of its own: changes of trust (`audit.log`), and what any client can cause (`audit-clients.log`:
log-ins, and all that is refused). So a flood of refusals cannot push out who added a device. Rotated; the oldest part goes.
"""

import contextlib
import errno
import os
import queue
import threading
from collections import deque
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import msgspec

from skerry.core import log
from skerry.core.clock import Clock, to_rfc3339

MAX_BYTES = 4 * 1024 * 1024
KEPT_FILES = 4
LINES_A_SECOND = 50
MOST_WAITING = 4096
MOST_EVENTS, MOST_FIELDS, LONGEST = 64, 16, 256
CLOSE_S = 2.0
_SECRETS = frozenset({"password", "token", "secret", "credential", "credentials", "signature", "challenge", "private_key", "seed"})
_STOP = b""
_log = log.get("audit")
Entry = dict[str, Any]


def audit_files(path: Path) -> tuple[Path, Path]:
    """`audit.log` itself, and the file beside it that holds what any client can cause."""
    return path, path.with_name(f"{path.stem}-clients{path.suffix}")


def by_anybody(event: str) -> bool:
    """Whether any client can cause it, as often as it likes: a log-in, or something that was refused."""
    return event.startswith("log-in") or event.endswith("refused")


class AuditLog:
    """Notes events; a thread of its own writes them, so that a slow disk holds up nobody.

    What any client can cause is held to `LINES_A_SECOND` an event; how many were left out stands in a line of its own. A change
    of trust is never left out, and is on the disk (fsync) before the next is written. A full disk costs lines, not the node.

    Attributes:
        left_out: lines that were over the limit.
        lost: lines that could not be written.
    """

    def __init__(self, path: Path, clock: Clock, *, max_bytes: int = MAX_BYTES, kept: int = KEPT_FILES) -> None:
        self.left_out = 0
        self._clock = clock
        self._changes = _File(path, max_bytes, kept, sync=True)
        self._clients = _File(audit_files(path)[1], max_bytes, kept, sync=False)
        self._limits: dict[str, _Limit] = {}
        self._waiting: queue.Queue[tuple[_File, bytes]] = queue.Queue(MOST_WAITING)
        self._dropped = 0
        self._lock = threading.Lock()
        self._thread: threading.Thread | None = None

    @property
    def lost(self) -> int:
        return self._dropped + self._changes.lost + self._clients.lost

    def note(self, event: str, *, by: str = "", address: str = "", reason: str = "", **fields: object) -> None:
        """Write down one event: `by` did it, from `address`. Never raises, never waits. Fields named as a secret are left out."""
        with self._lock:
            file = self._changes
            if by_anybody(event):
                file = self._clients
                if not self._limit(event).take(int(self._clock.monotonic())):
                    self.left_out += 1
                    return
            self._tell_left_out()
            self._put(file, event, {"by": by, "address": address, "reason": reason, **fields})

    def close(self) -> None:
        """Write what waits, and end the thread."""
        with self._lock:
            self._tell_left_out()
            thread, self._thread = self._thread, None
        if thread is not None:
            try:
                self._waiting.put((self._changes, _STOP), timeout=CLOSE_S)
            except queue.Full:  # the disk hangs: one line gives its place, so that the thread ends when the disk goes on
                self._dropped += 1
                with contextlib.suppress(queue.Empty, queue.Full):
                    self._waiting.get_nowait()
                    self._waiting.put_nowait((self._changes, _STOP))
            thread.join(CLOSE_S)

    def _limit(self, event: str) -> "_Limit":
        if event not in self._limits and len(self._limits) >= MOST_EVENTS:
            event = "refused"
        return self._limits.setdefault(event, _Limit())

    def _tell_left_out(self) -> None:
        for event, limit in self._limits.items():
            if limit.over:
                self._put(self._clients, "lines left out", {"of": event, "count": limit.over})
                limit.over = 0

    def _put(self, file: "_File", event: str, fields: Mapping[str, object]) -> None:
        entry: Entry = {"timestamp": to_rfc3339(self._clock.now()), "event": _plain(event)}
        given = [(name, value) for name, value in fields.items() if value is not None and value != ""]
        entry |= {name: _plain(value) for name, value in given[:MOST_FIELDS] if name not in _SECRETS}
        if file is self._clients and self._waiting.qsize() >= MOST_WAITING // 2:
            self._dropped += 1  # the other half is for changes of trust
            return
        try:
            self._waiting.put_nowait((file, msgspec.json.encode(entry)))
        except queue.Full:
            self._dropped += 1
        if self._thread is None:
            self._thread = threading.Thread(target=self._write, name="audit", daemon=True)
            self._thread.start()

    def _write(self) -> None:
        while True:
            file, line = self._waiting.get()
            if line is _STOP:
                break
            file.append(line)
        self._changes.close()
        self._clients.close()


class _Limit:
    """At most `LINES_A_SECOND` a second, and how many more there were."""

    def __init__(self) -> None:
        self._second = -1
        self._written = 0
        self.over = 0

    def take(self, second: int) -> bool:
        if second != self._second:
            self._second, self._written = second, 0
        if self._written >= LINES_A_SECOND:
            self.over += 1
            return False
        self._written += 1
        return True


class _File:
    """One file of lines (0600), rotated by size. `append` never raises; the next line says how many could not be written."""

    def __init__(self, path: Path, max_bytes: int, kept: int, *, sync: bool) -> None:
        self.path = path
        self.lost = 0
        self._told = 0
        self._max_bytes = max_bytes
        self._kept = kept
        self._sync = sync
        self._descriptor: int | None = None
        self._size = 0

    def append(self, line: bytes) -> None:
        if self.lost > self._told:
            line = line[:-1] + b',"lost_before":%d}' % (self.lost - self._told)
        try:
            self._append(line + b"\n")
        except OSError as error:
            self.lost += 1
            self.close()
            if self.lost == self._told + 1:
                _log.warning(f"the audit log cannot be written: {error.strerror}", file=str(self.path))
            return
        self._told = self.lost

    def _append(self, line: bytes) -> None:
        if self._descriptor is None:
            self._open()
        if self._size and self._size + len(line) > self._max_bytes:
            self._rotate()
        assert self._descriptor is not None
        written = os.write(self._descriptor, line)
        self._size += written
        if written < len(line):
            raise OSError(errno.ENOSPC, "no room for a whole line")
        if self._sync:
            os.fsync(self._descriptor)

    def _open(self) -> None:
        self.path.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
        descriptor = os.open(self.path, os.O_RDWR | os.O_CREAT | os.O_APPEND, 0o600)
        try:
            self._size = os.fstat(descriptor).st_size
            # a line that a crash tore must not take the next one with it
            if self._size and os.pread(descriptor, 1, self._size - 1) != b"\n":
                self._size += os.write(descriptor, b"\n")
        except OSError:
            os.close(descriptor)
            raise
        self._descriptor = descriptor

    def _rotate(self) -> None:
        self.close()
        for number in range(self._kept - 1, 0, -1):
            older = _part(self.path, number)
            if older.exists():
                older.replace(_part(self.path, number + 1))
        if self._kept:
            self.path.replace(_part(self.path, 1))
        else:
            self.path.unlink()
        self._open()

    def close(self) -> None:
        if self._descriptor is not None:
            os.close(self._descriptor)
            self._descriptor = None


class Audit(msgspec.Struct, frozen=True):
    """What was read: the entries in order of their time, and how many lines could not be read (torn by a crash)."""

    entries: list[Entry]
    torn: int = 0


def read_audit(path: Path, *, since: int = 0, last: int | None = None) -> Audit:
    """The entries of all parts of both files; works without a node. `since`: microseconds since the epoch; `last`: at most so many.

    A line that a crash tore is skipped and counted."""
    bound = to_rfc3339(since) if since else ""
    found: list[Entry] = []
    torn = 0
    for file in audit_files(path):
        newest: deque[Entry] = deque(maxlen=last)
        for line in _lines(file):
            entry = read_line(line)
            if entry is None:
                torn += 1
            elif str(entry.get("timestamp", "")) >= bound:
                newest.append(entry)
        found += newest
    found.sort(key=lambda entry: str(entry.get("timestamp", "")))
    return Audit(found if last is None else found[max(0, len(found) - last) :], torn)


def read_line(line: bytes) -> Entry | None:
    """The entry of a line, or None when it is none."""
    try:
        found = msgspec.json.decode(line)
    except (msgspec.MsgspecError, UnicodeDecodeError):
        return None
    return found if isinstance(found, dict) else None


def _lines(file: Path) -> Iterator[bytes]:
    parts = sorted(file.parent.glob(f"{file.name}.*"), key=_number, reverse=True)
    for part in [*parts, file]:
        with contextlib.suppress(FileNotFoundError), part.open("rb") as opened:
            yield from (line for line in opened if line.strip())


def _part(path: Path, number: int) -> Path:
    return path.with_name(f"{path.name}.{number}")


def _number(part: Path) -> int:
    return int(part.suffix[1:]) if part.suffix[1:].isdigit() else 0


def _plain(value: object) -> object:
    """As JSON can hold it, and not longer than `LONGEST`."""
    if isinstance(value, bool | int | float):
        return value
    if isinstance(value, list | tuple | set | frozenset):
        return [_plain(each) for each in list(value)[:MOST_FIELDS]]
    return str(value)[:LONGEST].encode("utf-8", "replace").decode()
