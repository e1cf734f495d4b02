"""Labelled windows of simulated devices with the features of the pipelines: for training and for testing the models."""

from collections.abc import Iterable, Sequence

import numpy as np
from numpy.typing import NDArray

from skerry.demo.computer import COMPUTER_FEATURES, COMPUTER_VALUES, OVERLOAD
from skerry.demo.faults import NORMAL, FaultSchedule
from skerry.demo.pump import PERIOD_US, PUMP_FEATURES, PUMP_VALUES, PumpStation, Reading
from skerry.demo.score import majority
from skerry.demo.workload import CORES, PERIOD_S, workload
from skerry.window.features import compute

WINDOW_US = 1_000_000


class Examples:
    """Windows of one kind: `features [n, F]` float64, `labels` and what each window is of (`device`, `start_us`)."""

    def __init__(self, features: NDArray[np.float64], labels: Sequence[str], origins: Sequence[tuple[str, int]]) -> None:
        self.features = features
        self.labels = np.array(labels)
        self.origins = list(origins)


def pump_examples(seeds: Iterable[int], seconds: int) -> Examples:
    """Tumbling 1 s windows, aligned to the epoch, of stations that run for so many seconds each.

    A window is faulty where a fault was there for at least half of it; its label is that fault.
    """
    rows: list[list[float]] = []
    counts: list[int] = []
    labels: list[str] = []
    origins: list[tuple[str, int]] = []
    for seed in seeds:
        start = station_start(seed)
        station = PumpStation(seed)
        schedule = station.schedule = FaultSchedule(seed, start, station.devices)
        windows: dict[tuple[str, int], list[Reading]] = {}
        for number in range(seconds * WINDOW_US // PERIOD_US):
            for reading in station.step(start + number * PERIOD_US):
                at = reading.ts_us - reading.ts_us % WINDOW_US
                windows.setdefault((reading.device, at), []).append(reading)
        for (device, at), readings in windows.items():
            if at < start or at + WINDOW_US > start + seconds * WINDOW_US:
                continue
            rows.extend([reading.values[name] for name in PUMP_VALUES] for reading in readings)
            counts.append(len(readings))
            labels.append(majority(schedule.episodes(device, at, at + WINDOW_US), at, at + WINDOW_US))
            origins.append((device, at))
    return Examples(_features(PUMP_FEATURES, rows, counts), labels, origins)


def station_start(seed: int) -> int:
    """When the station of this seed begins: a day for each, at another moment of its second."""
    return 1_700_000_000_000_000 + seed * 86_400_000_000 + (seed * 137_911) % WINDOW_US


def computer_examples(seeds: Iterable[int], seconds: int) -> Examples:
    """Windows of ten readings of computers with 1 to 64 cores; overloaded where at least half of the readings were."""
    size = round(1 / PERIOD_S)
    rows: list[list[float]] = []
    labels: list[str] = []
    origins: list[tuple[str, int]] = []
    for seed in seeds:
        cores = CORES[seed % len(CORES)]
        samples = list(workload(seed, cores, seconds * size))
        for start in range(0, len(samples), size):
            window = samples[start : start + size]
            rows.extend([sample.values[name] for name in COMPUTER_VALUES] for sample in window)
            overloaded = sum(sample.label == OVERLOAD for sample in window)
            labels.append(OVERLOAD if 2 * overloaded >= size else NORMAL)
            origins.append((f"{cores} cores", start))
    return Examples(_features(COMPUTER_FEATURES, rows, [size] * len(labels)), labels, origins)


def _features(names: Sequence[str], rows: list[list[float]], counts: list[int]) -> NDArray[np.float64]:
    offsets = np.concatenate(([0], np.cumsum(counts))).astype(np.int64)
    return compute(names, np.array(rows), offsets)
