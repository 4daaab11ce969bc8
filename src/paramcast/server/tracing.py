"""Traces of what the service does, for OpenTelemetry (extra `traces`); without it, nothing is traced.

A request is a span of its own, which goes on the trace that its `traceparent` header names. What is done for
many requests at once is a trace of its own, whose first span is linked to those of its requests.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from contextlib import AbstractContextManager, contextmanager, nullcontext
from typing import TYPE_CHECKING, Any

from paramcast import __version__
from paramcast.errors import MissingExtraError

if TYPE_CHECKING:
    from starlette.types import ASGIApp


class Tracing:
    """Traces nothing."""

    def here(self) -> object:
        """What is traced at this point, to be linked to later; None where nothing is."""
        return None

    def span(
        self, name: str, origins: Iterable[object] = (), **attributes: int | str
    ) -> AbstractContextManager[object]:
        """Trace a block as `name`; `origins` from `here`, of what it is done for."""
        return nullcontext()

    def traced(self, app: ASGIApp) -> ASGIApp:
        """`app`, with its requests traced."""
        return app

    def close(self) -> None:
        """Send what has not been sent yet."""


class OpenTelemetryTracing(Tracing):
    """Sends spans to a collector, by OTLP over HTTP.

    What OpenTelemetry's specification has variables for (OTEL_TRACES_SAMPLER, OTEL_RESOURCE_ATTRIBUTES,
    OTEL_EXPORTER_OTLP_HEADERS, ...) is set by these.
    """

    def __init__(self, endpoint: str) -> None:
        """Send to the collector at `endpoint`, as http://127.0.0.1:4318.

        Raises:
            MissingExtraError: If OpenTelemetry is not installed.
        """
        try:
            from opentelemetry import trace
            from opentelemetry.exporter.otlp.proto.http.trace_exporter import OTLPSpanExporter
            from opentelemetry.instrumentation.asgi import OpenTelemetryMiddleware
            from opentelemetry.sdk.resources import Resource
            from opentelemetry.sdk.trace import TracerProvider
            from opentelemetry.sdk.trace.export import BatchSpanProcessor
        except ModuleNotFoundError as error:
            raise MissingExtraError("otlp_endpoint", "traces") from error
        self._trace, self._middleware = trace, OpenTelemetryMiddleware
        about = Resource.create({"service.name": "paramcast", "service.version": __version__})
        self._provider = TracerProvider(resource=about)
        exporter = OTLPSpanExporter(f"{endpoint.rstrip('/')}/v1/traces")
        self._provider.add_span_processor(BatchSpanProcessor(exporter))
        self._tracer = self._provider.get_tracer("paramcast", __version__)

    def here(self) -> object:
        """The context of the current span."""
        return self._trace.get_current_span().get_span_context()

    @contextmanager
    def span(self, name: str, origins: Iterable[object] = (), **attributes: int | str) -> Iterator[object]:
        """A span with links."""
        known: Any = [origin for origin in origins if origin is not None]
        links = [self._trace.Link(origin) for origin in known if origin.is_valid]
        with self._tracer.start_as_current_span(name, links=links, attributes=dict(attributes)) as span:
            yield span

    def traced(self, app: ASGIApp) -> ASGIApp:
        """By OpenTelemetry's own instrumentation of ASGI."""
        wrapped: ASGIApp = self._middleware(
            app, tracer_provider=self._provider, exclude_spans=["receive", "send"]
        )
        return wrapped

    def close(self) -> None:
        """Flush and stop; waits for the collector for some seconds at most."""
        self._provider.shutdown()
