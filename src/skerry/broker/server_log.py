"""What nats-server writes to its log: read on as it grows, and put into sentences."""

import os
import re
from collections import deque
from io import BufferedReader
from pathlib import Path

MOST_BEHIND = 4 * 1024 * 1024
KEPT_LINES = 40
_LINE = re.compile(r"^\[\d+\] \S+ \S+ \[(\w{3})\] (.*)$")
_LISTEN = re.compile(r"listen \w+ (\S+): bind: address already in use")
_STORE = re.compile(r"critical write error|no space left|disk quota|read-only file system|input/output error", re.IGNORECASE)
# said at every start; that the node's own passwords are in a file of mode 0600 is meant so: bcrypt would cost 100 ms a connection
_EXPECTED = ("Plaintext passwords detected", "Healthcheck failed")
_REFUSED = re.compile(r"authentication error|Auth callout service returned an error|authorization violation", re.IGNORECASE)


class ServerLog:
    """Follows the log file of one life of the server, over rotations; `complaints` holds its last warnings and errors."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self.complaints: deque[str] = deque(maxlen=KEPT_LINES)
        self._file: BufferedReader | None = None
        self._rest = b""
        self._begin = path.stat().st_size if path.exists() else 0

    def read_on(self) -> list[str]:
        """The warnings and errors since the last call, without time and level. What is more than 4 MiB behind is passed over."""
        found = []
        for line in self._lines():
            text = complaint(line)
            if text:
                self.complaints.append(text)
                found.append(text)
        return found

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

    @staticmethod
    def _read(file: BufferedReader) -> bytes:
        behind = os.fstat(file.fileno()).st_size - file.tell()
        if behind > MOST_BEHIND:
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


def is_store_failure(text: str) -> bool:
    """True when the server could not write what it was to store: from then on the stream takes nothing until a restart."""
    return _STORE.search(text) is not None


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
