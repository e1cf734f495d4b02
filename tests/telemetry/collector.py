"""A collector for tests: OTLP over HTTP as the standard library serves it, decoded with the protocol's own messages."""

import gzip
import threading
from collections import deque
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any, ClassVar, Self

from opentelemetry.proto.collector.metrics.v1.metrics_service_pb2 import ExportMetricsServiceRequest, ExportMetricsServiceResponse
from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceRequest, ExportTraceServiceResponse


class Collector:
    """Keeps what it took. `answers` are used up first, `(status, headers, body)` each; while `held` is clear it answers nobody."""

    def __init__(self, port: int = 0) -> None:
        self.traces: list[Any] = []
        self.metrics: list[Any] = []
        self.headers: list[dict[str, str]] = []
        self.answers: deque[tuple[int, dict[str, str], bytes]] = deque()
        self.asked = 0
        self.held = threading.Event()
        self.held.set()
        self._server = ThreadingHTTPServer(("127.0.0.1", port), type("Handler", (_Handler,), {"collector": self}))
        self._server.daemon_threads = True
        self._thread = threading.Thread(target=self._server.serve_forever, args=(0.05,))

    @property
    def port(self) -> int:
        return int(self._server.server_address[1])

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.port}"

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(self, *error: object) -> None:
        self.held.set()
        self._server.shutdown()
        self._server.server_close()
        self._thread.join(30)

    def spans(self) -> list[Any]:
        return [span for each in self.traces for whole in each.resource_spans for part in whole.scope_spans for span in part.spans]

    def newest(self) -> dict[str, Any]:
        """The metrics of the newest request by name."""
        return {each.name: each for each in self.metrics[-1].resource_metrics[0].scope_metrics[0].metrics}


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    collector: ClassVar[Collector]

    def do_POST(self) -> None:
        here = self.collector
        body = self.rfile.read(int(self.headers["Content-Length"]))
        here.asked += 1
        here.headers.append(dict(self.headers.items()))
        here.held.wait(60)
        status, headers, answer = here.answers.popleft() if here.answers else (200, {}, self._take(gzip.decompress(body)))
        self.send_response(status)
        for name, value in {**headers, "Content-Length": str(len(answer))}.items():
            self.send_header(name, value)
        self.end_headers()
        self.wfile.write(answer)

    def _take(self, body: bytes) -> bytes:
        if self.path == "/v1/traces":
            self.collector.traces.append(ExportTraceServiceRequest.FromString(body))
            return bytes(ExportTraceServiceResponse().SerializeToString())
        assert self.path == "/v1/metrics"
        self.collector.metrics.append(ExportMetricsServiceRequest.FromString(body))
        return bytes(ExportMetricsServiceResponse().SerializeToString())

    def log_message(self, *args: object) -> None:
        """Say nothing on stderr."""


def attributes(values: Any) -> dict[str, Any]:
    """Attributes of anything that has some, as plain values."""
    return {each.key: getattr(each.value, each.value.WhichOneof("value")) for each in values}
