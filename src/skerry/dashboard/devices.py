"""Devices: who may connect, when they were last there, and what they were refused. Pure."""

from collections.abc import Mapping, Sequence
from typing import Any
from urllib.parse import quote

from skerry.dashboard.html import Html, card, count, empty, facts, h, join, moment, pill, table

Row = dict[str, Any]


def devices(rows: Sequence[Row], refused: Mapping[str, int]) -> Html:
    """All devices, and how many log-ins were refused, by reason."""
    if not rows:
        body: Html = empty("There is no device yet.", "Add one above: its password is shown once.")
    else:
        body = table(
            "Devices", ("Device", "State", "Proves itself by", "Added (UTC)"),
            [
                (
                    h("a", row["id"], href=f"/devices/{quote(row['id'], safe='')}"),
                    pill("revoked", "bad") if row.get("revoked") else pill("may connect", "good"),
                    row["kind"], moment(row["created"]),
                )
                for row in rows
            ],
        )  # fmt: skip
    attempts = [(reason, count(number)) for reason, number in sorted(refused.items())]
    shut = table("Refused log-ins", ("Reason", "Times"), attempts, (1,)) if attempts else empty("No log-in was refused.")
    listed = card("All devices", body, note=f"{count(len(rows))} devices", wide=True)
    return join([listed, card("Refused log-ins", shut, wide=True)])


def device(row: Row) -> Html:
    """One device."""
    refused, last = row.get("refused") or {}, row.get("last_login") or {}
    state = pill("revoked", "bad") if row.get("revoked") else pill("may connect", "good")
    return join(
        [
            h("header", h("h1", row["id"]), h("p", state), class_="page-head"),
            card(
                "What is known", facts(
                    [
                        ("Last log-in (UTC)", moment(last.get("at"))), ("From", last.get("address") or "–"),
                        ("Proves itself by", row["kind"]), ("Added (UTC)", moment(row["created"])),
                        ("Credential changed (UTC)", moment(row.get("rotated"))), ("Revoked (UTC)", moment(row.get("revoked"))),
                        ("Refused publishes", count(refused.get("publish", 0))),
                        ("Refused subscriptions", count(refused.get("subscribe", 0))),
                        ("Client ids", ", ".join(row.get("client_ids") or []) or "–"),
                    ]
                ), wide=True,
            ),
            card("Topics", h("ul", *[h("li", h("code", topic)) for topic in row["topics"]], class_="plain"), wide=True),
        ]
    )  # fmt: skip
