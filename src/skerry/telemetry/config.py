"""`[telemetry]`: whether metrics and traces go to an OpenTelemetry collector, how often, and what is kept while it is away."""

from importlib.util import find_spec
from urllib.parse import urlsplit

import msgspec

from skerry.core.errors import ConfigError
from skerry.core.units import at_key, parse_duration, parse_size

_ALLOWED = "http://host:4318 or https://host"


class TelemetryConfig(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """The table `[telemetry]`.

    Attributes:
        endpoint: of OTLP/HTTP, without `/v1/…`; empty: nothing is sent.
        headers_file: lines `Name: value` that go with each request, such as a token of the collector.
        ca: a PEM file with who may have signed its certificate; empty: whom this machine trusts.
        metrics, traces: how often all metrics are sent, and one message of each pipeline is followed; "0s": not at all.
        queue: what is kept of each kind while the collector does not take it; the oldest goes first, and is counted.
        timeout: of one request.
    """

    endpoint: str = ""
    headers_file: str = ""
    ca: str = ""
    metrics: str = "30s"
    traces: str = "10s"
    queue: str = "1MiB"
    timeout: str = "10s"

    def __post_init__(self) -> None:
        self._check_endpoint()
        for where in ("metrics", "traces"):
            if 0 < at_key(where, parse_duration, getattr(self, where)) < 1_000_000:
                raise ConfigError(f"{getattr(self, where)} is too often", where=where, allowed="0s (never), or 1s and more")
        if not parse_size("16KiB") <= at_key("queue", parse_size, self.queue) <= parse_size("64MiB"):
            raise ConfigError(f"{self.queue} is out of range", where="queue", allowed="16KiB to 64MiB")
        if not 100_000 <= at_key("timeout", parse_duration, self.timeout) <= 60_000_000:
            raise ConfigError(f"{self.timeout} is out of range", where="timeout", allowed="100ms to 60s")

    def _check_endpoint(self) -> None:
        if not self.endpoint:
            return
        try:
            parts = urlsplit(self.endpoint)
            fits = parts.scheme in ("http", "https") and bool(parts.hostname) and parts.port != 0
        except ValueError as error:
            raise ConfigError(f"is no URL: {error}", where="endpoint", allowed=_ALLOWED) from error
        if "@" in parts.netloc:
            raise ConfigError("carries a log-in that everybody could see", where="endpoint", mend="use headers_file")
        if not fits or parts.query or parts.fragment or parts.path.rstrip("/").endswith(("/v1/traces", "/v1/metrics")):
            raise ConfigError(f"{self.endpoint!r} is no such address", where="endpoint", allowed=_ALLOWED)


def installed() -> bool:
    """Whether the extra `skerry[otel]` is there."""
    return find_spec("opentelemetry") is not None and find_spec("opentelemetry.proto") is not None
