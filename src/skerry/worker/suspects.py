"""Who ended a worker: messages and windows that were worked on when one died, counted over restarts. Pure but for its file."""

from contextlib import suppress
from pathlib import Path

import msgspec

from skerry.worker.trace import Doing

LIMIT = 3


class Suspects(msgspec.Struct):
    """Counts of deaths by suspect, and what is poison by now.

    A death during a range of messages makes the range suspect: the worker's next life takes them one by one (`careful_until`), so
    that the next death names one. The third death of one makes it poison; the first, within a range, counts for it.

    Attributes:
        deaths: by pipeline and then by message sequence or window name.
        ranges: by pipeline, the ranges that were suspect once: first and last.
        poison: by pipeline, what is not tried again.
    """

    deaths: dict[str, dict[str, int]] = {}
    ranges: dict[str, list[tuple[str, str]]] = {}
    poison: dict[str, list[str]] = {}
    careful_until: int = 0

    @property
    def poisoned(self) -> int:
        """How many messages and windows are not tried again."""
        return sum(map(len, self.poison.values()))

    def died(self, doing: Doing | None, cursor_ahead: int) -> str:
        """Take a death in; answers in words whom it is put down to. `cursor_ahead`: log sequence up to which care is taken."""
        if doing is None or doing.kind == "idle":
            return "it was idle"
        self.careful_until = max(self.careful_until, cursor_ahead)
        if not doing.single:
            ranges = self.ranges.setdefault(doing.pipeline, [])
            ranges.append((doing.first, doing.last))
            del ranges[:-8]
            return f"it worked on {doing.kind} {doing.first} to {doing.last} of {doing.pipeline}; they are taken one by one now"
        name = doing.first
        counts = self.deaths.setdefault(doing.pipeline, {})
        if name not in counts:
            counts[name] = int(self._was_in_a_range(doing))
        counts[name] += 1
        if len(counts) > 1000:
            del counts[next(iter(counts))]
        if counts[name] < LIMIT:
            return f"it worked on {doing.kind} {name} of {doing.pipeline}, for the {counts[name]}. time"
        del counts[name]
        poisoned = self.poison.setdefault(doing.pipeline, [])
        poisoned.append(name)
        del poisoned[:-1000]
        return f"it worked on {doing.kind} {name} of {doing.pipeline} for the {LIMIT}. time: poison, to the dead letters"

    def _was_in_a_range(self, doing: Doing) -> bool:
        """Whether a range that died may have died of it; that death is put down to it then, and to no other."""
        ranges = self.ranges.get(doing.pipeline, [])
        for at, (first, last) in enumerate(ranges):
            numbers = first.isdigit() and last.isdigit()
            if numbers == doing.first.isdigit() and (not numbers or int(first) <= int(doing.first) <= int(last)):
                del ranges[at]
                return True
        return False


def load_suspects(path: Path) -> Suspects:
    """The counts of before; none where the file is missing or not readable."""
    try:
        return msgspec.json.decode(path.read_bytes(), type=Suspects)
    except (OSError, msgspec.MsgspecError):
        return Suspects()


def save_suspects(path: Path, suspects: Suspects) -> None:
    """Keep the counts over a restart of the agent, if the disk has room: they are worth no more than that."""
    temporary = path.with_suffix(".new")
    with suppress(OSError):
        temporary.write_bytes(msgspec.json.encode(suspects))
        temporary.replace(path)
