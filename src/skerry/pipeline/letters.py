"""Which dead letters are meant: single ones by their ids, those of a reason or a key, or all; and one of them, looked into."""

from typing import Any

import msgspec

from skerry.pipeline.event import DeadLetter, show_letter, window_inside

Row = dict[str, Any]
MOST_IDS = 1000
MOST_VALUES = 10_000


class LetterFilter(msgspec.Struct, frozen=True):
    """What is empty does not matter; without anything all are meant."""

    ids: frozenset[str] = frozenset()
    reason: str = ""
    key: str = ""

    @property
    def all(self) -> bool:
        """Whether it leaves none out."""
        return not (self.ids or self.reason or self.key)

    def takes(self, letter: DeadLetter) -> bool:
        """Whether a letter is one of those."""
        fits = (not self.reason or letter.reason == self.reason) and (not self.key or letter.key == self.key)
        return fits and (not self.ids or letter.identity in self.ids)


def look_inside(letter: DeadLetter) -> Row:
    """All of a letter: a message's payload, or `window: {start, end, samples, values}` of the first 10,000 numbers of a window."""
    shown = show_letter(letter)
    return {**shown, "window": window_inside(letter.payload, MOST_VALUES)} if letter.window and letter.payload else shown
