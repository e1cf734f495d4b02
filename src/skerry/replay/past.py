"""Where a replay reads from: the log where it reaches back far enough, since it has the messages themselves, else the history."""

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Literal, NamedTuple

import msgspec

from skerry.core.clock import to_rfc3339
from skerry.core.errors import RejectedError
from skerry.historian import Asked, DirectorySource, NodeSource, Source
from skerry.http import Client
from skerry.pipeline import PipelineSpec
from skerry.replay.log import Reach, reach_of
from skerry.replay.samples import columns_of
from skerry.replay.span import Span

Wanted = Literal["auto", "log", "history"]
_MINUTE = 60_000_000
MOST_ASKED = 100
"""Series that are asked whether they have roll-ups where they have no samples."""


class Past(NamedTuple):
    """A running node's API, and a history; None where there is none."""

    client: Client | None
    history: Source | None


@contextmanager
def past_of(client: Client | None, directory: Path) -> Iterator[Past]:
    """What a node that runs can be asked; without one its history's files. The client stays open. Raises `UnavailableError`."""
    if client is not None:
        kept = client.get("/api/v1/node").get("history")
        yield Past(client, NodeSource(client) if kept is not None else None)
        return
    try:
        files = DirectorySource(directory)
    except RejectedError:
        yield Past(None, None)
        return
    try:
        yield Past(None, files)
    finally:
        files.close()


class Choice(msgspec.Struct):
    """Which of the two is read, the series of each key where it is the history, and what is to be said about that."""

    kind: Literal["log", "history"]
    columns: dict[str, list[str]] = {}
    notes: list[str] = []


def choose(spec: PipelineSpec, past: Past, span: Span, wanted: Wanted = "auto") -> Choice:
    """What to read. Raises `RejectedError` where neither has anything of the pipeline, `UnavailableError`."""
    reach = reach_of(past.client) if past.client is not None and wanted != "history" else None
    if reach is not None and (wanted == "log" or reach.covers(span.begin)):
        return _of_log(reach, span)
    columns = {} if past.history is None or spec.source.tensors or wanted == "log" else _columns(spec, past.history)
    if not columns:
        if reach is not None and reach.oldest is not None:
            return _of_log(reach, span)
        raise _nothing(spec, past, wanted)
    assert past.history is not None
    first = _first(past.history, columns, span)
    if reach is not None and reach.oldest is not None:
        # a log that is whole goes before a history that begins with it
        late = 0 if reach.trimmed else _MINUTE
        if reach.oldest < (span.until if first is None else first + late):
            return _of_log(reach, span)
    return Choice("history", columns, _notes(past, spec, columns, span, first))


def _columns(spec: PipelineSpec, history: Source) -> dict[str, list[str]]:
    return columns_of(spec.source, history.series())


def _of_log(reach: Reach, span: Span) -> Choice:
    if not reach.trimmed or reach.covers(span.start):
        return Choice("log")
    begins = "is empty" if reach.oldest is None else f"begins at {to_rfc3339(reach.oldest)}"
    return Choice("log", notes=[f"the log {begins}: what came before was given back when all had read it"])


def _nothing(spec: PipelineSpec, past: Past, wanted: Wanted) -> RejectedError:
    if wanted == "log":
        mend = "start it with `skerry run`, or name it with --url"
        return RejectedError("the log needs the running node", where="--source", mend=mend)
    if spec.source.tensors:
        problem = f"no history keeps messages of the format {spec.source.format}"
        return RejectedError(problem, where="--source", mend="replay them from a file: --file")
    mend = 'give the pipeline the sink "history", and replay what comes from then on'
    if past.history is None and past.client is None:
        return RejectedError("no node runs here, whose log could be read, and there is no history", where="replay", mend=mend)
    if past.history is None:
        return RejectedError("the node keeps no history, and its log is empty", where="replay", mend=mend)
    problem = f"the history has no series of {spec.source.topic} ({', '.join(spec.source.names)})"
    return RejectedError(problem, where=f"pipeline {spec.name}", mend=mend)


def _first(history: Source, columns: dict[str, list[str]], span: Span) -> int | None:
    """When the first sample of the span was, as far as each key's first value says."""
    found = [next(history.pages(names[0], Asked(span.begin, span.until), 1), None) for names in columns.values()]
    return min((int(page.times[0]) for page in found if page is not None and len(page.times)), default=None)


def _notes(past: Past, spec: PipelineSpec, columns: dict[str, list[str]], span: Span, first: int | None) -> list[str]:
    notes = [] if past.client is not None else ["no node runs here: the log, which has the messages themselves, needs it"]
    if spec.window.kind == "none":
        notes.append("the history does not keep which samples came in one message: each is taken as one")
    if spec.window.kind == "count":
        notes.append("windows by count begin anew with the first sample read")
    before = span.until if first is None else first
    if before - span.start <= _MINUTE:
        return notes
    rolled = any(_has_rollups(past, names[0], span.start, before) for names in list(columns.values())[:MOST_ASKED])
    if first is None:
        rest = ", only 1-minute roll-ups, which cannot be replayed" * rolled
        return [*notes, f"the history has no raw samples of this time{rest}"]
    begin = f"the history has raw samples from {to_rfc3339(first)} on"
    return [*notes, *[f"{begin}; before that only 1-minute roll-ups, which cannot be replayed"] * rolled]


def _has_rollups(past: Past, name: str, start: int, end: int) -> bool:
    assert past.history is not None
    # the minute that raw samples begin in is a roll-up too
    asked = Asked(start, end - end % _MINUTE, _MINUTE, "count")
    return asked.start < asked.end and any(len(page.times) for page in past.history.pages(name, asked))
