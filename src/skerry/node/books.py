"""The ledgers of pipelines: an empty one, and several as one."""

from typing import Any

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
