"""Gathers what leaves: messages of the log and events in, items for the queue out. Pure: time comes in."""

import hashlib
from collections.abc import Sequence
from typing import Any

import msgspec
import zstandard

from skerry.broker import Frame, position
from skerry.core.errors import CorruptError
from skerry.core.units import parse_duration
from skerry.pipeline import RETRY_PREFIX, WINDOW_HEADER, PipelineSpec, topic_of
from skerry.uplink.config import UplinkConfig
from skerry.uplink.counts import Counts
from skerry.uplink.flow import ROOM, Flow, FlowState
from skerry.uplink.item import Item
from skerry.uplink.notice import read_event
from skerry.uplink.redact import Privacy

_RETRY = RETRY_PREFIX.encode()
_WINDOW = WINDOW_HEADER + b"\r\n"
_MOST_SUBJECTS = 100_000
_MOST_SNAPSHOT = 256 * 1024 * 1024


class _State(msgspec.Struct):
    """`digests`: what each flow's rows look like; those of another look are not restored."""

    born: str
    flows: dict[str, FlowState]
    withheld: dict[str, int]
    digests: dict[str, str]
    undecodable: int = 0


class Gatherer:
    """What leaves of all pipelines with an uplink sink.

    Args:
        key: the site's (`site_key`).
        born: a text that no earlier gatherer of this node had; a restored one goes on with its own.
    """

    def __init__(self, config: UplinkConfig, pipelines: Sequence[PipelineSpec], key: bytes, born: str = "0") -> None:
        self._config = config
        self._specs = [spec for spec in pipelines if any(sink.kind == "uplink" for sink in spec.sinks)]
        self._privacy = Privacy(config.rules(), config.allow, key)
        self._born = born
        self._undecodable = 0
        self._flows = self._make()
        self._routes: dict[bytes, list[Flow]] = {}
        self._clock = 0

    def _make(self) -> dict[str, Flow]:
        batch, delay = self._config.batch, parse_duration(self._config.batch.delay)
        how = (self._config.select, self._privacy, batch.messages, delay, self._born, ROOM // max(1, len(self._specs)))
        return {spec.name: Flow(spec, *how) for spec in self._specs}

    @property
    def reads_log(self) -> bool:
        """Whether anything of the log leaves; without, events are enough."""
        return any(flow.reads_log for flow in self._flows.values())

    def feed(self, messages: list[Frame], events: list[Frame], now: int) -> list[Item]:
        """What messages, events and the passing of time make ready to leave.

        Args:
            messages: frames of the log, in its order. events: frames of the event stream.
            now: microseconds; while messages come, their arrival counts instead, so that a backlog is cut as it was made.
        """
        items: list[Item] = []
        for frame in messages:
            for flow in self._flows_of(frame):
                flow.take(frame, position(frame[1]).arrival)
        self._clock = position(messages[-1][1]).arrival if messages else now
        for frame in events:
            event = read_event(frame[3])
            if event is None:
                self._undecodable += 1
            elif (found := self._flows.get(event.pipeline)) is not None:
                items += found.take_event(event, self._clock)
        for flow in self._flows.values():
            items += flow.due(self._clock)
        return items

    def finish(self) -> list[Item]:
        """All that is gathered, as items."""
        return [item for flow in self._flows.values() for item in flow.due(self._clock, last=True)]

    @property
    def counts(self) -> dict[str, Any]:
        """`pipelines`: by name what came in, was queued and saved; `withheld`: fields that did not leave as they were, by rule."""
        shown = {name: self._counts(flow).show() for name, flow in self._flows.items()}
        return {"pipelines": shown, "withheld": dict(self._privacy.withheld), "undecodable": self._undecodable}

    def snapshot(self) -> bytes:
        """All state."""
        flows = {name: flow.snapshot() for name, flow in self._flows.items()}
        digests = {spec.name: self._digest(spec) for spec in self._specs}
        state = _State(self._born, flows, dict(self._privacy.withheld), digests, self._undecodable)
        return zstandard.ZstdCompressor(level=1).compress(msgspec.msgpack.encode(state))

    def restore(self, snapshot: bytes) -> None:
        """Go on where a snapshot was made. Raises `CorruptError`.

        What was gathered of a pipeline whose values, sink or privacy have changed since is not carried on; its counts are.
        """
        try:
            plain = zstandard.ZstdDecompressor().decompress(snapshot, max_output_size=_MOST_SNAPSHOT)
            state = msgspec.msgpack.decode(plain, type=_State)
        except (zstandard.ZstdError, msgspec.MsgspecError, UnicodeDecodeError) as error:
            raise CorruptError(f"the uplink's checkpoint cannot be read: {error}") from error
        self._born = state.born
        self._undecodable = state.undecodable
        self._privacy.withheld.clear()
        self._privacy.withheld.update(state.withheld)
        self._flows = self._make()
        self._routes.clear()
        for spec in self._specs:
            found = state.flows.get(spec.name)
            if found is None:
                continue
            if state.digests.get(spec.name) != self._digest(spec):
                found = FlowState(made=found.made, counts=found.counts)
            self._flows[spec.name].restore(found)

    def _flows_of(self, frame: Frame) -> list[Flow]:
        if frame[0].startswith(_RETRY) or frame[2].endswith(_WINDOW):
            return []  # it came before
        found = self._routes.get(frame[0])
        if found is None:
            topic = topic_of(frame[0])
            if len(self._routes) >= _MOST_SUBJECTS:
                self._routes.clear()
            found = self._routes[frame[0]] = [flow for flow in self._flows.values() if flow.reads_log and flow.reads(topic)]
        return found

    def _counts(self, flow: Flow) -> Counts:
        state = flow.state
        state.counts.waiting, state.counts.full = flow.waiting, flow.full
        return state.counts

    def _digest(self, spec: PipelineSpec) -> str:
        sink = next(sink for sink in spec.sinks if sink.kind == "uplink")
        text = repr((spec.source, sink, self._config.select, self._config.redact, self._config.allow))
        return hashlib.sha256(text.encode()).hexdigest()[:16]
