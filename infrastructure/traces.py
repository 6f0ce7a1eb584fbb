"""What do the service's spans look like? A receiver of OpenTelemetry's OTLP over HTTP that prints each trace as a tree.

`python -m infrastructure.traces`, on this machine only; in production a collector takes its place.
"""

import gzip
import sys
from collections.abc import Callable, Iterator, Sequence
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from importlib import import_module
from typing import Any

PORT = 4318  # OTLP's own


class Receiver(ThreadingHTTPServer):
    """Hands each batch of spans that arrives, as lines of text, to `show`."""

    daemon_threads = True

    def __init__(self, port: int = PORT, show: Callable[[str], object] = print) -> None:
        super().__init__(("127.0.0.1", port), _Handler)
        self.show = show


class _Handler(BaseHTTPRequestHandler):
    server: Receiver

    def do_POST(self) -> None:
        body = self.rfile.read(int(self.headers.get("Content-Length") or 0))
        if self.headers.get("Content-Encoding") == "gzip":
            body = gzip.decompress(body)
        self.send_response(200)
        self.send_header("Content-Type", "application/x-protobuf")
        self.send_header("Content-Length", "0")  # an empty message: all is accepted
        self.end_headers()
        if self.path.endswith("/traces"):
            for line in lines(spans_in(body)):
                self.server.show(line)

    def log_message(self, *_: object) -> None:
        pass


def spans_in(body: bytes) -> list[Any]:
    """Decode what an exporter sent."""
    messages = import_module("opentelemetry.proto.collector.trace.v1.trace_service_pb2")  # comes with the extra
    batch = messages.ExportTraceServiceRequest.FromString(body)
    return [span for resource in batch.resource_spans for scope in resource.scope_spans for span in scope.spans]


def lines(spans: Sequence[Any], parent: Any = None, depth: int = 0) -> Iterator[str]:
    """Show spans below those that caused them; one whose cause is not among them stands at the margin."""
    known = {span.span_id for span in spans}
    for span in sorted(spans, key=lambda span: span.start_time_unix_nano):
        if (span.parent_span_id == parent.span_id) if parent else span.parent_span_id not in known:
            duration = (span.end_time_unix_nano - span.start_time_unix_nano) / 1e6
            about = "  ".join(f"{each.key}={_text(each.value)}" for each in span.attributes)
            yield f"{'  ' * depth}{span.name}  {duration:.1f} ms  {about}"
            yield from lines(spans, span, depth + 1)


def _text(value: Any) -> str:
    return str(getattr(value, value.WhichOneof("value") or "string_value"))


def main() -> None:
    """Receive until Ctrl+C."""
    with Receiver() as receiver:
        print(f"waiting for spans on http://127.0.0.1:{PORT}/v1/traces", file=sys.stderr)
        try:
            receiver.serve_forever()
        except KeyboardInterrupt:
            return


if __name__ == "__main__":
    main()
