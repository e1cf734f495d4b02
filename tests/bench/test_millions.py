"""The row "millions" measures each system in a process of its own."""

import asyncio
from pathlib import Path

import pytest

from bench import millions
from bench.rows import Options
from bench.storage import readings


def test_rocksdict_keeps_every_sample(tmp_path: Path) -> None:
    found = millions.measure_rocksdict(tmp_path / "rocks", readings(True, series=2, hours=2))
    assert 2 < found["size"] < 60
    assert all(found[name] > 0 for name in ("write", "scan", "hour"))


def test_every_peer_is_measured_and_told(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(millions, "SERIES", 2)
    monkeypatch.setattr(millions, "HOURS", 2)
    said: list[str] = []
    rows = asyncio.run(millions.millions(Options(rounds=1, seconds=0.1), said.append))
    assert len(rows) == 10
    assert all(row.skerry is not None and row.peer is not None for row in rows)
    assert [line.split(":")[0].strip() for line in said] == list(millions.SYSTEMS)
