"""One replay: a runner over what was, its events into a scratch output, and what they are beside those of then."""

from collections.abc import Callable, Iterable, Iterator
from itertools import groupby, islice
from pathlib import Path
from typing import Any, NamedTuple

import msgspec

from skerry.broker import Frame, position
from skerry.core.clock import SECOND, to_rfc3339
from skerry.core.ports import Scorer
from skerry.pipeline import (
    DEAD_PREFIX,
    EVENTS_PREFIX,
    PipelineSpec,
    PipelineState,
    Runner,
    frames_of,
    read_messages,
    show_letter,
    unpack_letters,
)
from skerry.replay.log import frames_of as logged_frames
from skerry.replay.pace import gently
from skerry.replay.past import Choice, Past
from skerry.replay.samples import Row, rows_of
from skerry.replay.scratch import MOST_EVENTS, NOW, THEN, Scratch
from skerry.replay.span import ALWAYS, ON_ITS_WAY, WHOLE, Span
from skerry.replay.then import kept, log_begins, logged, told

MOST_LETTERS = 1000
MOST_GAPS = 20
LEAST_GAP = 60 * SECOND
"""A stretch without any sample is named when it is longer, and longer than a fiftieth of the span."""
_CHUNK = 500
Progress = Callable[[float], None]
Answer = dict[str, Any]


def replay(
    spec: PipelineSpec, scorer: Scorer | None, node: str, past: Past, choice: Choice, span: Span, diff: bool, progress: Progress
) -> Answer:
    """Run a pipeline over a span of what the log or the history has, as `choose` found it.

    Answers `{"events", "messages", "windows", "late", "dead_letters", "left_out", "source"}`, and `diff` where asked for. Nothing
    goes out of it. Raises `UnavailableError` while the node does not answer.
    """
    # a drift is about what came long before, and of two samples with one time the history has kept one already
    spec = msgspec.structs.replace(spec, drift=None, **({"dedup": "off"} if choice.kind == "history" else {}))
    with Scratch() as scratch:
        run = _Run(spec, scorer, node, span, scratch, progress)
        if choice.kind == "log":
            assert past.client is not None
            stop = span.until + spec.window.lateness_us + spec.window.idle_us + ON_ITS_WAY
            run.log(gently(logged_frames(past.client, spec.source.topic, span.begin, stop)))
        else:
            assert past.history is not None
            run.rows(rows_of(past.history, choice.columns, span.begin, span.until + 1, live=past.client is not None))
        answer = run.answer()
        notes = list(choice.notes)
        if diff:
            notes += _then(spec, past, span, scratch, run.events)
            answer["diff"] = scratch.diff()
        if any(scratch.left_out):
            notes.append(f"of each side the first {MOST_EVENTS:,} events are compared")
        times = {"from": to_rfc3339(span.start), "until": to_rfc3339(span.until)}
        return {**answer, "source": {"kind": choice.kind, **times, "gaps": run.gaps.rows(span.until), "notes": notes}}


def replay_file(
    spec: PipelineSpec, scorer: Scorer | None, node: str, past: Past, file: Path, diff: bool, progress: Progress
) -> Answer:
    """As `replay`, over a recorded file: all of it, and its end closes all windows. Raises `RejectedError`."""
    with Scratch() as scratch:
        run = _Run(msgspec.structs.replace(spec, drift=None), scorer, node, WHOLE, scratch, progress)
        run.file(frames_of(spec, read_messages(spec, file)))
        answer = run.answer()
        notes: list[str] = []
        if diff:
            if run.events is not None:
                span = Span(run.events.start, run.events.end, run.events.start)
                notes = _then(spec, past, span, scratch, run.events)
            answer["diff"] = scratch.diff()
        return {**answer, "source": {"kind": "file", "file": str(file), "gaps": [], "notes": notes}}


def _then(spec: PipelineSpec, past: Past, span: Span, scratch: Scratch, now: "_Reach | None") -> list[str]:
    """Take in what the pipeline gave then, beside what it gives now; what of it is not known."""
    begins, scores, notes = ALWAYS, 0, []
    if past.client is not None:
        found = log_begins(past.client)
        begins = ALWAYS if found is None else found
        for event in logged(past.client, spec.name, span):
            scratch.add(THEN, event)
    if past.history is not None:
        for event in kept(past.history, spec, span, begins, past.client is not None):
            if not scratch.knows(event):  # of a device whose clock is behind the log may have it
                scratch.add(THEN, event)
                scores += 1
    if scores:
        notes.append(f"of {scores:,} events then the history has the score alone")
    elif now is not None and not scratch.count(THEN):
        notes.append("no events of then are known: neither the event log nor the history has any of this time")
    elif now is not None and now.first_end < begins < ALWAYS:
        notes.append(f"the event log begins at {to_rfc3339(begins)}: no earlier events of then are known")
    return notes


class _Reach(NamedTuple):
    """Of events: the first start, the first end and the last end."""

    start: int
    first_end: int
    end: int


class _Gaps:
    """Stretches of a span in which nothing came."""

    def __init__(self, span: Span) -> None:
        self._least = max(LEAST_GAP, (span.until - span.start) // 50)
        self._last = span.start
        self._found: list[tuple[int, int]] = []

    def note(self, times: Iterable[float]) -> None:
        for time in times:
            if time - self._last > self._least:
                self._found.append((self._last, int(time)))
            if time > self._last:
                self._last = int(time)

    def rows(self, until: int) -> list[Answer]:
        """The longest, in order of time."""
        rest = [(self._last, until)] if until - self._last > self._least else []
        longest = sorted(self._found + rest, key=lambda gap: gap[0] - gap[1])[:MOST_GAPS]
        return [{"from": to_rfc3339(begin), "to": to_rfc3339(end)} for begin, end in sorted(longest)]


class _Run:
    """A runner whose events go into the scratch output."""

    def __init__(
        self, spec: PipelineSpec, scorer: Scorer | None, node: str, span: Span, scratch: Scratch, progress: Progress
    ) -> None:
        self.gaps = _Gaps(span)
        self.events: _Reach | None = None
        self._runner = Runner(spec, scorer, node, PipelineState())
        self._span = span
        self._scratch = scratch
        self._progress = progress
        self._letters: list[Answer] = []
        self._second = 0

    def log(self, chunks: Iterator[tuple[list[Frame], int]]) -> None:
        """Messages as they arrived; a device that fell silent is known by what arrives of others meanwhile, as it was then."""
        for frames, through in chunks:
            for second, group in groupby(frames, lambda frame: position(frame[1]).arrival // SECOND):
                self._turn_to(second)
                part = list(group)
                last = position(part[-1][1])
                self._runner.feed(part, position(part[0][1]), last, last.arrival / SECOND)
            self._turn_to(through // SECOND)
            self.gaps.note(position(frame[1]).arrival for frame in frames)
            self._drain(through)

    def _turn_to(self, second: int) -> None:
        if second > self._second:
            if self._second:
                self._runner.advance(float(second))
            self._second = second

    def rows(self, chunks: Iterator[list[tuple[str, Row]]]) -> None:
        """Samples in order of their own time."""
        for chunk in chunks:
            self._runner.feed_rows(chunk)
            self.gaps.note(row[0] for _, row in chunk)
            self._drain(int(chunk[-1][1][0]))

    def file(self, frames: Iterator[Frame]) -> None:
        """Messages of a file."""
        while part := list(islice(frames, _CHUNK)):
            self._runner.feed(part, position(part[0][1]), position(part[-1][1]), 0.0)
            self._drain(0)

    def answer(self) -> Answer:
        """Close what ends within the span; what came of all."""
        self._runner.finish(self._span.until)
        self._drain(self._span.until)
        ledger = self._runner.state.ledger
        events = self._scratch.events()
        return {
            "events": events,
            "messages": ledger.received,
            "windows": ledger.windows,
            "late": ledger.dead.get("late", 0),
            "dead_letters": self._letters,
            "left_out": self._scratch.count(NOW) - len(events),
        }

    def _drain(self, reached: int) -> None:
        outputs = self._runner.outputs
        for output in outputs:
            if output.subject.startswith(EVENTS_PREFIX):
                event = told(msgspec.json.decode(output.payload))
                if self._span.holds(event.start, event.end):
                    self._scratch.add(NOW, event, output.payload)
                    known = self.events or _Reach(event.start, event.end, event.end)
                    ends = min(known.first_end, event.end), max(known.end, event.end)
                    self.events = _Reach(min(known.start, event.start), *ends)
            elif output.subject.startswith(DEAD_PREFIX) and len(self._letters) < MOST_LETTERS:
                letters = unpack_letters(output.payload)[: MOST_LETTERS - len(self._letters)]
                self._letters += [show_letter(letter) for letter in letters]
        outputs.clear()
        long = self._span.until - self._span.begin
        self._progress(min(1.0, max(0.0, (reached - self._span.begin) / long)))
