"""Pipelines: the way of a message as a picture with figures on its arrows, scores against their bound, and dead letters. Pure."""

from collections.abc import Mapping, Sequence
from typing import Any

from skerry.core.clock import from_rfc3339
from skerry.dashboard.html import Html, card, count, empty, facts, h, join, moment, ms, pill, rate, score, size, table
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


def flow(row: Row) -> Html:
    """Source, window, model, rule and sinks; on each arrow what goes along it."""
    config, books = row["config"], row["ledger"]
    source, window, rule = config["source"], config["window"], config.get("rule")
    dead = sum(books["dead_letters"].values())
    boxes: list[tuple[str, str, str]] = [("Source", source["topic"], f"{source['format']}, {count(row['keys'])} devices")]
    arrows = [f"{rate(row['rate'])}, {count(row['lag'])} waiting, {count(dead)} dead"]
    boxes.append(("Window", _window(window), f"{count(books['open'])} messages in open windows"))
    arrows.append(f"{count(row['windows'])} windows, {count(books.get('late_samples'))} late")
    boxes.append(("Model", row.get("model") or "none: the first feature is the score", _features(config.get("features"))))
    arrows.append(f"p50 {ms(row['latency_ms']['p50'])}, p99 {ms(row['latency_ms']['p99'])}")
    boxes.append(("Rule", _rule(rule), _patience(rule)))
    arrows.append(f"{count(row['events'])} events")
    boxes.append(("Sinks", ", ".join(sink["kind"] for sink in config["sinks"]) or "event", ""))
    parts: list[Html] = []
    for at, (name, what, more) in enumerate(boxes):
        inside = [h("b", name), h("span", what), h("span", more, class_="soft") if more else None]
        parts.append(h("li", *inside, class_="box"))
        if at < len(arrows):
            parts.append(h("li", h("span", arrows[at]), class_="arrow"))
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


def scores(events: Sequence[Row], rule: Mapping[str, Any] | None) -> Html:
    """The last events' scores, a line a device, and the bound of the rule."""
    keys = list(dict.fromkeys(event["key"] for event in events))[:MOST_KEYS]
    if not keys:
        return empty("There is no event yet.", "One comes when the rule decides, or, without a rule, when a window closes.")
    lines = [
        Line(key, [(from_rfc3339(event["end"]) / 1e6, event["score"]) for event in events if event["key"] == key], str(at))
        for at, key in enumerate(keys)
    ]
    times = [at for line in lines for at, _ in line.points]
    bound = (rule or {}).get("above") if (rule or {}).get("above") is not None else (rule or {}).get("below")
    if bound is not None and (rule or {}).get("field") == "score":
        lines.append(Line(f"bound {bound:g}", [(min(times), bound), (max(times), bound)], "threshold"))
    return plot(lines, "Scores of the last events", "score", zero=True)


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


def letters(rows: Sequence[Row], more: bool) -> Html:
    """Dead letters, oldest first."""
    if not rows:
        return empty("There are no dead letters.", "What cannot be decoded, comes too late or fails in the model is kept here.")
    shown = [(row["reason"], row["topic"], h("code", _payload(row)), row["detail"], moment(row["at"])) for row in rows]
    note = h("p", "There are more; these are the oldest.", class_="soft") if more else None
    return join([table("Dead letters", ("Reason", "Topic", "Payload", "Why", "When (UTC)"), shown), note])


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
