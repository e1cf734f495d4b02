"""OpenTelemetry: metrics and sampled traces to a collector over OTLP/HTTP, an extra that costs nothing where it is off."""

from typing import TYPE_CHECKING

from skerry.core.lazy import lazy
from skerry.telemetry.config import TelemetryConfig, installed

if TYPE_CHECKING:
    from skerry.telemetry.encode import Span, encode_metrics, encode_trace
    from skerry.telemetry.lane import Lane, read_headers

__getattr__ = lazy(
    __name__,
    {"Lane": "lane", "Span": "encode", "encode_metrics": "encode", "encode_trace": "encode", "read_headers": "lane"},
)

__all__ = ["Lane", "Span", "TelemetryConfig", "encode_metrics", "encode_trace", "installed", "read_headers"]
