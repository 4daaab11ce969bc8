"""Metrics of the service in the text format of Prometheus."""

from __future__ import annotations

from collections.abc import Callable, Sequence

from prometheus_client import (
    CollectorRegistry,
    Counter,
    Gauge,
    Histogram,
    ProcessCollector,
    disable_created_metrics,
    generate_latest,
)

_SECONDS = (0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10)
_SIZES = (1, 2, 4, 8, 16, 32, 64, 128, 256, 512, 1024)
_BYTES = (256, 1024, 4096, 16384, 65536, 262144, 1 << 20, 1 << 23, 1 << 26)
_POINTS = (-20, -10, -5, -2, -1, 0, 1, 2, 5, 10, 20)

# The created metrics would be a second time series for every counter, which is not used.
disable_created_metrics()  # type: ignore[no-untyped-call]


STATUSES = (200, 304, 401, 403, 409, 413, 422, 429, 499, 500, 503)
"""Statuses of answers to `/v1/adapt`; 499: the device has closed the connection."""


class Metrics:
    """Metrics of one service.

    Attributes:
        requests: Processed requests.
        batches: Batches of processed requests.
        batch_size: Requests in a batch.
        refused: Requests that were refused because the queue was full.
        answers: Answers to `/v1/adapt`, by status.
        latency: Seconds from a request's head to the end of its answer.
        received: Bytes of the bodies of requests.
        sent: Bytes of updates.
        gain: Gains in percentage points that devices report for updates that they applied.
        not_applied: Updates that devices report as not applied.
        kept_house: Time of the last housekeeping, unix seconds.
        faults: Number of faults that the last check of the state's integrity found.
    """

    def __init__(self) -> None:
        self._registry = registry = CollectorRegistry()
        ProcessCollector(registry=registry)  # memory, time and files of the process, if the system gives them

        def counter(name: str, what: str, labels: Sequence[str] = ()) -> Counter:
            return Counter(name, what, labels, namespace="paramcast", registry=registry)

        def histogram(name: str, what: str, buckets: Sequence[float]) -> Histogram:
            return Histogram(name, what, namespace="paramcast", registry=registry, buckets=buckets)

        self.requests = counter("requests", "Requests that were processed.")
        self.batches = counter("batches", "Batches of requests.")
        self.batch_size = histogram("batch_size", "Requests in a batch.", _SIZES)
        self.refused = counter("refused", "Requests that were refused because the queue was full.")
        self._answers = counter("answers", "Answers to /v1/adapt.", ["status"])
        self.answers = {status: self._answers.labels(status) for status in STATUSES}
        self.latency = histogram("latency_seconds", "From a request's head to its answer's end.", _SECONDS)
        self.received = histogram("request_bytes", "Bodies of requests.", _BYTES)
        self.sent = histogram("package_bytes", "Packages.", _BYTES)
        self.gain = histogram("gain_points", "Gains that devices report.", _POINTS)
        self.not_applied = counter("not_applied", "Packages that devices did not apply.")

        self.kept_house = Gauge(
            "housekeeping_seconds",
            "Unix time of the last search for models and deletion of old records.",
            namespace="paramcast",
            registry=registry,
        )

        self.faults = Gauge(
            "integrity_faults",
            "Faults of the state at the last check; the log names the cures.",
            namespace="paramcast",
            registry=registry,
        )

    def watch(self, waiting: Callable[[], float]) -> None:
        """Read the length of the queue from `waiting` whenever the metrics are read."""
        gauge = Gauge("waiting", "Requests that are waiting.", namespace="paramcast", registry=self._registry)
        gauge.set_function(waiting)

    def count_batch(self, size: int) -> None:
        """Count a batch of `size` requests."""
        self.batches.inc()
        self.requests.inc(size)
        self.batch_size.observe(size)

    def count_answer(self, received: int, sent: int) -> None:
        """Count the bytes of an answered request and of its answer."""
        self.received.observe(received)
        self.sent.observe(sent)

    def answered(self) -> dict[int, int]:
        """Return the number of answers to `/v1/adapt` since the process began, by status."""
        (family,) = self._answers.collect()
        return {
            int(sample.labels["status"]): int(sample.value)
            for sample in family.samples
            if sample.name.endswith("_total")
        }

    def text(self) -> bytes:
        """Return all metrics as text."""
        return generate_latest(self._registry)
