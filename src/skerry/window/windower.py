"""Windowers: put a sample into its windows, and close what the watermark has passed.

Every key has a watermark of its own, `newest - lateness`: a device whose clock lags or that sends its backlog after an outage
makes no other device's samples late, and none of its own. A windower decides from (state, sample) alone, so that a replay of the
log decides the same; only `advance`, for devices that fell silent, looks at the time, and who calls it must make its outcome
durable first.
"""

from collections.abc import Iterator
from typing import Protocol

from skerry.window.spec import WindowSpec
from skerry.window.state import LATE, NEVER, WINDOW_FULL, Closed, KeyState, Pane, Row


class Windower(Protocol):
    """Window logic of one kind, without state of its own."""

    def add(self, state: KeyState, row: Row, first: bool) -> str | None:
        """Take one sample in; `first` marks the sample that counts its message. Answers why not, or None."""
        ...

    def close(self, key: str, state: KeyState, watermark: int) -> Iterator[Closed]:
        """Close the windows that end at or before the watermark, in order of time."""
        ...


class TimeWindower:
    """Tumbling and sliding windows `[start, start + size)`, aligned to the epoch, put together from panes.

    A message leaves the open ones with the last window that holds it.
    """

    def __init__(self, spec: WindowSpec) -> None:
        self.size = spec.size_us
        self.every = spec.every_us
        self.pane = spec.pane_us
        self.lateness = spec.lateness_us
        self.most = spec.max_samples

    def add(self, state: KeyState, row: Row, first: bool) -> str | None:
        time = int(row[0])
        start = time - time % self.pane
        over = max(state.closed, state.newest - self.lateness)
        if time - time % self.every + self.size <= over:
            return LATE
        pane = state.panes.get(start)
        if pane is None:
            pane = state.panes[start] = Pane(start, [])
            state.due = min(state.due, self._first_end(start, over))
        elif pane.samples >= self.most:
            return WINDOW_FULL
        if row[0] < pane.newest:
            pane.disordered = True
        else:
            pane.newest = row[0]
        pane.flat.extend(row)
        pane.samples += 1
        pane.messages += first
        state.newest = max(state.newest, time)
        return None

    def _first_end(self, pane_start: int, closed: int) -> int:
        """End of the earliest window that holds the pane and is not closed."""
        end = (pane_start + self.pane - self.size) // self.every * self.every + self.size
        if end < pane_start + self.pane:
            end += self.every
        if end <= closed:
            end += ((closed - end) // self.every + 1) * self.every
        return end

    def close(self, key: str, state: KeyState, watermark: int) -> Iterator[Closed]:
        while state.due <= watermark:
            end = state.due
            begin = end - self.size
            held = sorted(start for start in state.panes if begin <= start < end)
            state.closed = end
            keep_from = begin + self.every
            panes = [state.panes[start] for start in held]
            for start in held:
                if start < keep_from:
                    del state.panes[start]
            state.due = self._first_end(min(state.panes), end) if state.panes else NEVER
            if len(panes) == 1 and panes[0].start < keep_from:
                pane = panes[0]
                yield Closed(key, begin, end, pane.flat, pane.samples, pane.messages, pane.disordered)
            else:
                yield Closed(
                    key,
                    begin,
                    end,
                    [number for pane in panes for number in pane.flat],
                    sum(pane.samples for pane in panes),
                    sum(pane.messages for pane in panes if pane.start < keep_from),
                    any(pane.disordered for pane in panes),
                )


class SessionWindower:
    """Windows that end after `gap` without a sample: `[first, last + gap)`; a sample between two sessions joins them."""

    def __init__(self, spec: WindowSpec) -> None:
        self.gap = spec.gap_us
        self.lateness = spec.lateness_us
        self.most = spec.max_samples

    def add(self, state: KeyState, row: Row, first: bool) -> str | None:
        time = int(row[0])
        touching = [s for s, p in state.panes.items() if s - self.gap < time < int(p.newest) + self.gap]
        if not touching and time + self.gap <= max(state.closed, state.newest - self.lateness):
            return LATE
        if sum(state.panes[start].samples for start in touching) >= self.most:
            return WINDOW_FULL
        joined = Pane(min([time, *touching]), [], newest=row[0])
        for start in sorted(touching):
            old = state.panes.pop(start)
            joined.flat += old.flat
            joined.samples += old.samples
            joined.messages += old.messages
            joined.disordered |= old.disordered
            joined.newest = max(joined.newest, old.newest)
        joined.disordered |= bool(touching) and row[0] < joined.newest
        joined.flat.extend(row)
        joined.samples += 1
        joined.messages += first
        state.panes[joined.start] = joined
        state.newest = max(state.newest, time)
        state.due = self._due(state)
        return None

    def _due(self, state: KeyState) -> int:
        return min((int(pane.newest) for pane in state.panes.values()), default=NEVER - self.gap) + self.gap

    def close(self, key: str, state: KeyState, watermark: int) -> Iterator[Closed]:
        while state.due <= watermark:
            start = min(state.panes, key=lambda s: (state.panes[s].newest, s))
            pane = state.panes.pop(start)
            end = int(pane.newest) + self.gap
            state.closed = max(state.closed, end)
            state.due = self._due(state)
            yield Closed(key, start, end, pane.flat, pane.samples, pane.messages, pane.disordered)


class CountWindower:
    """Windows of `size` samples in order of arrival, a new one each `every` samples; `[time of first, time of last]`.

    Pane 0 holds the samples; pane 1 a mark for each: 1 where it counts its message.
    """

    def __init__(self, spec: WindowSpec) -> None:
        self.count = spec.count
        self.step = spec.step

    def add(self, state: KeyState, row: Row, first: bool) -> str | None:
        if not state.panes:
            state.panes = {0: Pane(0, []), 1: Pane(1, [])}
        pane = state.panes[0]
        pane.flat.extend(row)
        state.panes[1].flat.append(float(first))
        pane.samples += 1
        pane.messages += first
        if row[0] > state.newest:
            state.newest = int(row[0])
        if pane.samples >= self.count:
            state.due = -NEVER
        return None

    def close(self, key: str, state: KeyState, watermark: int) -> Iterator[Closed]:
        if state.due > watermark:
            return
        pane, marks = state.panes[0], state.panes[1].flat
        width = len(pane.flat) // pane.samples
        done = 0
        while pane.samples - done >= self.count:
            flat = pane.flat[width * done : width * (done + self.count)]
            times = flat[::width]
            leaving = int(sum(marks[done : done + self.step]))
            done += self.step
            pane.messages -= leaving
            state.index += 1
            yield Closed(key, int(min(times)), int(max(times)), flat, self.count, leaving, index=state.index)
        pane.samples -= done
        del pane.flat[: width * done], marks[:done]
        state.due = NEVER
        if pane.samples == 0:
            state.panes = {}


class EachWindower:
    """No windows: every message is one, with all its samples; closed at once."""

    def __init__(self, spec: WindowSpec) -> None:
        self.most = spec.max_samples

    def add(self, state: KeyState, row: Row, first: bool) -> str | None:
        if first:
            state.panes[0] = Pane(int(row[0]), [])
        pane = state.panes[0]
        if pane.samples >= self.most:
            return WINDOW_FULL
        pane.flat.extend(row)
        pane.samples += 1
        pane.messages += first
        state.newest = max(state.newest, int(row[0]))
        state.due = -NEVER
        return None

    def close(self, key: str, state: KeyState, watermark: int) -> Iterator[Closed]:
        if state.due <= watermark:
            pane = state.panes.pop(0)
            width = len(pane.flat) // pane.samples
            times = pane.flat[::width]
            state.due = NEVER
            state.index += 1
            yield Closed(key, int(min(times)), int(max(times)), pane.flat, pane.samples, pane.messages, index=state.index)


def windower(spec: WindowSpec) -> Windower:
    """The window logic of a spec."""
    if spec.kind == "session":
        return SessionWindower(spec)
    if spec.kind == "count":
        return CountWindower(spec)
    if spec.kind == "none":
        return EachWindower(spec)
    return TimeWindower(spec)


def silent_watermark(state: KeyState, now: float, lateness: int, idle: int) -> int:
    """Watermark of a key that has been silent: its own time is taken to go on as the monotonic clock does, less the patience.

    `now` and `state.seen` are monotonic seconds.
    """
    return state.newest + round((now - state.seen) * 1e6) - lateness - idle
