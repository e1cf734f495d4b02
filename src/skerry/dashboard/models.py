"""Models: their versions, what each does now, drift, and what happened to them. Pure."""

from collections.abc import Sequence
from typing import Any
from urllib.parse import quote

from skerry.dashboard.html import Html, card, count, empty, h, join, moment, ms, pill, size, table

Row = dict[str, Any]


def models(rows: Sequence[Row]) -> Html:
    """All versions of all models."""
    if not rows:
        return card("All models", empty("There is no model yet.", "Add one: skerry model add NAME FILE"), wide=True)
    shown = [
        (
            h("a", f"{row['name']}@{row['version']}", href=f"/models/{quote(row['name'], safe='')}"),
            pill("active", "good") if row.get("active") else pill(row.get("state") or "staged", "calm"),
            _tensors(row.get("inputs")), _tensors(row.get("outputs")), row.get("error") or "–",
        )
        for row in rows
    ]  # fmt: skip
    return card("All models", table("Models", ("Version", "State", "Inputs", "Outputs", "Trouble"), shown), wide=True)


def _tensors(found: object) -> str:
    rows = found if isinstance(found, list) else []
    return ", ".join(f"{row['name']} {row['dtype']}{_shape(row['shape'])}" for row in rows) or "–"


def _shape(shape: Sequence[object]) -> str:
    return f"[{', '.join('N' if each is None else str(each) for each in shape)}]"


def model(row: Row) -> Html:
    """One model: what runs, drift and history."""
    runs = [
        (
            f"{each['model']}@{each['version']}", count(each["runs"]), count(each["rows"]),
            ms(1000 * each["seconds_per_row"]) if each.get("seconds_per_row") is not None else "–", count(each["errors"]),
            size(each["memory"]),
        )
        for each in row.get("running") or []
    ]  # fmt: skip
    heads = ("Version", "Runs", "Rows", "Time a row", "Errors", "Memory")
    running = table("What runs", heads, runs, range(1, 6)) if runs else empty("No worker has loaded it.")
    shadow = row.get("shadow")
    history = [
        (moment(each["at"]), each["what"], each["version"], each.get("reason") or "–")
        for each in reversed(row.get("history") or [])
    ]
    told = table("History", ("When (UTC)", "What", "Version", "Why"), history) if history else empty("Nothing has happened to it.")
    return join(
        [
            h("header", h("h1", row["name"]), h("p", pill(f"active: {row.get('active')}", "good")), class_="page-head"),
            card("What runs", running, note=f"shadow: {shadow}" if shadow else None, wide=True),
            card("Drift", _drift(row.get("drift") or {}), wide=True),
            card("History", told, wide=True),
        ]
    )


def _drift(found: dict[str, Any]) -> Html:
    if not found:
        return empty("No pipeline reports drift of it.")
    rows = []
    for name, each in found.items():
        worst = sorted((each.get("psi") or {}).items(), key=lambda pair: -pair[1])[:5]
        state = pill("drifting", "warn") if each.get("firing") else pill(each.get("source") or "steady", "good")
        psi = ", ".join(f"{feature} {value:.2f}" for feature, value in worst) or "–"
        rows.append((name, state, count(each.get("reference_rows")), count(each.get("rows")), f"{each.get('bound')}", psi))
    heads = ("Pipeline", "State", "Reference rows", "Rows compared", "Bound", "Largest PSI")
    return table("Drift of the features", heads, rows, (2, 3, 4))
