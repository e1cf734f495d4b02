"""The cluster: members, who leads, what runs where, who waits to be let in, and what changed. Pure."""

from collections.abc import Mapping, Sequence
from typing import Any

from skerry.dashboard.html import NONE, Html, card, count, empty, facts, h, join, moment, pill, table

Row = dict[str, Any]
TONES = {"Online": "good", "Suspect": "warn", "Joining": "calm", "Maintenance": "calm", "Offline": "bad"}
WORDS = {"Maintenance": "drained"}
MOST_CHANGES = 20


def alone() -> Html:
    """In the place of all of it, on a node that is in none."""
    mend = "With [cluster] enabled = true in skerry.toml several boxes work as one: docs/cluster.md."
    return card("Cluster", empty("One node, no cluster.", mend), wide=True)


def state(found: Row) -> Html:
    """The cluster in a sentence, and who leads."""
    since = found.get("no_quorum_since")
    unplaced = found.get("unplaced") or []
    shown: list[tuple[str, object]] = [
        ("Name", found.get("name") or NONE), ("Leader", found.get("leader") or "nobody is known to lead"),
        ("Epoch", count(found.get("epoch"))), ("Nodes", count(found.get("nodes"))),
        ("This node's address", found.get("address") or NONE),
    ]  # fmt: skip
    if unplaced:
        shown.append(("Work without a place", ", ".join(str(each) for each in unplaced)))
    trouble = h("p", pill("no quorum", "bad"), " since ", moment(since), ": nothing moves until most nodes are there again.")
    sentence = str(found.get("sentence") or "")
    words = h("p", f"{sentence[:1].upper()}{sentence[1:]}.") if sentence else None
    return card("State", trouble if since else None, words, facts(shown), wide=True)


def members(rows: Sequence[Row]) -> Html:
    """A row a node, and what runs on it."""
    if not rows:
        return card("Members", empty("No members are known."), wide=True)
    shown = []
    for row in rows:
        status = str(row.get("status"))
        leads: list[object] = [" ", pill("leads", "calm")] if row.get("leader") else []
        runs = row.get("partitions") or []
        more = [row["reason"]] if row.get("reason") else []
        shown.append(
            (
                h("span", h("b", row.get("id")), *leads), h("span", pill(WORDS.get(status, status), TONES.get(status, "warn"))),
                row.get("address") or NONE, count(len(runs)), ", ".join(str(each) for each in runs) or NONE,
                row.get("version") or NONE, moment(row.get("started")), ", ".join(more) or NONE,
            )
        )  # fmt: skip
    heads = ("Node", "Status", "Address", "Units", "What runs there", "Version", "Started (UTC)", "Why")
    return card("Members", table("Members", heads, shown, (3,)), wide=True)


def pending(rows: Sequence[Row]) -> Html:
    """Who waits to be let in, with the code that its screen must show too."""
    if not rows:
        return Html("")
    shown = [(h("b", row.get("node")), row.get("address") or NONE, h("code", row.get("code"))) for row in rows]
    note = "let one in only where its own screen shows the same code"
    return card("Waiting to be let in", table("Waiting to be let in", ("Node", "Address", "Code"), shown), note=note, wide=True)


def changes(rows: Sequence[Row]) -> Html:
    """What changed, the newest first."""
    if not rows:
        return card("Changes", empty("Nothing has changed since this node started."), wide=True)
    shown = [
        (moment(row.get("at")), row.get("node") or NONE, row.get("kind") or NONE, _move(row), row.get("reason") or NONE)
        for row in list(reversed(rows))[:MOST_CHANGES]
    ]
    heads = ("When (UTC)", "Node", "What", "From, to", "Why")
    return card("Changes", table("Changes", heads, shown), note=f"the last {MOST_CHANGES}", wide=True)


def _move(row: Mapping[str, Any]) -> Html:
    before, after = row.get("before") or NONE, row.get("after") or NONE
    return join([before, " → ", after])
