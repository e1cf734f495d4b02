"""Models: their versions, what each does now, drift, and what happened to them. Pure."""

from collections.abc import Sequence
from typing import Any
from urllib.parse import quote

from skerry.dashboard.html import Html, card, count, empty, facts, h, join, moment, ms, percent, pill, score, size, table

Row = dict[str, Any]


STATES = {"active": "good", "failed": "bad"}


def models(rows: Sequence[Row]) -> Html:
    """All versions of all models."""
    if not rows:
        body = empty("There is no model yet.", "Add one below, or on the node: skerry model add NAME FILE")
    else:
        body = _versions(rows, linked=True)
    return card("All models", body, wide=True)


def _versions(rows: Sequence[Row], linked: bool = False) -> Html:
    shown = []
    for row in rows:
        called = f"{row['name']}@{row['version']}"
        name: Html = h("a", called, href=f"/models/{quote(row['name'], safe='')}") if linked else h("b", row["version"])
        state = "active" if row.get("active") else row.get("state") or "staged"
        trial = ms(row["latency_ms"]) if row.get("latency_ms") else "–"
        trouble = row.get("error") or row.get("reason") or ", ".join(row.get("warnings") or []) or "–"
        tensors = _tensors(row.get("inputs")), _tensors(row.get("outputs"))
        shown.append((name, pill(state, STATES.get(state, "calm")), *tensors, trial, trouble))
    return table("Versions", ("Version", "State", "Inputs", "Outputs", "Trial, one row", "Trouble"), shown, (4,))


def _tensors(found: object) -> str:
    rows = found if isinstance(found, list) else []
    return ", ".join(f"{row['name']} {row['dtype']}{_shape(row['shape'])}" for row in rows) or "–"


def _shape(shape: Sequence[object]) -> str:
    return f"[{', '.join('N' if each is None else str(each) for each in shape)}]"


def head(row: Row) -> Html:
    """Its name, what is active and what is watched."""
    active = row.get("active")
    state = pill(f"active: {active}", "good") if active else pill("none is active", "warn")
    shadow = row.get("shadow")
    beside = [pill(f"in the shadow: {shadow['version']}", "calm")] if shadow else []
    probation = [pill("watched: it goes back if it is worse", "warn")] if row.get("on_probation") else []
    return h("header", h("h1", row["name"]), h("p", state, " ", *beside, " ", *probation), class_="page-head")


def model(row: Row) -> Html:
    """One model: versions, what runs, the shadow, drift and history."""
    runs = [
        (
            f"{each['model']}@{each['version']}", count(each["runs"]), count(each["rows"]), _a_row(each), count(each["errors"]),
            count(each.get("nan", 0)), size(each["memory"]),
        )
        for each in row.get("running") or []
    ]  # fmt: skip
    heads = ("Version", "Runs", "Rows", "Time a row", "Errors", "Not a number", "Memory")
    running = table("What runs", heads, runs, range(1, 7)) if runs else empty("No worker has loaded it.")
    history = [
        (moment(each["at"]), each["what"], each["version"], each.get("reason") or "–")
        for each in reversed(row.get("history") or [])
    ]
    told = table("History", ("When (UTC)", "What", "Version", "Why"), history) if history else empty("Nothing has happened to it.")
    return join(
        [
            card("Versions", _versions(row.get("versions") or []), wide=True),
            card("What runs", running, note="since the workers started", wide=True),
            card("Shadow", _shadow(row["shadow"]), wide=True) if row.get("shadow") else None,
            card("Drift", _drift(row.get("drift") or {}), wide=True),
            card("History", told, wide=True),
        ]
    )


def _a_row(row: Row) -> str:
    return ms(1000 * row["seconds_per_row"]) if row.get("seconds_per_row") is not None else "–"


def _shadow(found: Row) -> Html:
    """How a version that runs beside the active one compares with it."""
    return facts(
        [
            ("Version", found["version"]), ("Against", found.get("against") or "–"), ("Rows compared", count(found.get("rows"))),
            ("Mean difference of scores", score(found.get("mean_difference"))),
            ("Largest difference", score(found.get("max_difference"))), ("Same label", percent(found.get("label_agreement"))),
            ("Errors", count(found.get("errors"))), ("Time a row", _a_row(found)), ("Trouble", found.get("failure") or "–"),
        ]
    )  # fmt: skip


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
