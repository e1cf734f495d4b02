"""Holes in the log: messages that are stored and that nobody can read are passed over (broker/unreadable.py)."""

from skerry.broker import WireClient, push_out
from skerry.core import log

EVERY_S = 5.0
_log = log.get("worker")


class Holes:
    """One worker fills them, and not all the time: a device may make such messages as fast as it likes."""

    def __init__(self, mine: bool) -> None:
        self._mine = mine
        self._hole = 0
        self._filled = -EVERY_S

    def note(self, sequence: int) -> None:
        """This one did not come, and later ones did."""
        self._hole = sequence

    async def fill(self, client: WireClient, now: float) -> None:
        """Pass over the last one that was noted. Raises `UnavailableError`."""
        if not self._hole or not self._mine or now - self._filled < EVERY_S:
            return
        sequence, self._filled = self._hole, now
        pushed = await push_out(client, sequence)
        if self._hole == sequence:  # it stays noted where that failed, or where another one came meanwhile
            self._hole = 0
        if pushed:
            _log.warning(f"message {sequence} of the log is passed over: its topic was too long to be stored")
