"""Alarms: which fire, which ended, and who did what about them. Pure."""

from collections.abc import Sequence
from typing import Any
from urllib.parse import quote

from skerry.dashboard.html import Html, card, empty, facts, h, join, moment, pill, score, table

Row = dict[str, Any]
RANK = {"critical": 0, "warning": 1, "info": 2}
TONES = {"critical": "bad", "warning": "warn", "info": "calm"}


def in_sight(rows: Sequence[Row]) -> list[Row]:
    """Those that fire and are not shelved, the severest first and of those the newest."""
    firing = [row for row in rows if row["state"] == "firing" and not row["shelved"]]
    newest = sorted(firing, key=lambda row: str(row["since"]), reverse=True)
    return sorted(newest, key=lambda row: RANK.get(str(row.get("severity")), 1))


def alarms(answer: Row) -> Html:
    """All that the node tells: in sight, shelved, ended."""
    rows = answer["alarms"]
    shelved = [row for row in rows if row["state"] == "firing" and row["shelved"]]
    ended = [row for row in rows if row["state"] != "firing"]
    rest = None if answer["complete"] else h("p", "The log is still being read: there may be more.", class_="soft")
    seen = in_sight(rows)
    none = empty("No alarm is firing.", "A pipeline with a rule raises one when its score passes the bound.")
    return join(
        [
            h("header", h("h1", "Alarms"), rest, class_="page-head"),
            card("Firing", listed("Firing", seen) if seen else none, wide=True),
            card("Shelved", listed("Shelved", shelved), wide=True) if shelved else None,
            card("Ended", listed("Ended", ended[:50]) if ended else empty("None has ended yet."), note="the last 50", wide=True),
        ]
    )


def listed(caption: str, rows: Sequence[Row]) -> Html:
    """A row an alarm."""
    return table(
        caption, ("Severity", "Device", "What", "Score", "Pipeline", "Since (UTC)", "Seen by"),
        [
            (
                pill(row.get("severity") or "alarm", TONES.get(str(row.get("severity")), "warn")),
                h("a", row["key"], href=f"/alarms/{quote(str(row['alarm_id']), safe='')}"), row.get("label") or "–",
                score(row.get("score")), row["pipeline"], moment(row["since"]),
                (row["acknowledged"] or {}).get("by") or "nobody yet",
            )
            for row in rows
        ], (3,),
    )  # fmt: skip


def alarm(row: Row) -> Html:
    """One alarm, and what was done about it."""
    firing = row["state"] == "firing"
    state = pill("firing", TONES.get(str(row.get("severity")), "warn")) if firing else pill("ended", "good")
    shown = facts(
        [
            ("Severity", row.get("severity") or "–"), ("What", row.get("label") or "–"), ("Score", score(row.get("score"))),
            ("Pipeline", h("a", row["pipeline"], href=f"/pipelines/{quote(row['pipeline'], safe='')}")),
            ("Since (UTC)", moment(row["since"])), ("Last window (UTC)", moment(row["last"])),
        ]
    )  # fmt: skip
    done = [("Acknowledged", row["acknowledged"]), ("Shelved", row["shelved"])]
    done += [("Comment", each) for each in row["comments"]]
    rows = [
        (what, each["by"], moment(each["at"]), each.get("comment") or "–", moment(each.get("until")))
        for what, each in done if each
    ]  # fmt: skip
    heads = ("What", "Who", "When (UTC)", "Comment", "Until (UTC)")
    told = table("What was done", heads, rows) if rows else empty("Nobody has done anything about it yet.")
    return join(
        [
            h("header", h("h1", row["key"]), h("p", state), class_="page-head"),
            card("Alarm", shown, wide=True),
            card("What was done", told, wide=True),
        ]
    )
