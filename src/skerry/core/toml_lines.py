"""On which line of a TOML file a key stands: tomllib does not keep it, and messages say it."""

import re
from collections import Counter
from collections.abc import Iterator

_STRING = re.compile(r'"(?:\\.|[^"\\])*"|\'[^\']*\'')
_HEADER = re.compile(r"\s*(\[\[?)([^\[\]#]+)\]\]?\s*(?:#.*)?")
_KEY = re.compile(r"\s*([\w-]+(?:\s*\.\s*[\w-]+)*)\s*=")
_PART = re.compile(r"[^.\[\]\s]+|\[\d+\]")
Path = tuple[str, ...]


def line_of(text: str, key: str) -> int:
    """The line, from 1 on, of a key such as `pipelines[0].window.kind`, or of the nearest one that it is part of; 0: there is none.

    What stands inside of an inline table or a list is found on the line on which that begins.
    """
    wanted = tuple(_PART.findall(key))
    best, found = 0, 0
    for line, there in _places(text):
        common = min(len(there), len(wanted))
        if common > best and wanted[:common] == there[:common]:
            best, found = common, line
    return found


def _places(text: str) -> Iterator[tuple[int, Path]]:
    """Each header and key: its line, and its whole path."""
    counts: Counter[Path] = Counter()
    table: Path = ()
    open_brackets, until = 0, ""
    for line, whole in enumerate(text.splitlines(), 1):
        if until:  # within a text of several lines
            until = "" if until in whole else until
            continue
        bare = _STRING.sub("_", whole).partition("#")[0]
        if not open_brackets:
            if (header := _HEADER.fullmatch(bare)) and "=" not in bare:
                table = _table(header[2], counts, new=header[1] == "[[")
                yield line, table
                continue
            if key := _KEY.match(bare):
                yield line, (*table, *_PART.findall(key[1]))
        open_brackets = max(0, open_brackets + sum(bare.count(mark) for mark in "[{") - sum(bare.count(mark) for mark in "]}"))
        until = next((mark for mark in ('"""', "'''") if whole.count(mark) % 2), "")


def _table(name: str, counts: Counter[Path], *, new: bool) -> Path:
    """The path of a header, with the number of each `[[…]]` on its way."""
    path: Path = ()
    parts = _PART.findall(name)
    for at, part in enumerate(parts):
        path = (*path, part)
        if new and at == len(parts) - 1:
            counts[path] += 1
        if counts[path]:
            path = (*path, f"[{counts[path] - 1}]")
    return path
