"""What nats-server writes to its log: read on as it grows, and put into sentences."""

import os
import re
from collections import deque
from io import BufferedReader
from pathlib import Path
from typing import Literal

import msgspec

from skerry.broker.subjects import to_topic

MOST_BEHIND = 4 * 1024 * 1024
KEPT_LINES = 40
MOST_VIOLATORS = 1000
_LINE = re.compile(r"^\[\d+\] \S+ \S+ \[(\w{3})\] (.*)$")
_LISTEN = re.compile(r"listen \w+ (\S+): bind: address already in use")
_STORE = re.compile(r"critical write error|no space left|disk quota|read-only file system|input/output error", re.IGNORECASE)
# of a line about one client, which holds its client id: text that anybody may choose before the log-in
_OF_CLIENT = re.compile(r"\S+ - [a-z]+id(?:_[a-z]+)?:\d+")
# said at every start; that the node's own passwords are in a file of mode 0600 is meant so: bcrypt would cost 100 ms a connection
_EXPECTED = ("Plaintext passwords detected", "Healthcheck failed")
# `ADDRESS - mid:CONNECTION - "CLIENT ID" - Publish Violation - Subject "…"`, texts as Go's %q writes them; seen with 2.15
_VIOLATION = re.compile(
    r"\[(\d+)\] \S+ \S+ \[ERR\] (\S+) - mid(?:_ws)?:(\d+) - "
    r'"((?:[^"\\]|\\.)*)" - (Publish|Subscription) Violation - Subject "((?:[^"\\]|\\.){0,1024})'
)
_SIGN = ' Violation - Subject "'
_ESCAPED = re.compile(r'\\(["\\])')
_SHOWN = 64
# of a route to another server of the cluster; each attempt is one
_ALONE = ("Error trying to connect to route", "Waiting for routing to be established")
_ATTEMPT = re.compile(r" \(attempt \d+\)")
ALONE_S, MOST_ALONE = 60.0, 64
_REFUSED = re.compile(r"authentication error|Auth callout service returned an error|authorization violation", re.IGNORECASE)


class Violation(msgspec.Struct):
    """Publishes or subscriptions of one connection that the server refused: how many, and the topic (filter) of the last.

    The server writes one line for each and leaves none out. `life` is the server's pid: connections are counted from one again
    in its next life.
    """

    kind: Literal["publish", "subscribe"]
    life: int
    connection: int
    client_id: str
    address: str
    topic: str
    count: int = 1


class ServerLog:
    """Follows the log file of one life of the server, over rotations.

    `complaints` holds its last warnings and errors; `passed_over` counts bytes that came faster than they could be read.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        self.complaints: deque[str] = deque(maxlen=KEPT_LINES)
        self.passed_over = 0
        self._said = False
        self._violations: dict[str, tuple[str, int]] = {}
        self._file: BufferedReader | None = None
        self._rest = b""
        self._looked = (0, 0)
        self._begin = path.stat().st_size if path.exists() else 0

    @property
    def grown(self) -> bool:
        """Whether the file is another one than at the last look, or of another size; so cheap that it needs no thread."""
        try:
            status = self.path.stat()
        except OSError:
            return False
        before, self._looked = self._looked, (status.st_ino, status.st_size)
        return self._looked != before

    def read_on(self) -> list[str]:
        """The warnings and errors since the last call, without time and level. What is more than 4 MiB behind is passed over.

        Violations are not among them but in `take_violations`: a client may cause as many as it likes."""
        found = []
        for line in self._lines():
            if _SIGN in line and self._is_violation(line):
                continue
            text = complaint(line)
            if text:
                self.complaints.append(text)
                found.append(text)
        if self.passed_over and not self._said:
            self._said = True
            found.append("its log grows faster than it can be read: what is refused to devices is counted in part from now on")
        return found

    def take_violations(self) -> list[Violation]:
        """What was refused since the last call, one entry a connection and kind."""
        found = []
        for line, count in self._violations.values():
            refused = violation(line)
            assert refused is not None
            refused.count = count
            found.append(refused)
        self._violations.clear()
        return found

    def _is_violation(self, line: str) -> bool:
        """Count it, by all that stands between the time and the topic: of a flood one line is looked at closely."""
        key = line[: line.index(_SIGN)].partition("[ERR]")[2]
        before = self._violations.get(key)
        if before is None and violation(line) is None:
            return False
        if before is not None or len(self._violations) < MOST_VIOLATORS:
            self._violations[key] = line, before[1] + 1 if before else 1
        return True

    def _lines(self) -> list[str]:
        data = b""
        try:
            if self._file is None:
                self._file = self.path.open("rb")
                self._file.seek(self._begin)
            data = self._read(self._file)
            if self.path.stat().st_ino != os.fstat(self._file.fileno()).st_ino:
                self._file.close()
                self._file = self.path.open("rb")
                data += self._read(self._file)
        except OSError:
            pass
        *whole, self._rest = (self._rest + data).split(b"\n")
        self._rest = self._rest[:MOST_BEHIND]
        return [line.decode(errors="replace") for line in whole]

    def _read(self, file: BufferedReader) -> bytes:
        behind = os.fstat(file.fileno()).st_size - file.tell()
        if behind > MOST_BEHIND:
            self.passed_over += behind - MOST_BEHIND
            file.seek(behind - MOST_BEHIND, os.SEEK_CUR)
        return file.read(MOST_BEHIND)

    def close(self) -> None:
        if self._file is not None:
            self._file.close()
            self._file = None


def complaint(line: str) -> str:
    """The text of a line that is a warning, an error or a last word; empty for others and for what is said at every start."""
    match = _LINE.match(line)
    if match is None:
        return line.strip() if line.startswith("nats-server:") else ""
    return match[2] if match[1] in ("WRN", "ERR", "FTL") and not match[2].startswith(_EXPECTED) else ""


def violation(line: str) -> Violation | None:
    """What a line says that was refused, or None."""
    match = _VIOLATION.match(line)
    if match is None:
        return None
    life, address, connection, quoted, kind, subject = match.groups()
    client_id, topic = _ESCAPED.sub(r"\1", quoted)[:_SHOWN], to_topic(_ESCAPED.sub(r"\1", subject))
    if kind == "Publish":
        return Violation("publish", int(life), int(connection), client_id, address, topic)
    levels = [{"*": "+", ">": "#"}.get(level, level) for level in topic.split("/")]
    return Violation("subscribe", int(life), int(connection), client_id, address, "/".join(levels))


def is_store_failure(text: str) -> bool:
    """True when the server could not write what it was to store: from then on the stream takes nothing until a restart.

    What it says of a client is not looked at: a client id may read `no space left`."""
    return _STORE.search(text) is not None and _OF_CLIENT.match(text) is None


def explain(complaints: list[str]) -> str:
    """One sentence for why the server ended, from its last complaints; empty when they say nothing."""
    for text in reversed(complaints):
        taken = _LISTEN.search(text)
        if taken:
            return f"{taken[1]} is taken by another program"
        if "no space left" in text.lower():
            return "the disk is full; make room"
        if text.startswith("nats-server:"):
            return f"nats-server refuses its configuration: {text.removeprefix('nats-server:').strip()}"
    return complaints[-1] if complaints else ""


def is_refusal(text: str) -> bool:
    """Whether a complaint is one of the four lines of a refused log-in: the audit log has it already, in one line, with a limit."""
    return _REFUSED.search(text) is not None


class Lonely:
    """Sifts what the server says by the second while others of its cluster do not answer: of each once a minute."""

    def __init__(self) -> None:
        self._told: dict[str, float] = {}

    def sift(self, texts: list[str], now: float) -> list[str]:
        """What is to be told now. `now`: monotonic seconds."""
        self._told = {text: at for text, at in self._told.items() if now - at < ALONE_S}
        found = []
        for text in texts:
            if text.startswith(_ALONE):
                same = _ATTEMPT.sub("", text)
                if same in self._told or len(self._told) >= MOST_ALONE:
                    continue
                self._told[same] = now
            found.append(text)
        return found
