"""Which pipeline a worker's memory grows for: what resident memory gains while one is fed is put down to that one."""

from collections.abc import Callable, Mapping
from typing import Any

from skerry.core.units import parse_size
from skerry.pipeline import PipelineSpec

LEAST = 16 * 1024 * 1024
"""No pipeline is stopped for less: buffers grow by that with the first batches of any."""
_SUSPICIOUS = 4


class Growth:
    """Pages that came while a pipeline was fed, by pipeline, against what each may use. Pure but for `resident`.

    Pipelines of a worker share its memory, and the kernel counts it by process only. Looking costs 2 µs a feed, so it is begun
    when the process has grown by a quarter of what the most modest pipeline may use. What went back to the kernel since is
    taken off in proportion; what grows outside of feeds, such as a model that is loaded, is nobody's.

    Args:
        allowed: bytes, by pipeline.
        resident: resident bytes of this process.
    """

    def __init__(self, allowed: Mapping[str, int], resident: Callable[[], int]) -> None:
        self._allowed = {name: max(LEAST, most) for name, most in allowed.items()}
        self._resident = resident
        self._base = 0
        self._grown: dict[str, float] = {}
        self.watching = False

    def begin(self) -> None:
        """All is loaded: what the process has now is not put down to anybody."""
        self._base = self._resident()
        self._grown.clear()

    def look(self) -> None:
        """Begin or end the watching, and take off what has been given back. Call it some times a second."""
        if not self._base or not self._allowed:
            return
        now = self._resident()
        self._base = min(self._base, now)
        total, noted = now - self._base, sum(self._grown.values())
        self.watching = total > min(self._allowed.values()) / _SUSPICIOUS
        if noted > total:
            self._grown = {name: grown * total / noted for name, grown in self._grown.items()}

    def mark(self) -> int:
        """What to give to `note` after a feed; 0 where nothing is watched."""
        return self._resident() if self.watching else 0

    def allowed(self, pipeline: str) -> int:
        """Bytes that it may grow the process by."""
        return self._allowed[pipeline]

    def note(self, pipeline: str, before: int) -> int:
        """Put down to a pipeline what came since `mark`; answers the mark for the next one."""
        now = self._resident()
        if now > before:
            self._grown[pipeline] = self._grown.get(pipeline, 0.0) + now - before
        return now

    def of(self, pipeline: str) -> int:
        """Bytes that have come while it was fed and are still there."""
        return int(self._grown.get(pipeline, 0))

    def over(self, pipeline: str) -> bool:
        """Whether that is more than it may use."""
        return self.of(pipeline) > self._allowed[pipeline]

    def forget(self, pipeline: str) -> None:
        """Begin anew with one: what it has taken stays with the process."""
        self._base += int(self._grown.pop(pipeline, 0))


def allowed_of(spec: PipelineSpec, models: list[dict[str, Any]]) -> int:
    """Bytes that a worker may grow by for a pipeline: its own, and what its model may take to run."""
    name = (spec.model or "").partition("@")[0]
    may = [parse_size(str(table["memory"])) for table in models if table.get("name") == name and table.get("memory")]
    return spec.resources.memory_bytes + max(may, default=0)
