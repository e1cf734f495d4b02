"""Reading files of JSON lines from their end: the newest that fit, without secrets, and no more of the disk than a bound."""

import os
import re
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import msgspec

LEVELS = ("debug", "info", "warning", "error", "critical")
MOST_READ = 4 * 1024 * 1024
"""Bytes of the end of a log that one question looks at."""
LONGEST = 4000
HIDDEN = "hidden"
_NAMES = "password|passphrase|secret|credentials?|signature|challenge|private_key|seed|bearer|authorization"
_SECRETS = re.compile(rf"(?i)(^|_)({_NAMES})$")
_IN_TEXT = (
    (re.compile(r"(\w://[^/@\s:]*:)[^/@\s]+@"), rf"\1{HIDDEN}@"),
    (re.compile(r"\bsk_[\w-]{16,}"), f"sk_{HIDDEN}"),
    (re.compile(r"(?i)\b(bearer|basic)\s+[\w.~+/=-]{8,}"), rf"\1 {HIDDEN}"),
    (re.compile(r"(?i)((?:password|passphrase|secret)\\?[\"']?\s*[=:]\s*\\?[\"']?)[^\s\\\"',;]+"), rf"\1{HIDDEN}"),
    (re.compile(r"(?i)\b(token\\?[\"']?\s*=\s*\\?[\"']?)[^\s\\\"',;]+"), rf"\1{HIDDEN}"),
    (re.compile(r"-----BEGIN [A-Z ]*PRIVATE KEY-----.*?(-----END [A-Z ]*PRIVATE KEY-----|$)", re.DOTALL), HIDDEN),
)
Entry = dict[str, Any]


class Sieve(msgspec.Struct, frozen=True):
    """Which entries are wanted.

    Attributes:
        level: of at least this weight, one of `LEVELS`; empty: all. part: of this part of the node, such as `broker`.
        name: those that name a device, a token or an address, as a whole word. text: those that hold this text, in any case.
        since: RFC 3339 in UTC; not older.
    """

    level: str = ""
    part: str = ""
    name: str = ""
    text: str = ""
    since: str = ""

    def fits(self, entry: Entry) -> bool:
        """Whether it is one of them."""
        if self.since and str(entry.get("timestamp", "")) < self.since.removesuffix("Z"):  # with however many digits of the second
            return False
        if self.level and _weight(entry.get("level")) < LEVELS.index(self.level):
            return False
        if self.part and str(entry.get("part", "")).partition(".")[0] != self.part:
            return False
        words = [str(value) for value in entry.values()] if self.name or self.text else []
        if self.name and not any(re.search(rf"(?<![\w-]){re.escape(self.name)}(?![\w-])", word) for word in words):
            return False
        wanted = self.text.lower()
        return not wanted or any(wanted in word.lower() for word in words)


def _weight(level: object) -> int:
    return LEVELS.index(level) if isinstance(level, str) and level in LEVELS else 1


class Page(msgspec.Struct, frozen=True):
    """Entries, oldest first; `whole`: nothing older was left unread for the bound's sake."""

    entries: list[Entry]
    whole: bool


def read_back(files: Sequence[Path], sieve: Sieve, last: int, most: int = MOST_READ) -> Page:
    """The last entries that fit, of files of which the newest is the first: a log and its rotated parts. Blocks; one that is gone
    meanwhile is passed over. Lines that are no JSON object are passed over too. Raises `OSError` for what may not be read."""
    found: list[Entry] = []
    left = most
    for file in files:
        block, begun = _end_of(file, left)
        left -= len(block)
        for line in _backwards(block, begun):
            entry = _entry(line)
            if entry is not None and sieve.fits(entry):
                found.append(unveiled(entry))
                if len(found) == last:
                    return Page(found[::-1], True)
        if not begun:
            return Page(found[::-1], False)
    return Page(found[::-1], True)


def _end_of(file: Path, most: int) -> tuple[bytes, bool]:
    """The last bytes of a file, and whether they are all of it."""
    try:
        with file.open("rb") as opened:
            size = os.fstat(opened.fileno()).st_size
            opened.seek(max(0, size - most))
            return opened.read(min(size, most)), size <= most
    except FileNotFoundError:
        return b"", True


def _backwards(block: bytes, begun: bool) -> Iterator[bytes]:
    lines = block.split(b"\n")
    return reversed(lines if begun else lines[1:])


def _entry(line: bytes) -> Entry | None:
    if not line.strip():
        return None
    try:
        found = msgspec.json.decode(line)
    except (msgspec.MsgspecError, UnicodeDecodeError):
        return None
    return found if isinstance(found, dict) else None


def unveiled(entry: Entry) -> Entry:
    """An entry as it may be shown: what looks like a secret is hidden, and long text is cut."""
    return {name: HIDDEN if _SECRETS.search(name) else _plain(value) for name, value in entry.items()}


def _plain(value: object) -> object:
    if isinstance(value, bool | int | float) or value is None:
        return value
    text = value if isinstance(value, str) else msgspec.json.encode(value).decode()
    for pattern, instead in _IN_TEXT:
        text = pattern.sub(instead, text)
    return text if len(text) <= LONGEST else f"{text[:LONGEST]}…"
