"""A log and an audit log in memory: implements `JournalView` as the real one does."""

from typing import Any

from skerry.core.journal import Sieve

Row = dict[str, Any]


class FakeJournal:
    """A log and an audit log as lists of entries."""

    def __init__(self) -> None:
        self.lines: list[Row] = []
        self.noted: list[Row] = []

    async def log(self, sieve: Sieve, last: int) -> Row:
        return {"entries": [entry for entry in self.lines if sieve.fits(entry)][-last:], "whole": True}

    async def audit(self, sieve: Sieve, last: int) -> Row:
        return {"entries": [entry for entry in self.noted if sieve.fits(entry)][-last:], "whole": True}
