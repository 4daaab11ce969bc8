"""What `paramcast serve` sends to a collector of OpenTelemetry, as a real one on loopback gets it."""

from __future__ import annotations

import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import httpx2
import pytest
from processes import service
from test_cli_operations import request, sequence_of

from paramcast.errors import MissingExtraError
from paramcast.server.tracing import OpenTelemetryTracing, Tracing

collector = pytest.importorskip("opentelemetry.proto.collector.trace.v1.trace_service_pb2")
TRACE, PARENT = "0af7651916cd43dd8448eb211c80319c", "b7ad6b7169203331"


@contextmanager
def collecting() -> Iterator[tuple[str, list[bytes]]]:
    """A collector: its URL, and the bodies that it was sent."""
    bodies: list[bytes] = []

    class Handler(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            body = self.rfile.read(int(self.headers["content-length"]))
            if self.path == "/v1/traces":
                bodies.append(body)
            self.send_response(200)
            self.send_header("content-length", "0")
            self.end_headers()

        def log_message(self, format: str, *args: object) -> None:
            pass

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
    thread.start()
    try:
        yield f"http://127.0.0.1:{server.server_port}", bodies
    finally:
        server.shutdown()
        thread.join()
        server.server_close()


def test_requests_and_batches_are_traced(tmp_path: Path) -> None:
    with (
        collecting() as (endpoint, bodies),
        service(tmp_path, PARAMCAST_OTLP_ENDPOINT=endpoint, OTEL_RESOURCE_ATTRIBUTES="place=x") as cloud,
    ):
        headers = {"traceparent": f"00-{TRACE}-{PARENT}-01"}
        reply = httpx2.post(f"{cloud.url}/v1/adapt", content=request().encode(), headers=headers)
        assert sequence_of(reply.content, cloud.public_key) == 1
        assert cloud.stop() in (0, -15)  # sends what it has kept
    exported = [collector.ExportTraceServiceRequest.FromString(body) for body in bodies]
    resources = [one for batch in exported for one in batch.resource_spans]
    about = {item.key: item.value.string_value for item in resources[0].resource.attributes}
    assert (about["service.name"], about["place"]) == ("paramcast", "x")
    spans = [span for one in resources for scope in one.scope_spans for span in scope.spans]
    (asked,) = [span for span in spans if span.name == "POST /v1/adapt"]
    assert (asked.trace_id.hex(), asked.parent_span_id.hex()) == (TRACE, PARENT)
    assert {"http.status_code", "http.response.status_code"} & {item.key for item in asked.attributes}
    (batch,) = [span for span in spans if span.name == "batch" and span.links]
    assert [link.span_id for link in batch.links] == [asked.span_id]
    assert {item.key: item.value.int_value for item in batch.attributes} == {"requests": 1}
    inside = [span for span in spans if span.parent_span_id == batch.span_id]
    assert [span.name for span in sorted(inside, key=lambda span: span.start_time_unix_nano)] == [
        "admit",
        "generate",
        "issue",
    ]
    # Neither what was asked nor who asked it is told to the collector.
    assert not any(b"cam-1" in body for body in bodies)


def test_a_collector_that_is_away_harms_nobody(tmp_path: Path) -> None:
    with collecting() as (endpoint, _):
        pass
    with service(tmp_path, PARAMCAST_OTLP_ENDPOINT=endpoint, OTEL_EXPORTER_OTLP_TIMEOUT="1") as cloud:
        reply = httpx2.post(f"{cloud.url}/v1/adapt", content=request().encode())
        assert sequence_of(reply.content, cloud.public_key) == 1


def test_without_the_extra_it_says_what_to_install(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "opentelemetry.sdk.trace", None)
    with pytest.raises(MissingExtraError, match=r"paramcast\[traces\]"):
        OpenTelemetryTracing("http://127.0.0.1:4318")


def test_without_a_collector_nothing_is_traced() -> None:
    tracing = Tracing()
    with tracing.span("batch", [tracing.here()], requests=1) as span:
        assert span is None
    tracing.close()
