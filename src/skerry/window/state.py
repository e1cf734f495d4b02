"""State of open windows: what a checkpoint keeps of them, one `KeyState` a device."""

import msgspec

Row = tuple[float, ...]
"""One sample: event time in microseconds, then the values in the order of the source."""


class Pane(msgspec.Struct, array_like=True, gc=False):
    """Samples that share their windows: flat rows `time, value, value, …` in order of arrival."""

    start: int
    flat: list[float] = []
    samples: int = 0
    messages: int = 0
    newest: float = 0.0
    disordered: bool = False


class KeyState(msgspec.Struct, array_like=True):
    """The open windows of one key.

    Attributes:
        panes: by start time (time windows), by first sample's time (sessions), one entry 0 (count).
        newest: greatest event time seen, microseconds; the key's watermark is `newest - lateness`.
        closed: all windows that end at or before this time have been closed.
        due: the watermark at which the next window closes; `NEVER` when none is open.
        index: windows closed so far (count windows are named by it).
        seen: monotonic seconds of the last arrival; not kept over restarts.
    """

    panes: dict[int, Pane] = {}
    newest: int = -(2**62)
    closed: int = -(2**62)
    due: int = 2**62
    index: int = 0
    seen: float = 0.0


NEVER = 2**62


class Closed(msgspec.Struct, gc=False):
    """A closed window: `samples` rows flat (`time, value, …`), and how many messages leave the open ones with it.

    `retried` is 0, or the place in the log at which a window that had failed came back.
    """

    key: str
    start: int
    end: int
    flat: list[float]
    samples: int
    messages: int
    disordered: bool = False
    index: int = 0
    retried: int = 0


LATE = "late"
WINDOW_FULL = "window-full"
