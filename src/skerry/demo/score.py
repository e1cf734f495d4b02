"""How good the predictions are, judged against the truth as they come in. Pure; times are microseconds since the epoch.

What counts as what:
- a window is truly faulty when the fault was there for at least half of it;
- it is predicted faulty when its score reaches the threshold (or as `firing` says, where that is known);
- precision, recall and F1 are over windows, those half covered at the onset and the end included;
- an episode is known from the first window that touches it on; it is detected by the first window predicted faulty that
  touches it, and missed when a window after its end comes and none was. The delay is from its start to that window's
  `seen_us`, or its end where that is not known;
- an alarm is a run of windows of one device predicted faulty one after the other; it is false when none of them touches
  an episode, and is counted when it ends.
"""

from collections import deque
from collections.abc import Sequence
from statistics import median

import msgspec

from skerry.demo.faults import NORMAL, Episode, Truth


class ScoredWindow(msgspec.Struct, frozen=True):
    """A model's word on one window of one device. `seen_us`: when it was known, on the episodes' clock; 0: unknown."""

    device: str
    start_us: int
    end_us: int
    label: str
    score: float
    firing: bool | None = None
    seen_us: int = 0


class Scores(msgspec.Struct, frozen=True):
    """The state of the comparison. Ratios are None as long as there is nothing to divide by.

    Attributes:
        kind_accuracy: of the faulty windows that were found, the share with the right kind of fault.
        delay_s: median over the last episodes that were detected, seconds.
        ignored: windows not counted: older than the last of their device, or of one device too many.
    """

    windows: int
    true_positives: int
    false_positives: int
    false_negatives: int
    true_negatives: int
    precision: float | None
    recall: float | None
    f1: float | None
    kind_accuracy: float | None
    episodes: int
    detected: int
    missed: int
    delay_s: float | None
    false_alarms: int
    ignored: int


class _Device:
    """What has to be remembered of one device between two windows."""

    def __init__(self) -> None:
        self.last_end = -(2**62)
        self.alarm = False
        self.alarm_is_true = False
        self.open: list[Episode] = []
        self.found: set[int] = set()


class Scorer:
    """Takes windows in as they come, each device's in order of time, and answers with live scores.

    Memory is bounded: `max_devices` devices, `max_delays` delays, and of each device the episodes that are not over.
    """

    def __init__(self, truth: Truth, *, threshold: float = 0.5, max_devices: int = 1024, max_delays: int = 512) -> None:
        self._truth = truth
        self._threshold = threshold
        self._max_devices = max_devices
        self._devices: dict[str, _Device] = {}
        self._delays: deque[float] = deque(maxlen=max_delays)
        self._counts = {(said, true): 0 for said in (False, True) for true in (False, True)}
        self._right_kind = self._detected = self._missed = self._false_alarms = self._ignored = 0

    def add(self, window: ScoredWindow) -> str | None:
        """Judge one window; answers its true label, or None when it is not counted."""
        device = self._devices.get(window.device)
        if device is None:
            if len(self._devices) >= self._max_devices:
                self._ignored += 1
                return None
            device = self._devices[window.device] = _Device()
        if window.start_us < device.last_end or window.end_us <= window.start_us:
            self._ignored += 1
            return None
        device.last_end = window.end_us
        said = window.score >= self._threshold if window.firing is None else window.firing
        touching = self._truth.episodes(window.device, window.start_us, window.end_us)
        label = majority(touching, window.start_us, window.end_us)
        self._counts[said, label != NORMAL] += 1
        self._right_kind += said and label != NORMAL and label == window.label
        self._follow_episodes(device, window, said, touching)
        self._follow_alarm(device, said, bool(touching))
        return label

    def scores(self) -> Scores:
        """The state up to the last window."""
        hits, misses = self._counts[True, True], self._counts[False, True]
        false, calm = self._counts[True, False], self._counts[False, False]
        still_open = sum(episode.start_us not in device.found for device in self._devices.values() for episode in device.open)
        return Scores(
            windows=hits + misses + false + calm,
            true_positives=hits,
            false_positives=false,
            false_negatives=misses,
            true_negatives=calm,
            precision=_share(hits, hits + false),
            recall=_share(hits, hits + misses),
            f1=_share(2 * hits, 2 * hits + false + misses),
            kind_accuracy=_share(self._right_kind, hits),
            episodes=self._detected + self._missed + still_open,
            detected=self._detected,
            missed=self._missed,
            delay_s=median(self._delays) if self._delays else None,
            false_alarms=self._false_alarms,
            ignored=self._ignored,
        )

    def _follow_episodes(self, device: _Device, window: ScoredWindow, said: bool, touching: Sequence[Episode]) -> None:
        over = [episode for episode in device.open if episode.end_us <= window.start_us]
        for episode in over:
            self._missed += episode.start_us not in device.found
            device.found.discard(episode.start_us)
            device.open.remove(episode)
        for episode in touching:
            if episode not in device.open:
                device.open.append(episode)
            if said and episode.start_us not in device.found:
                device.found.add(episode.start_us)
                self._detected += 1
                self._delays.append(((window.seen_us or window.end_us) - episode.start_us) / 1e6)

    def _follow_alarm(self, device: _Device, said: bool, touches: bool) -> None:
        if said:
            device.alarm_is_true = touches or (device.alarm and device.alarm_is_true)
        elif device.alarm:
            self._false_alarms += not device.alarm_is_true
        device.alarm = said


def majority(episodes: Sequence[Episode], start_us: int, end_us: int) -> str:
    """The true label of a window: the fault that was there for at least half of it, else `normal`."""
    for episode in episodes:
        if 2 * episode.overlap(start_us, end_us) >= end_us - start_us:
            return episode.fault
    return NORMAL


def _share(part: int, whole: int) -> float | None:
    return part / whole if whole else None
