"""What the tests of the uplink's rules share: pipelines with an uplink sink, their messages and events, and what left of them."""

import json
from collections.abc import Sequence
from typing import Any

from skerry.broker import Frame
from skerry.core.clock import SECOND, to_rfc3339
from skerry.core.settings import build
from skerry.pipeline import PipelineSpec
from skerry.uplink.config import UplinkConfig
from skerry.uplink.envelope import encode_envelope
from skerry.uplink.gather import Gatherer
from skerry.uplink.item import PRIORITIES, Item
from skerry.uplink.records import Record, decode
from tests.fixtures.frames import ARRIVAL, frame, sample, spec_of

KEY = bytes(range(32))
START = ARRIVAL // (3600 * SECOND) * 3600 * SECOND
"""An hour begins."""


def pipeline(sink: dict[str, Any] | None = None, **table: Any) -> PipelineSpec:
    """A pipeline `p` over `devices/+/v` with an uplink sink."""
    return spec_of(sinks=["event", {"kind": "uplink", **(sink or {})}], **table)


def gatherer(*specs: PipelineSpec, **config: Any) -> Gatherer:
    settings: UplinkConfig = build(UplinkConfig, config, "uplink")
    return Gatherer(settings, specs, KEY, "b")


def message(number: int, *values: float, device: str = "d", at: float | None = None, **more: Any) -> Frame:
    """Message `number`, one a second from `START` on, or `at` so many seconds after it; it arrives 1 ms later."""
    time = START + round((number if at is None else at) * SECOND)
    names = more.pop("names", ("x", "y", "z")[: len(values)])
    payload = sample(time / 1e6, *values, names=names, **more)
    return frame(number, payload, f"devices/{device}/v", arrival=time + 1000)


def happening(number: int, start: float, end: float, **more: Any) -> Frame:
    """An event as the pipelines put it out, its window so many seconds after `START`."""
    event = {
        "id": f"event-{number}", "pipeline": "p", "key": "d", "node": "n1", "start": to_rfc3339(START + round(start * SECOND)),
        "end": to_rfc3339(START + round(end * SECOND)), "count": 5, "score": 0.5, "label": None, "state": "info", "severity": None,
        "features": {"x_mean": 1.5}, "model": None, "version": None, "latency_ms": 1.25, "alarm_id": None, "flaps": None, **more,
    }  # fmt: skip
    return frame(number, json.dumps(event).encode(), "events", prefix="skerry.events.p.")


def enveloped(items: Sequence[Item], compression: Any = "zstd") -> list[bytes]:
    """The items as they leave, one envelope for each priority."""
    numbered = list(enumerate(items, start=1))
    return [
        encode_envelope("n1", "site", "e", lane, mine, compression)
        for lane in PRIORITIES
        if (mine := [(number, item) for number, item in numbered if item.priority == lane])
    ]


def records(items: Sequence[Item]) -> list[Record]:
    """What the centre makes of the items."""
    return [record for envelope in enveloped(items) for record in decode(envelope)]


def after(seconds: float) -> int:
    return START + round(seconds * SECOND)
