"""What the tests of the replay share: a pipeline, its samples in a history, and what it gave of them."""

import json
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np

from skerry.core.clock import SECOND, ManualClock
from skerry.historian import DirectorySource
from skerry.pipeline import PipelineSpec, parse_pipeline, run_messages
from skerry.replay import Past, choose, replay, span_of
from skerry.store import Archive, StorageConfig, SyncKeyValueStore

NOW = 1_795_545_600 * SECOND
BEGIN = NOW - 3600 * SECOND
Sample = tuple[str, int, float, float]
"""Device, microseconds, x and y."""


def spec_of(**more: Any) -> PipelineSpec:
    """Windows of ten seconds over x and y, the mean of x as the score."""
    table = {
        "name": "p",
        "source": {"topic": "devices/+/v", "time": "ts", "values": ["x", "y"]},
        "window": {"kind": "tumbling", "size": "10s", "lateness": "2s"},
        "features": ["mean", "max"],
        **more,
    }
    return parse_pipeline(table, "p")


def samples(devices: int = 3, count: int = 600, seed: int = 6) -> list[Sample]:
    """One a second and device, with jitter, in order of time."""
    noise = np.random.default_rng(seed)
    times = BEGIN + (np.arange(count)[:, None] * SECOND + noise.integers(0, 900_000, (count, devices)))
    found = [
        (f"d{at}", int(times[row, at]), round(float(np.sin(row / 60) + at / 10), 3), float(row))
        for row in range(count)
        for at in range(devices)
    ]
    return sorted(found, key=lambda sample: (sample[1], sample[0]))


def messages(rows: Sequence[Sample]) -> Iterator[tuple[str, bytes, int | None]]:
    for device, time, x, y in rows:
        yield f"devices/{device}/v", json.dumps({"ts": time / SECOND, "x": x, "y": y}).encode(), time


def live(spec: PipelineSpec, rows: Sequence[Sample]) -> list[dict[str, Any]]:
    """The events of a run over the messages."""
    events: list[dict[str, Any]] = run_messages(spec, None, "rock", messages(rows))["events"]
    return events


@contextmanager
def history(folder: Path, rows: Sequence[Sample], more: Callable[[Archive], None] | None = None) -> Iterator[DirectorySource]:
    """A history with these samples, read from its files."""
    clock = ManualClock(NOW)
    with SyncKeyValueStore(StorageConfig(folder, "64MiB", "none", "2MiB", "2MiB"), clock) as store:
        archive = Archive(store, clock=clock)
        for device in sorted({row[0] for row in rows}):
            mine = np.array([row[1:] for row in rows if row[0] == device])
            for at, name in enumerate("xy", start=1):
                archive.append(f"{device}/v/{name}", mine[:, 0].astype(np.int64), mine[:, at].copy())
        if more is not None:
            more(archive)
        archive.flush()
    source = DirectorySource(folder, clock)
    try:
        yield source
    finally:
        source.close()


def over(
    spec: PipelineSpec, source: DirectorySource, start: int = BEGIN - 60 * SECOND, end: int = NOW, diff: bool = False
) -> dict[str, Any]:
    """A replay out of a history."""
    past, span = Past(None, source), span_of(spec, start, end, NOW)
    return replay(spec, None, "rock", past, choose(spec, past, span), span, diff, lambda done: None)
