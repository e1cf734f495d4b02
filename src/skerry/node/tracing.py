"""One message from the device's clock to the sink's acknowledgement: where it spent its time."""

import asyncio
from collections.abc import Iterator
from typing import TYPE_CHECKING, Any

from skerry.core.clock import Clock, to_rfc3339
from skerry.core.errors import RejectedError, UnavailableError
from skerry.pipeline import Relay, Sample
from skerry.worker import ask_for_trace

if TYPE_CHECKING:
    from skerry.node.life import Node

Row = dict[str, Any]
MOST_S = 300.0
SINKS_S = 10.0
_STEPS = (
    ("broker", "arrival", "from the device's time to the broker's log"),
    ("log", "read", "in the log, until the worker read it"),
    ("turn", "begun", "behind what was read with it"),
    ("decode", "decoded", "payload into rows"),
    ("window", "windowed", "into its window"),
    ("open", "closed", "in the open window, until that closed"),
    ("features", "features", "features of all windows that were scored together"),
    ("model", "model", "the model's run over them"),
    ("rule", "ruled", "the rule, and the event made"),
    ("stored", "stored", "event sent, until the event log had it"),
)
"""Name of a step, the field of `Sample` that ends it, and what it is."""


async def trace(node: "Node", clock: Clock, pipeline: str, device: str, seconds: float) -> Row:
    """Follow the next message. Raises `UnavailableError` where none comes in time, `RejectedError` for a time out of range.

    Answers `{pipeline, key, topic, sequence, bytes, outcome, event, window, batch, total_ms, spans}`; a span is
    `{step, what, begin, ms}`, in order of time and without gaps."""
    found, spans = await follow(node, clock, pipeline, device, seconds)
    return {
        "pipeline": pipeline,
        "key": found.key,
        "topic": found.topic,
        "sequence": found.sequence,
        "bytes": found.size,
        "outcome": found.outcome,
        "event": found.event or None,
        "window": {"start": found.start, "end": found.end, "samples": found.samples} if found.start else None,
        "batch": found.batch,
        "total_ms": round(max((span["begin"] + span["ms"] for span in spans), default=0.0), 3),
        "spans": spans,
    }


async def follow(node: "Node", clock: Clock, pipeline: str, device: str, seconds: float) -> tuple[Sample, list[Row]]:
    """The next message as the worker saw it, and its spans; a span's `begin` is in ms since `began_of` the message."""
    if not 0 < seconds <= MOST_S:
        raise RejectedError(f"{seconds:g} is out of range", where="timeout", mend=f"more than 0, and {MOST_S:g} s at most")
    found = await ask_for_trace(node.pool.workers, pipeline, device, seconds)
    if found is None:
        whose = f" of {device}" if device else ""
        raise UnavailableError(
            f"no message{whose} came for pipeline {pipeline} within {seconds:g} s", mend="wait longer with --timeout"
        )
    sinks = await _sinks(node.relays, found, clock) if found.sequence_event else {}
    return found, [*_steps(found), *_reached(found, sinks)]


def began_of(found: Sample) -> int:
    """When its way begins, in microseconds: by the device's own clock, or by the broker's where the message has no time."""
    return found.device or found.arrival


def _steps(found: Sample) -> Iterator[Row]:
    """The steps that it has come through, each from the end of the one before."""
    first = began_of(found)
    before = first
    for name, field, what in _STEPS:
        end = getattr(found, field)
        if not end:
            continue
        if name == "broker" and not found.device:
            continue
        yield _span(name, what, first, before, end)
        before = max(before, end)


def _reached(found: Sample, sinks: dict[str, int]) -> Iterator[Row]:
    first = began_of(found)
    for name, at in sinks.items():
        yield _span(f"sink {name}", "from the event log to its acknowledgement", first, found.stored, at)


def _span(name: str, what: str, first: int, begin: int, end: int) -> Row:
    """Milliseconds since the first time; a negative length is that of a device whose clock is ahead."""
    shown = {"step": name, "what": what, "begin": round((begin - first) / 1000, 3), "ms": round((end - begin) / 1000, 3)}
    return {**shown, "at": to_rfc3339(end)}


async def _sinks(relays: list[Relay], found: Sample, clock: Clock) -> dict[str, int]:
    """When each relay had handed the event on; without those that have not within ten seconds."""
    reached: dict[str, int] = {}

    async def until(relay: Relay) -> None:
        await relay.reached(found.sequence_event)
        reached[relay.name] = clock.now()

    waiting = [asyncio.create_task(until(relay)) for relay in relays]
    if waiting:
        _, late = await asyncio.wait(waiting, timeout=SINKS_S)
        for task in late:
            task.cancel()
    return reached
