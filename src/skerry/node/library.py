"""A pipeline as a library: the one of the configuration, over rows or a file, without a node."""

from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any

import msgspec

from skerry.config import NodeConfig, load, socket_path
from skerry.core.clock import SystemClock
from skerry.core.html import table
from skerry.historian import Moment, moment
from skerry.http import Client, UnreachableError
from skerry.node.check import scorer_of
from skerry.pipeline import Explanation, PipelineSpec, explain, frame_rows, is_frame, read_messages, read_rows, run_messages
from skerry.replay import Progress, Wanted, choose, live_of, past_of, replay, replay_file, span_of
from skerry.uplink import MOST_MESSAGES, Preview, preview_of, site_key

Recording = str | Path | Iterable[Mapping[str, Any]] | Any
"""A JSONL, CSV or Parquet file, rows, or a data frame of pandas or polars (neither of which is imported here)."""


class Pipeline:
    """One pipeline of a configuration, with its model loaded."""

    def __init__(self, config: NodeConfig, name: str, model: str = "") -> None:
        """`model`: `name@version` in the place of the configured one.

        Raises `ConfigError` for an unknown name, `RejectedError` when the model does not load or does not fit."""
        spec = config.pipeline(name)
        self.spec: PipelineSpec = msgspec.structs.replace(spec, model=model) if model else spec
        self._config = config
        self._node = config.node.name
        self._scorer = scorer_of(config, self.spec)

    @classmethod
    def from_config(cls, path: str | Path, name: str, model: str = "") -> "Pipeline":
        """The pipeline `name` of a `skerry.toml`, with another model where one is named. Raises `ConfigError`, `RejectedError`."""
        return cls(load(Path(path)), name, model)

    def run(self, source: Recording) -> dict[str, Any]:
        """Run over a JSONL, CSV or Parquet file, over rows, or over a data frame; deterministic.

        Rows are `{"topic", "payload", "at"?}` messages, or `{"device", <time>, <values>…}` samples; those of a data frame have
        their time in a column or in the index. Answers `{"events",
        "messages", "windows", "late", "dead_letters", "ledger"}`. Raises `RejectedError` with the place of what is no message.
        """
        return run_messages(self.spec, self._scorer, self._node, self._messages(source))

    def preview(self, source: Recording = (), *, live_s: float = 0.0, client: Client | None = None) -> Preview:
        """What would leave over the uplink for these messages: the envelopes byte for byte, and what is in them.

        Args:
            live_s: instead of `source`, the messages that come to a running node in so many seconds.
            client: of that node; by default that of the configuration.

        Raises `RejectedError` where the pipeline has no uplink sink, and as `run` does; `UnavailableError` without a node.
        """
        who = (self._node, self._config.node.site)
        key = site_key(self._config.data_dir, make=False)
        messages = self._live(live_s, client) if live_s else self._messages(source)
        return preview_of(self._config.uplink, self.spec, self._scorer, messages, who, key)

    def _live(self, seconds: float, client: Client | None) -> Iterator[tuple[str, bytes, int | None]]:
        asked = client or Client(socket_path(self._config), 60.0)
        try:
            yield from live_of(asked, self.spec.source.topic, seconds, SystemClock(), MOST_MESSAGES)
        finally:
            if client is None:
                asked.close()

    def _messages(self, source: Recording) -> Iterator[tuple[str, bytes, int | None]]:
        if isinstance(source, str | Path):
            return read_messages(self.spec, Path(source))
        return read_rows(self.spec, frame_rows(source, self.spec.source.time) if is_frame(source) else source)

    def test(self, source: Recording) -> list[dict[str, Any]]:
        """The events of `run`."""
        events: list[dict[str, Any]] = self.run(source)["events"]
        return events

    def explain(self, window: int | Mapping[str, Any] | None = None, source: Recording | None = None) -> Explanation:
        """Why a window scored so: each feature against the reference, and what it added to the score.

        Args:
            window: its place among the recording's windows (from 0; negative from the end), an event of it, or None: the window
                of the highest score.
            source: the recording, as `run` takes it. An event alone is enough where the model carries a drift reference.

        The reference is the model's drift reference where it has one, else the windows of the recording. In a notebook the
        answer is a table and a picture (`.svg()`). Raises `RejectedError`.
        """
        messages = None if source is None else self._messages(source)
        return explain(self.spec, self._scorer, self._node, window, messages)

    def _repr_html_(self) -> str:
        spec = self.spec
        rule = "every window is an event"
        if spec.rule is not None:
            way = f"above {spec.rule.above:g}" if spec.rule.above is not None else f"below {spec.rule.below:g}"
            rule = f"{spec.rule.severity} when {spec.rule.field} is {way}, for {spec.rule.for_}"
        features = spec.features if isinstance(spec.features, str) else ", ".join(spec.features)
        rows = [
            ("source", f"{spec.source.topic} ({spec.source.format})"),
            ("values", ", ".join(spec.source.names)),
            ("window", spec.window.kind),
            ("features", features or "the samples themselves"),
            ("model", f"{self._scorer.name}@{self._scorer.version}" if self._scorer else None),
            ("rule", rule),
            ("sinks", ", ".join(sink.kind for sink in spec.sinks)),
        ]
        return table(f"pipeline {spec.name}", (), rows)

    def replay(
        self,
        start: Moment = "-1h",
        end: Moment = "now",
        *,
        diff: bool = False,
        source: Wanted = "auto",
        file: str | Path = "",
        client: Client | None = None,
        progress: Progress = lambda done: None,
    ) -> dict[str, Any]:
        """Run over what the node's log or history has of a time, or over a file, into nothing but the answer.

        Args:
            start, end: Unix seconds or milliseconds, RFC 3339, a `datetime`, or a duration before now such as `"-7d"`.
            diff: compare with the events that the node has of that time.
            source: `log`, `history`, or `auto`: the log where it reaches back far enough.
            client: of the node that is asked; by default that of the configuration, and its files where it does not run.
            progress: called with the part that is done, 0 to 1.

        Answers `{"events", "messages", "windows", "late", "dead_letters", "left_out", "source"}` and `diff`. Raises `RejectedError`
        where nothing is there to be replayed, `UnavailableError`.
        """
        own = self._own_client() if client is None else None
        try:
            with past_of(client or own, self._config.history_path) as past:
                if file:
                    return replay_file(self.spec, self._scorer, self._node, past, Path(file), diff, progress)
                now = SystemClock().now()
                span = span_of(self.spec, moment(start, now), moment(end, now), now)
                chosen = choose(self.spec, past, span, source)
                return replay(self.spec, self._scorer, self._node, past, chosen, span, diff, progress)
        finally:
            if own is not None:
                own.close()

    def _own_client(self) -> Client | None:
        """Of the node of the configuration; None where it does not run."""
        client = Client(socket_path(self._config), 60.0)
        try:
            client.get("/healthz")
        except UnreachableError:
            client.close()
            return None
        return client
