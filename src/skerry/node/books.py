"""The ledgers of pipelines: an empty one, and several as one; and the last windows of several workers in their order."""

from collections.abc import Iterable
from typing import Any

from skerry.core.clock import to_rfc3339

Row = dict[str, Any]


def no_books() -> Row:
    names = ("received", "scored", "open", "waiting", "duplicates", "shed", "difference", "late_samples", "given_up")
    return {**dict.fromkeys(names, 0), "dead_letters": {}, "windows": 0}


def sum_books(all_books: list[Row]) -> Row:
    """The ledgers of several pipelines as one."""
    total = no_books()
    for books in all_books:
        for name, value in books.items():
            if name == "dead_letters":
                for reason, count in value.items():
                    total["dead_letters"][reason] = total["dead_letters"].get(reason, 0) + count
            else:
                total[name] += value
    return total


def last_windows(parts: Iterable[Iterable[tuple[str, int, float]]]) -> list[Row]:
    """The windows that workers told of, by their ends, oldest first."""
    found = sorted((window for part in parts for window in part), key=lambda window: window[1])
    return [{"key": key, "end": to_rfc3339(end), "score": score} for key, end, score in found]
