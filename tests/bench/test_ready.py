"""The row "ready": a real node is given real versions, and what is timed has really happened."""

import asyncio
from pathlib import Path

import pytest

from bench import ready as bench
from bench.ready import MODEL, Keeper, ready
from bench.rows import Options


class Seen(Keeper):
    """The last node, as it was before it was stopped."""

    rows: list[tuple[str, bool]]
    scoring: str

    async def stop(self) -> None:
        found = (await self.call("GET", "/models"))["models"]
        Seen.rows = [(row["version"], row["version"] == "1" or row["latency_ms"] > 0) for row in found]
        Seen.scoring = (await self.pipeline())["model"]
        await super().stop()


def test_the_rows_have_a_figure_of_each_round(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(bench, "ADDS", 1)
    monkeypatch.setattr(bench, "Keeper", Seen)
    said: list[str] = []
    rows = asyncio.run(ready(Options(rounds=1, seconds=0.1), said.append))
    assert [row.row for row in rows] == ["ready"] * 4
    assert [row.goal for row in rows] == ["≤ 150", "≤ 150", "", ""]
    assert all(row.skerry and row.skerry > 0 and row.unit == "ms" for row in rows)
    assert [len(row.rounds["skerry"]) for row in rows] == [1, 1, 1, 1]
    assert len(said) == 1
    # added first, added later and made active, added by the command
    assert Seen.rows == [("1", True), ("2", True), ("3", True), ("4", True)]
    assert Seen.scoring == f"{MODEL}@3"


def test_each_file_is_a_new_one(tmp_path: Path) -> None:
    keeper = Keeper(tmp_path)
    try:
        assert len({keeper.model().read_bytes() for _ in range(3)}) == 3
    finally:
        keeper.log.close()
