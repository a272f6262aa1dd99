"""What a server counts of itself, for Prometheus."""

from __future__ import annotations

from collections.abc import Callable

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram, generate_latest
from prometheus_client.process_collector import ProcessCollector

PREFIX = "recbole_lcrec"
SECONDS = (0.005, 0.01, 0.02, 0.05, 0.1, 0.2, 0.5, 1, 2, 5, 10, 30)
TOGETHER = (1, 2, 4, 8, 16, 32, 64, 128, 256)


class Metrics:
    """Counters of one server.

    Args:
        waiting: Returns the number of questions that wait for the model.
    """

    def __init__(self, waiting: Callable[[], int]) -> None:
        self._registry = registry = CollectorRegistry()
        ProcessCollector(registry=registry)
        self._requests = Counter(f"{PREFIX}_requests", "Requests answered.", ("endpoint", "status"), registry=registry)
        self._latency = Histogram(
            f"{PREFIX}_request_seconds", "Seconds from a request's arrival to the end of its answer.", ("endpoint",),
            buckets=SECONDS, registry=registry,
        )  # fmt: skip
        self._batches = Histogram(
            f"{PREFIX}_batch_questions", "Questions (histories, wishes, ...) that the model was asked at once.",
            buckets=TOGETHER, registry=registry,
        )  # fmt: skip
        self._work = Counter(f"{PREFIX}_model_seconds", "Seconds in which the model worked.", registry=registry)
        Gauge(f"{PREFIX}_waiting_questions", "Questions that wait for the model.", registry=registry).set_function(
            waiting
        )

    def answered(self, endpoint: str, status: int, seconds: float) -> None:
        """Count a request; 499 is the status of one whose client left before the answer."""
        self._requests.labels(endpoint, str(status)).inc()
        self._latency.labels(endpoint).observe(seconds)

    def decoded(self, questions: int, seconds: float) -> None:
        """Count a call of the model."""
        self._batches.observe(questions)
        self._work.inc(seconds)

    def text(self) -> bytes:
        """Return all counters in Prometheus' text format."""
        return generate_latest(self._registry)
