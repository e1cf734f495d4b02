"""Reading the log itself in pages: the messages that devices sent and that are not yet trimmed, as they arrived."""

import base64
from typing import Any

from skerry.broker import LOG, Stored, ends, read_page, sequence_at
from skerry.core.clock import SECOND, from_rfc3339, to_rfc3339
from skerry.node.link import Link
from skerry.node.outputs import sequence_of
from skerry.pipeline import RETRY_PREFIX, filter_matches, topic_of

Row = dict[str, Any]
LOOKED_AT = 500
LOOKED_AT_BYTES = 4 * 1024 * 1024
"""Messages, and about their bytes, that one page looks at: the log is read without filters, in the order of arrival."""


class Backlog:
    """The log over the node's connection. Raises `UnavailableError` while there is none."""

    def __init__(self, link: Link) -> None:
        self._link = link

    async def messages(self, topic: str, since: int | None, limit: int, after: str | None) -> Row:
        """`{messages, next, through, oldest, trimmed}`: those on a topic filter of the next ones in the log.

        A page may be empty while there is a next; `through` is the arrival of the last one looked at, `oldest` that of the first
        in the log, before which some were given back if `trimmed`. `since`: arrival in microseconds.
        """
        begin = sequence_of(after) if after is not None else 0
        first = await read_page(self._link.looking, LOG, ">", 0, 1)
        if after is None and since is not None and first:
            found = await sequence_at(self._link.looking, LOG, to_rfc3339(since))
            begin = (await ends(self._link.looking, LOG))[1] if found is None else found - 1
        page = await read_page(self._link.looking, LOG, ">", begin, LOOKED_AT, most_bytes=LOOKED_AT_BYTES)
        rows: list[Row] = []
        through: Stored | None = None
        for stored in page:
            if len(rows) == limit:
                break
            through = stored
            of = topic_of(stored.subject.encode())
            # what is tried again is there already, as it came at first
            if not stored.subject.startswith(RETRY_PREFIX) and filter_matches(topic, of):
                rows.append(_shown(stored, of))
        return {
            "messages": rows,
            "next": None if through is None else str(through.sequence),
            "through": None if through is None else _seconds(through),
            "oldest": _seconds(first[0]) if first else None,
            "trimmed": (first[0].sequence if first else self._link.last_sequence + 1) > 1,
        }


def _seconds(stored: Stored) -> float:
    # a float holds the microseconds of Unix seconds exactly
    return from_rfc3339(stored.headers["nats-time-stamp"]) / SECOND


def _shown(stored: Stored, topic: str) -> Row:
    """A line of the files that `pipeline test` reads."""
    row: Row = {"sequence": stored.sequence, "at": _seconds(stored), "topic": topic}
    try:
        text = stored.payload.decode()
    except UnicodeDecodeError:
        text = "base64:"
    if text.startswith("base64:"):  # in a file that would be taken for what it says
        return {**row, "payload_base64": base64.b64encode(stored.payload).decode()}
    return {**row, "payload": text}
