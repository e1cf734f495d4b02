"""A message that was followed, as the node in memory has it."""

from typing import Any

from skerry.core.clock import to_rfc3339
from skerry.core.errors import UnavailableError


def traced(pipeline: str, device: str, seconds: float) -> dict[str, Any]:
    """The one that there is; of the device `silent` there is none."""
    if device == "silent":
        raise UnavailableError(f"no message of {device} came for pipeline {pipeline} within {seconds:g} s")
    spans = [
        {"step": "log", "what": "in the log", "begin": 0.0, "ms": 0.5, "at": to_rfc3339(0)},
        {"step": "open", "what": "in the open window", "begin": 0.5, "ms": 1000.0, "at": to_rfc3339(0)},
        {"step": "rule", "what": "the rule", "begin": 1000.5, "ms": 0.0, "at": to_rfc3339(0)},
    ]
    window = {"start": to_rfc3339(0), "end": to_rfc3339(1_000_000), "samples": 50}
    return {
        "pipeline": pipeline, "key": device or "pump-1", "topic": "devices/pump-1/v", "sequence": 7, "bytes": 20,
        "outcome": "event", "event": "e1", "window": window, "batch": 2, "total_ms": 1000.5, "spans": spans,
    }  # fmt: skip
