"""Bundles of a node that runs, asked over its API: taken in, applied, and waited for."""

import time
from collections.abc import Callable
from pathlib import Path
from typing import Any
from urllib.parse import quote

from skerry.core.errors import RejectedError, UnavailableError
from skerry.http import Client, UnreachableError

AT = "/api/v1/bundles"
POLL_S = 0.5
AWAY_S = 120.0
"""A node that does not answer for so long is given up: it may be starting again."""
MOST_BYTES = 64 * 1024 * 1024
_OUTCOMES = ("kept", "rolled back", "refused")
Row = dict[str, Any]


def send_bundle(client: Client, file: Path, *, local: bool) -> Row:
    """Give a node a bundle: its row. `local`: the node is on this computer and reads the file itself.

    Raises what the node says, `RejectedError` for a file that is too large to be sent."""
    if local:
        row: Row = client.post(AT, {"file": str(file.absolute())})
        return row
    try:
        if file.stat().st_size > MOST_BYTES:
            mend = "bring the file to the node's computer and apply it there"
            raise RejectedError(f"is larger than the {MOST_BYTES >> 20} MiB that can be sent", where=str(file), mend=mend)
        content = file.read_bytes()
    except OSError as error:
        raise RejectedError(f"cannot be read: {error.strerror}", where=str(file), mend="name a bundle") from error
    sent: Row = client.upload(AT, content, "application/octet-stream")
    return sent


def apply_bundle(
    client: Client, id: str, probation: str = "", dead_letters: int = 0, told: Callable[[Row], None] = lambda trial: None
) -> Row:
    """Apply a bundle that a node has, and wait for what becomes of it: the row of the history that says `kept`.

    Args:
        told: called with the trial again and again.

    Raises `RejectedError` with the reason where it is not kept; then what ran before runs. `UnavailableError`: nobody answers."""
    begun = client.post(f"{AT}/{quote(id, safe='')}/apply", {"probation": probation, "dead_letters": dead_letters})
    told(begun)
    row = outcome(client, begun["id"], begun["at"], told)
    if row["what"] != "kept":
        raise RejectedError(f"bundle {row['bundle']} was {row['what']}: {row['reason']}", mend="what ran before goes on")
    return row


def outcome(client: Client, id: str, since: str, told: Callable[[Row], None] = lambda trial: None) -> Row:
    """Wait for the end of a trial that began at that time (as the node said it): `{at, id, bundle, what, reason}`.

    Raises `UnavailableError` where the node does not answer for two minutes, or knows of no such trial."""
    heard = time.monotonic()
    while True:
        try:
            answer = client.get(AT)
        except UnreachableError:
            if time.monotonic() - heard > AWAY_S:
                raise
            time.sleep(POLL_S)
            continue
        heard = time.monotonic()
        if answer["trial"] is None:
            rows = [row for row in answer["history"] if row["id"] == id and row["at"] >= since and row["what"] in _OUTCOMES]
            if not rows:
                raise UnavailableError("the node knows nothing of what became of the bundle", mend="see `skerry bundle list`")
            found: Row = rows[-1]
            return found
        told(answer["trial"])
        time.sleep(POLL_S)
