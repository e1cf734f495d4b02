"""Dead letters of a node that is not there: rows that a test has put there, chosen by the same filter as on a node."""

from typing import Any

from skerry.pipeline import DeadLetter, LetterFilter

Row = dict[str, Any]


class FakeLetters:
    """Rows by pipeline, oldest first."""

    letters: dict[str, list[Row]]

    async def deadletters(self, pipeline: str, limit: int, after: str | None, which: LetterFilter) -> tuple[list[Row], str | None]:
        begin = int(after or 0)
        rows = [row for row in self.letters[pipeline] if self._takes(row, which)]
        return rows[begin : begin + limit], str(begin + limit) if begin + limit < len(rows) else None

    def _takes(self, row: Row, which: LetterFilter) -> bool:
        return which.takes(DeadLetter(int(row.get("sequence", 0)), row["reason"], "", "", row.get("key", ""), 0, b""))

    async def deadletters_retry(self, pipeline: str, which: LetterFilter) -> int:
        return await self.deadletters_drop(pipeline, which)

    async def deadletters_drop(self, pipeline: str, which: LetterFilter) -> int:
        kept = [row for row in self.letters[pipeline] if not self._takes(row, which)]
        count = len(self.letters[pipeline]) - len(kept)
        self.letters[pipeline] = kept
        return count
