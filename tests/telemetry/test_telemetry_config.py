"""`[telemetry]`: what it takes, and what it says of what it does not take."""

import pytest

from skerry.core.errors import ConfigError
from skerry.core.settings import build
from skerry.telemetry import TelemetryConfig


def test_it_is_off_unless_an_endpoint_is_named() -> None:
    assert TelemetryConfig().endpoint == ""


@pytest.mark.parametrize("endpoint", ["http://collector:4318", "https://otel.example.org", "http://[::1]:4318/otlp"])
def test_endpoints(endpoint: str) -> None:
    assert TelemetryConfig(endpoint=endpoint).endpoint == endpoint


@pytest.mark.parametrize(
    ("key", "value", "said"),
    [
        ("endpoint", "collector:4317", "no such address"),
        ("endpoint", "grpc://collector:4317", "no such address"),
        ("endpoint", "http://collector:4318/v1/traces", "no such address"),
        ("endpoint", "http://me:secret@collector", "headers_file"),
        ("endpoint", "http://collector:port", "is no URL"),
        ("metrics", "200ms", "too often"),
        ("traces", "soon", "traces"),
        ("queue", "1KiB", "16KiB to 64MiB"),
        ("timeout", "10m", "100ms to 60s"),
    ],
)
def test_what_it_does_not_take(key: str, value: str, said: str) -> None:
    with pytest.raises(ConfigError) as refused:
        build(TelemetryConfig, {key: value}, "skerry.toml: telemetry")
    assert said in str(refused.value)
    assert key in str(refused.value)
