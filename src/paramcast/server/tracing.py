"""Traces of the service for OpenTelemetry (extra `traces`); without it, nothing is traced.

Every request is a span, which continues the trace that the request's `traceparent` header names. Work on a
batch of requests is a separate trace. Its first span is linked to the spans of the requests.
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
    """Tracing that does nothing; base class."""

    def here(self) -> object:
        """Return the current span's context, so that later spans can link to it; None without tracing."""
        return None

    def span(
        self, name: str, origins: Iterable[object] = (), **attributes: int | str
    ) -> AbstractContextManager[object]:
        """Trace a block as `name`, linked to `origins`: values of `here` of the requests that it works on."""
        return nullcontext()

    def traced(self, app: ASGIApp) -> ASGIApp:
        """Wrap `app` so that its requests are traced."""
        return app

    def close(self) -> None:
        """Send the remaining spans."""


class OpenTelemetryTracing(Tracing):
    """Sends spans to a collector, by OTLP over HTTP.

    The variables of OpenTelemetry's specification (OTEL_TRACES_SAMPLER, OTEL_RESOURCE_ATTRIBUTES,
    OTEL_EXPORTER_OTLP_HEADERS, ...) set all further options.
    """

    def __init__(self, endpoint: str) -> None:
        """Send to the collector at `endpoint`, for example http://127.0.0.1:4318.

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
        """Return the context of the current span."""
        return self._trace.get_current_span().get_span_context()

    @contextmanager
    def span(self, name: str, origins: Iterable[object] = (), **attributes: int | str) -> Iterator[object]:
        """Run a block in a span with links to `origins`."""
        known: Any = [origin for origin in origins if origin is not None]
        links = [self._trace.Link(origin) for origin in known if origin.is_valid]
        with self._tracer.start_as_current_span(name, links=links, attributes=dict(attributes)) as span:
            yield span

    def traced(self, app: ASGIApp) -> ASGIApp:
        """Wrap `app` with OpenTelemetry's instrumentation of ASGI."""
        wrapped: ASGIApp = self._middleware(
            app, tracer_provider=self._provider, exclude_spans=["receive", "send"]
        )
        return wrapped

    def close(self) -> None:
        """Send the remaining spans and stop; waits at most some seconds for the collector."""
        self._provider.shutdown()
