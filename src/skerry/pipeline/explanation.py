"""Why a window scored as it did, as numbers, a table and a picture."""

from html import escape

import msgspec

from skerry.core.html import shown, table

_MOST_BARS = 24
_ROW, _NAMES, _BARS, _WIDE = 20, 190, 300, 580


class Contribution(msgspec.Struct, frozen=True):
    """What one feature did to the score.

    Attributes:
        feature: a column of the pipeline; of a model on samples the value's name, of a picture a patch, of a text a word.
        value: of the window; of a model on samples their mean. None of a word.
        reference, low, high: median, 10th and 90th percentile of the reference.
        without: the window's score with this feature put to its reference.
        contribution: what the feature added to the score; of all features they sum to the score less `reference_score`. Of a
            word the score less that without it.
    """

    feature: str
    value: float | None
    reference: float | None
    low: float | None
    high: float | None
    without: float | None
    contribution: float | None

    @property
    def unusual(self) -> bool:
        """Whether the value is outside the middle four fifths of the reference."""
        if self.value is None or self.low is None or self.high is None:
            return False
        return not self.low <= self.value <= self.high


class Explanation(msgspec.Struct, frozen=True):
    """Why one window scored as it did: its features, the one that did most first.

    Attributes:
        window: its place among the windows of the recording, from 0; None of an event alone.
        reference: `training` (the model's drift reference) or `recording`; `reference_rows`: how many rows it has.
        reference_score: with all features at the reference; None where they are not replaced at once (text).
    """

    pipeline: str
    model: str | None
    version: str | None
    window: int | None
    key: str
    start: str
    end: str
    score: float
    label: str | int | None
    reference: str
    reference_rows: int
    reference_score: float | None
    features: list[Contribution]

    @property
    def title(self) -> str:
        """The window and its score in one line."""
        base = "" if self.reference_score is None else f", {shown(self.reference_score)} with all at the reference"
        return f"{self.pipeline}: {self.key} from {self.start} scored {shown(self.score)}{base}"

    def rows(self) -> list[tuple[str, float | None, str, float | None, float | None]]:
        """Feature, value, its reference as text, score without it, contribution."""
        return [(each.feature, each.value, _spread(each), each.without, each.contribution) for each in self.features]

    def svg(self) -> str:
        """A bar a feature, to the right where it raised the score: an SVG picture, at most 24 bars."""
        bars = self.features[:_MOST_BARS]
        most = max((abs(each.contribution or 0.0) for each in bars), default=0.0) or 1.0
        height = _ROW * (len(bars) + 1)
        zero = _NAMES + _BARS / 2
        drawn = "".join(_bar(at, each, zero, most) for at, each in enumerate(bars))
        return (
            f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {_WIDE} {height}" '
            f'width="{_WIDE}" height="{height}" role="img" font-family="sans-serif" font-size="12" fill="#808080">'
            f"<title>{escape(self.title)}</title>"
            f'<line x1="{zero}" y1="0" x2="{zero}" y2="{height - _ROW}" stroke="#808080"/>{drawn}'
            f'<text x="{zero}" y="{height - 5}" text-anchor="middle">what each added to the score</text></svg>'
        )

    def _repr_html_(self) -> str:
        columns = ("feature", "value", f"reference ({self.reference}, {self.reference_rows:,})", "score without it", "added")
        return self.svg() + table(self.title, columns, self.rows())


def _spread(each: Contribution) -> str:
    if each.reference is None:
        return "left out"
    if each.low is None:
        return shown(each.reference)
    return f"{shown(each.reference)} ({shown(each.low)} to {shown(each.high)})"


def _bar(at: int, each: Contribution, zero: float, most: float) -> str:
    added, top = each.contribution or 0.0, at * _ROW
    wide = abs(added) / most * _BARS / 2
    left = zero if added >= 0 else zero - wide
    colour = "#c2410c" if added >= 0 else "#1d6fb8"
    return (
        f'<text x="{_NAMES - 6}" y="{top + 14}" text-anchor="end">{escape(each.feature[:28])}</text>'
        f'<rect x="{left:.1f}" y="{top + 4}" width="{wide:.1f}" height="{_ROW - 8}" fill="{colour}"/>'
        f'<text x="{_NAMES + _BARS + 6}" y="{top + 14}">{escape(shown(each.contribution))}</text>'
    )
