"""The node beside its pipelines: uplink and storage. Pure."""

from typing import Any

from skerry.dashboard.html import NONE, Html, card, count, empty, facts, h, join, moment, pill, size, table, topic
from skerry.dashboard.overview import processes_table, resources

Row = dict[str, Any]


def titled(title: str, *parts: Html) -> Html:
    """A page's heading and its parts."""
    return join([h("header", h("h1", title), class_="page-head"), *parts])


def _shown(value: object) -> object:
    if isinstance(value, bool):
        return "yes" if value else "no"
    if isinstance(value, list):
        return ", ".join(str(each) for each in value) or "–"
    if isinstance(value, dict):
        return ", ".join(f"{key} {each}" for key, each in value.items()) or "–"
    return "–" if value is None or value == "" else f"{value:,}" if isinstance(value, int) else value


def _named(row: Row) -> Html:
    """All that a part says of itself, with bytes as sizes."""
    shown = []
    for key, value in row.items():
        if key == "sentence":
            continue
        number = isinstance(value, int | float) and not isinstance(value, bool)
        words = key.replace("_", " ")
        shown.append((words[:1].upper() + words[1:], size(value) if number and "bytes" in key else _shown(value)))
    return facts(shown)


def uplink(found: Row) -> Html:
    """The link to the centre, and this node as a centre."""
    own, received = found.get("uplink"), found.get("received")
    if not own:
        mend = 'Set uplink.url in skerry.toml, and the sink "uplink" in a pipeline.'
        body = card("Link", empty("This node sends nothing to a centre.", mend), wide=True)
    else:
        word = "paused" if own.get("paused") else "held up" if own.get("trouble") else "on"
        state = pill(word, "good" if word == "on" else "warn")
        body = join([card("Link", h("p", state, f" {own.get('sentence', '')}"), facts(_link(own)), wide=True), *_flows(own)])
    centre = card("Received from other nodes", _named(received), wide=True) if received else Html("")
    return titled("Uplink", body, centre)


def _link(own: Row) -> list[tuple[str, object]]:
    queue = own.get("queue") or {}
    full = f"{size(queue['bytes'])} of {size(queue['limit'])}" if queue else NONE
    gone = f"{count(queue['thinned'])} thinned, {count(queue['dropped'])} dropped" if queue else NONE
    return [
        ("Kind", own.get("kind") or NONE), ("Where", topic(str(own.get("where") or NONE))),
        ("Last envelope (UTC)", moment(own.get("last"))), ("Sent", size(own.get("bytes_sent"))),
        ("Waiting", count(own.get("waiting"))), ("Queue", full), ("Of a full queue", gone),
        ("Trouble", own.get("trouble") or "none"),
    ]  # fmt: skip


def _flows(own: Row) -> list[Html]:
    """What goes by each priority, and what did not have to."""
    lanes = [
        (h("b", name), *[count(each[key]) for key in ("waiting", "items", "envelopes")], size(each["bytes"]), count(each["failed"]))
        for name, each in (own.get("lanes") or {}).items()
    ]
    heads = ("Priority", "Waiting", "Items sent", "Envelopes", "Bytes", "Tried again")
    saved = own.get("saved") or {}
    flows = [
        (h("b", name), count(each["messages"]), size(each["bytes_in"]), _sizes(each["queued"]), _sizes(each["saved"]))
        for name, each in (saved.get("pipelines") or {}).items()
    ]
    rules = ", ".join(f"{rule} {count(number)}" for rule, number in (saved.get("withheld") or {}).items()) or "nothing"
    found = [card("By priority", table("By priority", heads, lanes, range(1, 6)), wide=True)] if lanes else []
    if flows:
        what = ("Pipeline", "Messages", "Came in", "To be sent", "Saved by rule")
        drawn = table("What leaves of each pipeline", what, flows, (1, 2))
        found.append(card("What leaves", drawn, h("p", f"Withheld: {rules}.", class_="soft"), wide=True))
    return found


def _sizes(found: Row) -> str:
    return ", ".join(f"{name} {size(number)}" for name, number in found.items()) or NONE


def storage(status: Row) -> Html:
    """The disk, part by part; memory, CPU and processes."""
    found = status.get("storage") or {}
    parts = [
        (
            h("b", part["name"]), size(part["bytes"]), size(part["limit"]) if part.get("limit") else "–", _meter(part),
            part.get("when_full") or "–",
        )
        for part in found.get("parts") or []
    ]  # fmt: skip
    given = ", ".join(f"{count(number)} bytes of {what}" for what, number in (found.get("given_up") or {}).items() if number)
    return titled(
        "Storage",
        card(
            "Disk", h("p", found.get("sentence", "")), h("p", f"Given up: {given or 'nothing'}.", class_="soft"),
            table("Parts of the disk", ("Part", "Taken", "Of", "Fill", "When it is full"), parts, (1, 2)), wide=True,
        ),
        card("Memory, CPU, network", resources(status), wide=True),
        card("Processes", processes_table(status.get("processes") or []), wide=True),
    )  # fmt: skip


def _meter(part: Row) -> Html:
    if not part.get("limit"):
        return Html("–")
    ratio = min(1.0, part["bytes"] / part["limit"])
    return h("span", h("i", style=f"width:{100 * ratio:.1f}%"), class_="meter", role="img", aria_label=f"{100 * ratio:.1f} % full")
