"""HTML for notebooks (`_repr_html_`): tables of plain values, escaped, without scripts, styles or anything fetched."""

import math
from collections.abc import Iterable, Sequence
from html import escape
from typing import Any

_MOST_ROWS = 100


def shown(value: Any) -> str:
    """A value as text: four digits of a fraction, thousands of a count, a dash for nothing."""
    if value is None or (isinstance(value, float) and math.isnan(value)):
        return "–"
    if isinstance(value, bool):
        return "yes" if value else "no"
    if isinstance(value, int):
        return f"{value:,}"
    return f"{value:.4g}" if isinstance(value, float) else str(value)


def table(title: str, columns: Sequence[str], rows: Iterable[Sequence[Any]]) -> str:
    """A table with a caption; of more than 100 rows the rest is counted. Without columns the first cell of a row is its head."""
    every = list(rows)
    head = f"<thead><tr>{''.join(f'<th>{escape(name)}</th>' for name in columns)}</tr></thead>" if columns else ""
    body = "".join(_row(row, heads=not columns) for row in every[:_MOST_ROWS])
    more = f"<p>and {len(every) - _MOST_ROWS:,} more</p>" if len(every) > _MOST_ROWS else ""
    return f"<table><caption>{escape(title)}</caption>{head}<tbody>{body}</tbody></table>{more}"


def _row(cells: Sequence[Any], heads: bool) -> str:
    made = [f"<td>{escape(shown(cell))}</td>" for cell in cells]
    if heads and made:
        made[0] = f"<th>{escape(shown(cells[0]))}</th>"
    return f"<tr>{''.join(made)}</tr>"
