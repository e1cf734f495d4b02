"""Why a window scored so, measured with the model itself: each feature put to its reference in turn (occlusion).

A feature is taken out of the window while all others stay (M. Zeiler and R. Fergus, "Visualizing and Understanding Convolutional
Networks", 2014, section 4.2, does it with patches of a picture). Where features say the same the score stays high without each of
them, so what a feature added is measured besides as its Shapley value (E. Strumbelj and I. Kononenko, "An Efficient Explanation of
Individual Classifications using Game Theory", JMLR 11, 2010): in random orders, each with its reverse, features go one by one from
the reference to the window, and what the score moves by at a feature is averaged. It sums to the score less that of the reference.
"""

import math
from collections.abc import Iterable, Iterator, Mapping, Sequence
from itertools import islice, pairwise
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from skerry.broker import position
from skerry.core.clock import to_rfc3339
from skerry.core.errors import RejectedError
from skerry.core.ports import Scorer
from skerry.inference import Reference, reference_in
from skerry.pipeline.drift import DRIFT_KEY
from skerry.pipeline.explanation import Contribution, Explanation
from skerry.pipeline.offline import CHUNK, Message, frames_of
from skerry.pipeline.picture import TensorWindow
from skerry.pipeline.runner import Runner
from skerry.pipeline.spec import PipelineSpec
from skerry.pipeline.stage import Label, Scores, Stage
from skerry.pipeline.state import PipelineState
from skerry.window.state import Closed

MOST_WINDOWS = 100_000
MOST_PARTS = 2048
MOST_ORDERS, MOST_RUNS = 64, 2048
BATCH = 64
PATCHES = 4
"""A picture is cut into 4 x 4 patches."""
Floats = NDArray[np.float64]
Which = int | Mapping[str, Any] | None


class Seen(NamedTuple):
    """A scored window: what the model was given of it (`[F]`, `[samples, values]`, a picture or `[text]`), and what came of it."""

    window: Closed
    given: NDArray[Any]
    score: float
    label: Label


class Spread(NamedTuple):
    """Median, 10th and 90th percentile of a feature; NaN where nothing is known."""

    median: float
    low: float
    high: float


class KeepingStage(Stage):
    """A stage that keeps what it scored, up to 100,000 windows. It stands in for the runner's own, so that nothing differs."""

    def __init__(self, spec: PipelineSpec, scorer: Scorer | None) -> None:
        super().__init__(spec, scorer)
        self.seen: list[Seen] = []

    def score(self, windows: list[Closed]) -> Scores:
        found = super().score(windows)
        for window, score, label, row in zip(windows, found.scores, found.labels, found.rows, strict=True):
            if math.isnan(score):
                continue  # it becomes a dead letter
            if len(self.seen) == MOST_WINDOWS:
                raise RejectedError(f"the recording has more than {MOST_WINDOWS:,} windows", mend="give a part of it")
            self.seen.append(Seen(window, self._given(window, row), score, label))
        return found

    def _given(self, window: Closed, row: list[float]) -> NDArray[Any]:
        if isinstance(window, TensorWindow):
            return np.asarray(window.tensor)
        if row and (self._function is not None or self.scorer is None):
            return np.array(row, np.float64)
        return self._samples([window])[0]


def explain(spec: PipelineSpec, scorer: Scorer | None, node: str, which: Which, messages: Iterator[Message] | None) -> Explanation:
    """Why a window scored so.

    Args:
        which: a window by its place in the recording (negative: from its end), an event of it, or None: the one of the highest
            score.
        messages: the recording; None where an event alone is to be explained by the model's drift reference.

    Raises `RejectedError` where there is no such window, or nothing to compare it with.
    """
    stage = KeepingStage(spec, scorer)
    if messages is None:
        return _of_event(spec, stage, which)
    _run(spec, stage, node, messages)
    if not stage.seen:
        raise RejectedError("the recording gives no window", mend="see `skerry pipeline test` on the same file")
    at = _place(stage.seen, which)
    one, columns = stage.seen[at], _names(stage, stage.seen[at].given)
    trained = _trained(scorer, columns)
    spreads = _spreads_of(trained, columns) if trained else _spreads_in([seen.given for seen in stage.seen], one.given)
    about = ("training", trained.rows) if trained else ("recording", len(stage.seen))
    place = (at, one.window.key, to_rfc3339(one.window.start), to_rfc3339(one.window.end))
    return _explained(spec, stage, place, one, columns, spreads, about)


def _run(spec: PipelineSpec, stage: KeepingStage, node: str, messages: Iterator[Message]) -> None:
    runner = Runner(spec, stage.scorer, node, PipelineState(), stage=stage)
    frames = frames_of(spec, messages)
    while part := list(islice(frames, CHUNK)):
        runner.feed(part, position(part[0][1]), position(part[-1][1]), 0.0)
        runner.outputs.clear()
    runner.finish()


def _of_event(spec: PipelineSpec, stage: KeepingStage, which: Which) -> Explanation:
    if not isinstance(which, Mapping):
        raise RejectedError("a window by its place needs the recording that it is of", mend="explain(window, recording)")
    features = which.get("features")
    if not isinstance(features, Mapping) or not features or which.get("key") == DRIFT_KEY:
        raise RejectedError("the event carries no features", mend="give the recording beside it: explain(event, recording)")
    columns = list(features)
    trained = _trained(stage.scorer, columns)
    if trained is None:
        raise RejectedError(
            "the model carries no drift reference to compare the event with",
            mend="give the recording beside it, or train with skerry.inference.reference_of",
        )
    row = np.array([math.nan if value is None else value for value in features.values()], np.float64)
    scores, labels = _scores(stage, [row])
    window = Closed(str(which.get("key", "")), 0, 0, [], 1, 1)
    place = (None, window.key, str(which.get("start", "")), str(which.get("end", "")))
    one = Seen(window, row, float(scores[0]), labels[0])
    return _explained(spec, stage, place, one, columns, _spreads_of(trained, columns), ("training", trained.rows))


def _place(seen: Sequence[Seen], which: Which) -> int:
    if which is None:
        return max(range(len(seen)), key=lambda at: seen[at].score)
    if isinstance(which, Mapping):
        wanted = tuple(which.get(name) for name in ("key", "start", "end"))
        for at, each in enumerate(seen):
            if (each.window.key, to_rfc3339(each.window.start), to_rfc3339(each.window.end)) == wanted:
                return at
        raise RejectedError(f"the recording has no window of {wanted[0]} from {wanted[1]} to {wanted[2]}")
    if not -len(seen) <= which < len(seen):
        raise RejectedError(f"there is no window {which}", mend=f"the recording has {len(seen)}: 0 to {len(seen) - 1}")
    return which % len(seen)


def _names(stage: Stage, given: NDArray[Any]) -> list[str]:
    if given.dtype.kind not in "fiu":
        return str(given[0]).split()
    if given.ndim == 3:
        return [f"rows {top}-{end - 1}, columns {left}-{right - 1}" for top, end, left, right in _patches(stage, given)]
    return list(stage.columns) if stage.columns and given.ndim == 1 else list(stage.names)


def _trained(scorer: Scorer | None, columns: Sequence[str]) -> Reference | None:
    metadata = getattr(scorer, "metadata", None)
    return reference_in(metadata, columns) if isinstance(metadata, Mapping) else None


def _spreads_of(reference: Reference, columns: Sequence[str]) -> list[Spread]:
    found = []
    for name in columns:
        feature = reference.features[name]
        filled = np.cumsum(feature.fractions[:-1])
        points = [*feature.edges, feature.max]
        whole = float(filled[-1])
        at = [int(np.searchsorted(filled, whole * share - 1e-9)) for share in (0.5, 0.1, 0.9)]
        found.append(Spread(*(points[each] for each in at)) if whole > 0 else Spread(math.nan, math.nan, math.nan))
    return found


def _spreads_in(every: Sequence[NDArray[Any]], one: NDArray[Any]) -> list[Spread]:
    """Of what the recording has: a spread a column, of samples as of rows; of pictures the median alone, a pixel each."""
    if one.dtype.kind not in "fiu":
        return []
    if one.ndim == 3:
        return [Spread(float(each), math.nan, math.nan) for each in np.median(np.stack(every), axis=0).ravel()]
    table = np.concatenate([given.reshape(-1, given.shape[-1]) for given in every])
    found = []
    for column in table.T:
        finite = column[np.isfinite(column)]
        cut = np.quantile(finite, (0.5, 0.1, 0.9), method="inverted_cdf") if len(finite) else np.full(3, math.nan)
        found.append(Spread(*cut.tolist()))
    return found


Place = tuple[int | None, str, str, str]


def _explained(
    spec: PipelineSpec, stage: Stage, place: Place, one: Seen, columns: list[str], spreads: list[Spread], about: tuple[str, int]
) -> Explanation:
    if len(columns) > MOST_PARTS:
        raise RejectedError(f"{len(columns):,} features are more than {MOST_PARTS:,} to be explained one by one")
    usual = _at_reference(one.given, spreads)
    parts = _words(one.given) if usual is None else _parts(stage, one.given, usual, spreads, len(columns))
    without = _scores(stage, [part.without for part in parts])[0]
    base, added = math.nan, one.score - without
    if usual is not None:
        base = float(_scores(stage, [usual])[0][0])
        added = _shapley(stage, one.given, usual, [part.where for part in parts], base)
    features = []
    for at, (name, part) in enumerate(zip(columns, parts, strict=True)):
        median, low, high = (_finite(each) for each in part.spread)
        features.append(Contribution(name, _finite(part.value), median, low, high, _finite(without[at]), _finite(added[at])))
    features.sort(key=lambda each: -abs(each.contribution or 0.0))
    scorer = stage.scorer
    return Explanation(
        spec.name, scorer.name if scorer else None, scorer.version if scorer else None, *place, one.score, one.label, *about,
        _finite(base), features,
    )  # fmt: skip


class Part(NamedTuple):
    """A feature: where it is in what the model is given, the window with it at the reference, its value and its spread."""

    where: Any
    without: NDArray[Any]
    value: float
    spread: Spread


def _words(given: NDArray[Any]) -> list[Part]:
    words, unknown = str(given[0]).split(), Spread(math.nan, math.nan, math.nan)
    texts = [" ".join(words[:at] + words[at + 1 :]) for at in range(len(words))]
    return [Part(at, np.array([text], np.object_), math.nan, unknown) for at, text in enumerate(texts)]


def _parts(stage: Stage, given: NDArray[Any], usual: NDArray[Any], spreads: Sequence[Spread], count: int) -> list[Part]:
    picture = given.ndim == 3
    places = [_region(stage, *patch) for patch in _patches(stage, given)] if picture else [(..., at) for at in range(count)]
    parts = []
    for at, where in enumerate(places):
        without = given.copy()
        without[where] = usual[where]
        spread = Spread(float(usual[where].mean()), math.nan, math.nan) if picture else spreads[at]
        parts.append(Part(where, without, float(given[where].mean()), spread))
    return parts


def _shapley(stage: Stage, given: NDArray[Any], usual: NDArray[Any], places: Sequence[Any], base: float) -> Floats:
    """What each part added to the score, over at most `MOST_RUNS` rows; the same orders each time."""
    count = len(places)
    random, added = np.random.default_rng(0), np.zeros(count)
    pairs = max(1, min(MOST_ORDERS, MOST_RUNS // max(1, count)) // 2)
    for _ in range(pairs):
        order = random.permutation(count)
        for way in (order, order[::-1]):
            scores = _scores(stage, _steps(given, usual, [places[at] for at in way]))[0]
            added[way] += np.diff(scores, prepend=base)
    return added / (2 * pairs)


def _steps(given: NDArray[Any], usual: NDArray[Any], places: Sequence[Any]) -> Iterator[NDArray[Any]]:
    row = usual.copy()
    for where in places:
        row[where] = given[where]
        yield row.copy()


def _at_reference(given: NDArray[Any], spreads: Sequence[Spread]) -> NDArray[Any] | None:
    if given.dtype.kind not in "fiu":
        return None
    usual = np.array([spread.median for spread in spreads], given.dtype)
    return usual.reshape(given.shape) if given.ndim == 3 else np.broadcast_to(usual, given.shape).copy()


def _patches(stage: Stage, given: NDArray[Any]) -> Iterator[tuple[int, int, int, int]]:
    height, width = given.shape[1:] if stage.layout == "NCHW" else given.shape[:2]
    rows, columns = (np.linspace(0, size, min(PATCHES, size) + 1).astype(int).tolist() for size in (height, width))
    for top, end in pairwise(rows):
        for left, right in pairwise(columns):
            yield top, end, left, right


def _region(stage: Stage, top: int, end: int, left: int, right: int) -> Any:
    area = np.s_[top:end, left:right]
    return (slice(None), *area) if stage.layout == "NCHW" else area


def _scores(stage: Stage, rows: Iterable[NDArray[Any]]) -> tuple[Floats, list[Label]]:
    """Of rows of one shape, few at a time. Raises `RejectedError`."""
    left, scores, labels = iter(rows), [np.empty(0)], list[Label]()
    while part := list(islice(left, BATCH)):
        batch = np.stack(part)
        if stage.scorer is None:
            scores.append(np.asarray(batch[:, -1, 0] if batch.ndim == 3 else batch[:, 0], np.float64))
            labels += [None] * len(part)
        else:
            found, named = stage.scorer.score(batch)
            scores.append(found)
            labels += named
    return np.concatenate(scores), labels


def _finite(number: float) -> float | None:
    return float(number) if math.isfinite(number) else None
