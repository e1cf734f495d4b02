"""Fields that the uplink withheld, into the audit log: how many so far, by rule, once an hour and at the end."""

from collections.abc import Callable, Mapping

from skerry.core.clock import Clock

EVERY_S = 3600.0
EVENT = "fields withheld"


class Withheld:
    """What the audit log knows of it; a rule whose count has not moved is not noted again.

    Args:
        note: the audit log's.
    """

    def __init__(self, note: Callable[..., None], clock: Clock) -> None:
        self._note = note
        self._clock = clock
        self._noted: dict[str, int] = {}
        self._noted_at = clock.monotonic()

    def look(self, counts: Mapping[str, int], last: bool = False) -> None:
        """Note the counts where it is time, or with `last` in any case."""
        if last or self._clock.monotonic() - self._noted_at >= EVERY_S:
            self._noted_at = self._clock.monotonic()
            for rule, count in counts.items():
                if count != self._noted.get(rule, 0):
                    self._noted[rule] = count
                    self._note(EVENT, by="uplink", reason=rule, total=count)
