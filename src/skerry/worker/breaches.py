"""Pipelines that took more memory than they may, counted over restarts: when one may try again. Pure but for its file."""

from contextlib import suppress
from pathlib import Path

import msgspec

from skerry.core.clock import SECOND
from skerry.core.units import show_size

LIMIT = 3
WINDOW = 3600 * SECOND
PAUSES_S = (1.0, 3.0)
"""Seconds before the second and the third try."""


class Breaches(msgspec.Struct):
    """When each pipeline took too much, and what is quarantined by now: it is not fed until a person says `resume`.

    Attributes:
        times: by pipeline, wall clock in microseconds.
        quarantined: why, by pipeline, in one sentence with the mend.
    """

    times: dict[str, list[int]] = {}
    quarantined: dict[str, str] = {}

    def breach(self, pipeline: str, used: int, allowed: int, now: int) -> float | None:
        """Take one in; the seconds until the pipeline may try again, None when it is quarantined: `LIMIT` times within an hour."""
        times = [at for at in self.times.get(pipeline, ()) if 0 <= now - at < WINDOW]
        times.append(now)
        self.times[pipeline] = times
        if len(times) < LIMIT:
            return PAUSES_S[min(len(times), len(PAUSES_S)) - 1]
        self.quarantined[pipeline] = (
            f"used {show_size(used)} of {show_size(allowed)}, {len(times)} times; mend: see what its features keep, "
            f"or raise its resources.memory; then skerry pipeline resume {pipeline}"
        )
        return None

    def forgive(self, pipeline: str) -> bool:
        """A person says that it may run again; whether that changes anything."""
        known = pipeline in self.times or pipeline in self.quarantined
        self.times.pop(pipeline, None)
        self.quarantined.pop(pipeline, None)
        return known

    def keep_only(self, pipelines: set[str]) -> None:
        """Forget those that are configured no longer."""
        for name in (self.times.keys() | self.quarantined.keys()) - pipelines:
            self.forgive(name)


def load_breaches(path: Path) -> Breaches:
    """The counts of before; none where the file is missing or not readable."""
    try:
        return msgspec.json.decode(path.read_bytes(), type=Breaches)
    except (OSError, msgspec.MsgspecError):
        return Breaches()


def save_breaches(path: Path, breaches: Breaches) -> None:
    """Keep them over a restart of the node, if the disk has room."""
    temporary = path.with_suffix(".new")
    with suppress(OSError):
        temporary.write_bytes(msgspec.json.encode(breaches))
        temporary.replace(path)
