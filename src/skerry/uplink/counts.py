"""What came in, what was put into the queue, and what each rule saved, in bytes. Pure."""

from typing import Any

import msgspec


class Counts(msgspec.Struct):
    """Of one pipeline. What came in is what was queued of samples, plus what was saved, plus what still waits.

    Attributes:
        messages, bytes_in: payloads of its devices that were read for the uplink; events alone need none.
        queued: bytes put into the queue, by kind. items: how many.
        saved: bytes by rule: select, decimate, deadband, on_change, around, redact, rollup, pack (the columns), unread.
        waiting: bytes of samples that are not yet put into an item.
        passed_over: messages that gave no samples, by reason.
        full: how often a bound was reached: roll-ups that closed early, samples that were not kept for an alarm that may come,
            devices whose last sent sample was forgotten.
    """

    messages: int = 0
    bytes_in: int = 0
    queued: dict[str, int] = {}
    items: dict[str, int] = {}
    saved: dict[str, int] = {}
    waiting: int = 0
    passed_over: dict[str, int] = {}
    full: dict[str, int] = {}

    def put(self, kind: str, size: int) -> None:
        """An item was put into the queue."""
        self.queued[kind] = self.queued.get(kind, 0) + size
        self.items[kind] = self.items.get(kind, 0) + 1

    def save(self, rule: str, size: int) -> None:
        """A rule saved bytes; fewer than none where an item is larger than what it is made of."""
        self.saved[rule] = self.saved.get(rule, 0) + size

    def pass_over(self, reason: str, size: int) -> None:
        """A message gave no samples."""
        self.passed_over[reason] = self.passed_over.get(reason, 0) + 1
        self.save("unread", size)

    def show(self) -> dict[str, Any]:
        """For status and JSON."""
        return {
            "messages": self.messages, "bytes_in": self.bytes_in, "queued": self.queued, "items": self.items,
            "saved": {rule: size for rule, size in self.saved.items() if size}, "waiting": self.waiting,
            "passed_over": self.passed_over, "full": {what: count for what, count in self.full.items() if count},
        }  # fmt: skip
