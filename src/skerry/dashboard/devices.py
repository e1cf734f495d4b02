"""Devices: who may connect, when they were last there, and what they were refused. Pure."""

from collections.abc import Mapping, Sequence
from typing import Any
from urllib.parse import quote

from skerry.dashboard.history import Stretch
from skerry.dashboard.html import Html, ago, card, count, empty, facts, h, join, moment, pill, score, size, table
from skerry.dashboard.plot import Line, Point, plot

Row = dict[str, Any]


def devices(rows: Sequence[Row], refused: Mapping[str, int], now: int) -> Html:
    """All devices, and how many log-ins were refused, by reason. `now`: microseconds."""
    if not rows:
        body: Html = empty("There is no device yet.", "Add one above: its password is shown once.")
    else:
        body = table(
            "Devices", ("Device", "State", "Last seen", "Proves itself by", "Added (UTC)"),
            [
                (
                    h("a", row["id"], href=f"/devices/{quote(row['id'], safe='')}"), _state(row),
                    ago(row.get("last_seen"), now), row["kind"], moment(row["created"]),
                )
                for row in rows
            ],
        )  # fmt: skip
    attempts = [(reason, count(number)) for reason, number in sorted(refused.items()) if number]
    shut = table("Refused log-ins", ("Reason", "Times"), attempts, (1,)) if attempts else empty("No log-in was refused.")
    there = sum(1 for row in rows if row.get("connected"))
    listed = card("All devices", body, note=f"{count(len(rows))} devices, {count(there)} connected", wide=True)
    return join([listed, card("Refused log-ins", shut, note=h("a", "Each in the log", href="/log"), wide=True)])


def _state(row: Row) -> Html:
    if row.get("revoked"):
        return pill("revoked", "bad")
    if row.get("connected") is None:
        return pill("may connect", "calm")
    return pill("connected", "good") if row["connected"] else pill("away", "calm")


def device(row: Row, now: int) -> Html:
    """One device. `now`: microseconds."""
    refused, last = row.get("refused") or {}, row.get("last_login") or {}
    shown: list[tuple[str, object]] = [("Last seen", ago(row.get("last_seen"), now))]
    if row.get("connected"):
        came = f"{count(row.get('messages'))}, {size(row.get('bytes'))}"
        shown += [("Connected since (UTC)", moment(row.get("since"))), ("Messages since then", came)]
    if last:
        shown += [("Last log-in (UTC)", moment(last.get("at"))), ("From", last.get("address") or "–")]
    shown += [("Proves itself by", row["kind"]), ("Added (UTC)", moment(row["created"]))]
    for name, key in (("Credential changed (UTC)", "rotated"), ("Revoked (UTC)", "revoked")):
        shown += [(name, moment(row[key]))] if row.get(key) else []
    shown += [
        ("Client ids", ", ".join(row.get("client_ids") or []) or "–"),
        ("Topics", h("span", *[h("code", topic, class_="topic") for topic in row["topics"]])),
        ("Refused publishes", count(refused.get("publish", 0))), ("Refused subscriptions", count(refused.get("subscribe", 0))),
        *([("Last refused", h("code", refused["last_topic"]))] if refused.get("last_topic") else []),
    ]  # fmt: skip
    head = h("header", h("h1", row["id"]), h("p", _state(row)), class_="page-head")
    return join([head, card("What is known", facts(shown), wide=True)])


def channels(found: Mapping[str, Sequence[Point]], stretch: Stretch, now: int, more: bool, trouble: str = "") -> Html:
    """A plot a channel over one stretch of time, so that they can be compared. `now`: Unix seconds."""
    if not found:
        mend = 'Give its pipeline the sink "history", or name its topic in [history] topics: then what it sends is drawn here.'
        return card("Channels", empty(f"{trouble}." if trouble else "Nothing of it is in the history yet.", mend), wide=True)
    begin, end = stretch.bounds(now)
    drawn = [_channel(name, points, str(at % 6), (float(begin), float(end))) for at, (name, points) in enumerate(found.items())]
    rest = h("p", "It has more: see ", h("a", "Data", href="/data"), ".", class_="soft") if more else None
    note = "the last five minutes, a mean a second"
    return card("Channels", h("div", *drawn, class_="stack"), rest, note=note, wide=True)


def _channel(name: str, points: Sequence[Point], tone: str, span: tuple[float, float]) -> Html:
    now = next((value for _, value in reversed(points) if value is not None), None)
    title = h("h3", name, h("span", score(now), class_="now"))
    if now is None:
        return h("div", h("h3", name), h("p", "nothing in the last five minutes", class_="soft"))
    return h("div", title, plot([Line("", points, tone)], name, "", height=128, span=span))


def attempts(entries: Sequence[Row] | None, trouble: str = "") -> Html:
    """What the device was refused, the newest first; None: this log-in may not know."""
    if entries is None:
        body = empty(f"{trouble}.")
    elif not entries:
        body = empty("Nothing was refused.")
    else:
        rows = [
            (moment(entry.get("timestamp")), entry["event"], entry.get("reason") or "–", entry.get("address") or "–")
            for entry in reversed(entries)
        ]
        body = table("Refused attempts", ("When (UTC)", "What", "Why", "From"), rows)
    return card("Refused attempts", body, wide=True)
