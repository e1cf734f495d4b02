"""What a pipeline gave then: out of the node's event log, and of the history where that does not reach back so far."""

from collections.abc import Iterator

from skerry.core.clock import SECOND, from_rfc3339
from skerry.historian import Asked, Source
from skerry.http import Client
from skerry.pipeline import DRIFT_KEY, PipelineSpec
from skerry.replay.pace import gently
from skerry.replay.scratch import Row, Told
from skerry.replay.span import Span

_EVENTS = "/api/v1/events"
_PAGE = 300
_SCORE = "/score"
_MILLISECOND = 1000
_AHEAD = 3600 * SECOND
"""How far a device's clock may be ahead: an event is looked for in the log from so long before its time on."""


def told(event: Row) -> Told:
    """What is compared of an event."""
    times = from_rfc3339(event["start"]), from_rfc3339(event["end"])
    return Told(event["key"], *times, event.get("score"), event.get("label"), event.get("state"), event.get("count"))


def logged(client: Client, pipeline: str, span: Span) -> Iterator[Told]:
    """Events of the node's event log within a span. Raises `UnavailableError`."""
    for events in gently(_pages(client, pipeline, max(0, span.start - _AHEAD))):
        for event in events:
            found = told(event)
            if span.holds(found.start, found.end) and not is_drift(event):
                yield found


def _pages(client: Client, pipeline: str, since: int) -> Iterator[list[Row]]:
    query: dict[str, object] = {"pipeline": pipeline, "limit": _PAGE, "since": since / SECOND}
    while True:
        page = client.get(_EVENTS, query)
        yield page["events"]
        if page["next"] is None:
            return
        query = {"pipeline": pipeline, "limit": _PAGE, "after": page["next"]}


def is_drift(event: Row) -> bool:
    """Whether it is about the model's features as a whole, which a replay of a stretch says nothing about."""
    return bool(event["key"] == event.get("label") == DRIFT_KEY)


def log_begins(client: Client) -> int | None:
    """The end of the oldest event in the log, microseconds; None where it holds none."""
    events = client.get(_EVENTS, {"limit": 1})["events"]
    return from_rfc3339(events[0]["end"]) if events else None


def kept(source: Source, spec: PipelineSpec, span: Span, before: int, live: bool) -> Iterator[Told]:
    """Scores of the history within a span and before a time, one series after the other."""
    prefix, asked = f"{spec.name}/", Asked(span.start, min(span.until + _MILLISECOND, before))
    width = spec.window.size_us if spec.window.kind in ("tumbling", "sliding") else 0
    for name in source.series(prefix):
        key = name.removeprefix(prefix).removesuffix(_SCORE)
        if not name.endswith(_SCORE) or not key or asked.start >= asked.end:
            continue
        for page in gently(source.pages(name, asked)) if live else source.pages(name, asked):
            for time, score in zip(page.times.tolist(), page.values.tolist(), strict=True):
                end = time - time % _MILLISECOND  # events of one millisecond have a microsecond each
                if span.holds(end - width, end) and key != DRIFT_KEY:
                    yield Told(key, end - width, end, score)
