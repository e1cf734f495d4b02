"""Pipelines: the way of a message as a picture with figures on its arrows, scores against their bound, and dead letters. Pure."""

from collections.abc import Mapping, Sequence
from typing import Any

from skerry.core.clock import from_rfc3339
from skerry.dashboard.html import NONE, Html, card, count, empty, facts, h, join, moment, ms, pill, rate, score, size, table, topic
from skerry.dashboard.overview import STATES, pipelines_table
from skerry.dashboard.plot import Line, plot

Row = dict[str, Any]
MOST_KEYS = 6
SHOWN = 160


def pipelines(rows: Sequence[Row]) -> Html:
    """All of them."""
    return join([h("header", h("h1", "Pipelines"), class_="page-head"), card("All pipelines", pipelines_table(rows), wide=True)])


def pipeline_head(row: Row) -> Html:
    """Name and state, and why it does not run where it does not."""
    reason = f" {row['reason']}" if row.get("reason") else ""
    state = pill(row["state"], STATES.get(row["state"], "warn"))
    return h("header", h("h1", row["name"]), h("p", state, reason, h("span", f" {_steps(row)}", class_="soft")), class_="page-head")


def _steps(row: Row) -> str:
    shed = row.get("shed")
    return f"degraded: {', '.join(shed)}" if isinstance(shed, list) and shed else ""


# Dead letters that come of scoring; all others are of what came.
_SCORING = frozenset({"feature-error", "model-error", "score-nan", "poison"})


def flow(row: Row, sinks: Sequence[Row] = ()) -> Html:
    """Source, window, model, rule and sinks; on each arrow what goes along it, how long it takes, and what goes wrong."""
    config, books = row["config"], row["ledger"]
    source, window, rule = config["source"], config["window"], config.get("rule")
    dead = books["dead_letters"]
    failed = sum(number for reason, number in dead.items() if reason in _SCORING)
    refused, late = sum(dead.values()) - failed, books.get("late_samples") or 0
    waiting = sum(int(sink.get("waiting") or 0) for sink in sinks)
    trouble = next((str(sink["failure"]) for sink in sinks if sink.get("failure")), "")
    boxes: list[tuple[str, object, str]] = [
        ("Source", topic(source["topic"]), f"{source['format']}, {count(row['keys'])} devices"),
        ("Window", _window(window), f"{count(books['open'])} messages in open windows"),
        ("Model", row.get("model") or "none: the first feature is the score", _features(config.get("features"))),
        ("Rule", _rule(rule), _patience(rule)),
        ("Sinks", ", ".join(sink["kind"] for sink in config["sinks"]) or "event", ""),
    ]
    arrows: list[list[tuple[str, bool]]] = [
        [(rate(row["rate"]), False), (f"{count(row['lag'])} waiting", False), (f"{count(refused)} refused", refused > 0)],
        [(f"{count(row['windows'])} windows", False), (f"{count(late)} late", late > 0)],
        [
            (f"p50 {ms(row['latency_ms']['p50'])}", False), (f"p99 {ms(row['latency_ms']['p99'])}", False),
            (f"{count(failed)} failed", failed > 0),
        ],
        [(f"{count(row['events'])} events", False), (f"{count(waiting)} waiting", False), (trouble, True)],
    ]  # fmt: skip
    parts: list[Html] = []
    for at, (name, what, more) in enumerate(boxes):
        inside = [h("b", name), h("span", what), h("span", more, class_="soft") if more else None]
        parts.append(h("li", *inside, class_="box"))
        if at < len(arrows):
            lines = [h("span", words, class_="wrong" if wrong else None) for words, wrong in arrows[at] if words]
            parts.append(h("li", h("span", *lines, class_="on"), class_="arrow"))
    return h("ol", *parts, class_="flow", aria_label="The way of a message")


def _window(window: Mapping[str, Any]) -> str:
    kind = str(window["kind"])
    every = f" every {window['every']}" if window.get("every") else ""
    return kind if kind == "none" else f"{kind} {window.get('gap') if kind == 'session' else window.get('size')}{every}"


def _features(features: object) -> str:
    return ", ".join(str(each) for each in features) if isinstance(features, list) else str(features or "raw samples")


def _rule(rule: Mapping[str, Any] | None) -> str:
    if not rule:
        return "none: each window is an event"
    bound = f"above {rule['above']:g}" if rule.get("above") is not None else f"below {rule['below']:g}"
    return f"{rule['field']} {bound}"


def _patience(rule: Mapping[str, Any] | None) -> str:
    return f"{rule['severity']}, for {rule['for']}" if rule else ""


def scores(windows: Sequence[Row], rule: Mapping[str, Any] | None) -> Html:
    """The last windows' scores, a line a device, and the bounds of the rule."""
    keys = list(dict.fromkeys(window["key"] for window in reversed(windows)))
    if not keys:
        return empty("No window was scored yet.", "One is when it closes: its time is over, or it is full.")
    lines = [
        Line(key, [(from_rfc3339(window["end"]) / 1e6, window["score"]) for window in windows if window["key"] == key], str(at))
        for at, key in enumerate(sorted(keys[:MOST_KEYS]))
    ]
    times = [at for line in lines for at, _ in line.points]
    drawn = [*lines, *[_bound(name, at, times) for name, at in _bounds(rule)]]
    rest = len(keys) - MOST_KEYS
    more = h("p", f"Of {count(len(keys))} devices, the {MOST_KEYS} that were scored last.", class_="soft") if rest > 0 else None
    return join([plot(drawn, "Scores of the last windows", "score", zero=True), more])


def _bounds(rule: Mapping[str, Any] | None) -> list[tuple[str, float]]:
    """Where the rule fires and where it clears, where it looks at the score."""
    if not rule or rule.get("field") != "score":
        return []
    fires = rule.get("above") if rule.get("above") is not None else rule.get("below")
    clears = rule.get("clear_below") if rule.get("above") is not None else rule.get("clear_above")
    found = [] if fires is None else [("fires", float(fires))]
    return found + ([("clears", float(clears))] if clears is not None and clears != fires else [])


def _bound(name: str, at: float, times: Sequence[float]) -> Line:
    return Line(f"{name} at {at:g}", [(min(times), at), (max(times), at)], "threshold" if name == "fires" else "clear")


def last_events(events: Sequence[Row]) -> Html:
    """The newest events, newest first."""
    if not events:
        return Html("")
    rows = [
        (h("b", event["key"]), pill(event["state"], _tone(event)), event.get("label") or "–", score(event["score"]),
         count(event["count"]), ms(event.get("latency_ms")), moment(event["end"], day=False))
        for event in list(reversed(events))[:12]
    ]  # fmt: skip
    heads = ("Device", "State", "Label", "Score", "Samples", "Latency", "End of window (UTC)")
    return table("The newest events", heads, rows, (3, 4, 5))


def _tone(event: Row) -> str:
    return {"firing": "bad", "cleared": "good"}.get(str(event["state"]), "calm")


def letters(rows: Sequence[Row], more: bool, filtered: bool = False) -> Html:
    """Dead letters, oldest first, each with a box to choose it by."""
    if not rows and filtered:
        return empty("There are none of this reason and device.")
    if not rows:
        return empty("There are no dead letters.", "What cannot be decoded, comes too late or fails in the model is kept here.")
    shown = [
        (_box(row), row["topic"] or f"a window of {row['key']}", h("code", _payload(row)), row["detail"], moment(row["at"]))
        for row in rows
    ]
    heads = ("Reason", "Topic", "Payload", "Why", "When (UTC)")
    note = h("p", "There are more; these are the oldest.", class_="soft") if more else None
    return join([table("Dead letters", heads, shown, look="chosen", keys=[row["id"] for row in rows]), note])


def _box(row: Row) -> Html:
    box = h("input", type="checkbox", value=row["id"], aria_label=f"Choose {row['reason']} {row['id']}")
    return h("label", box, h("span", row["reason"]), class_="box")


def inside(rows: Sequence[Row]) -> Html:
    """All of some dead letters."""
    return join([card(f"Inside {row['id']}", _all_of(row), wide=True) for row in rows])


def _all_of(row: Row) -> Html:
    window = row.get("window") or {}
    about = [
        ("Reason", row["reason"]), ("Why", row["detail"]), ("Device", row["key"] or NONE), ("Topic", row["topic"] or NONE),
        ("Place in the log", count(row["sequence"])), ("When (UTC)", moment(row["at"])), ("Messages", count(row["messages"])),
    ]  # fmt: skip
    if window:
        about += [("Begin of the window (UTC)", moment(window["start"])), ("End", moment(window["end"])),
                  ("Samples", count(window["samples"]))]  # fmt: skip
        text = ", ".join(f"{value:g}" for value in window["values"])
    else:
        text = str(row.get("payload", row.get("payload_base64", ""))) or "It was not kept: it is empty, or too large."
    return join([facts(about), h("pre", text)])


def _payload(row: Row) -> str:
    text = str(row.get("payload", row.get("payload_base64", "")))
    return text[:SHOWN] + ("…" if len(text) > SHOWN else "") or "–"


def books(row: Row) -> Html:
    """Where all its messages are."""
    ledger = row["ledger"]
    dead = ", ".join(f"{reason} {count(number)}" for reason, number in ledger["dead_letters"].items()) or "none"
    return facts(
        [
            ("Received", count(ledger["received"])), ("Scored", count(ledger["scored"])),
            ("In open windows", count(ledger["open"])),
            ("Waiting", count(ledger["waiting"])), ("Duplicates", count(ledger["duplicates"])), ("Dead letters", dead),
            ("Not accounted for", count(ledger["difference"])), ("Bytes received", size(row["received_bytes"])),
            ("Device's time to event, p99", ms((row.get("age_ms") or {}).get("p99"))),
        ]
    )  # fmt: skip
