"""Prometheus metrics of the gateway."""

from prometheus_client import CollectorRegistry, Counter, Histogram, ProcessCollector, generate_latest

SECONDS = (0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30, 60, 120, 480)


class Metrics:
    """All metrics of one gateway."""

    def __init__(self) -> None:
        self._registry = CollectorRegistry()
        ProcessCollector(registry=self._registry)
        self._responses = Counter(
            "byollm_gateway_http_responses",
            "HTTP responses by route and status.",
            ["route", "status"],
            registry=self._registry,
        )
        self.first_byte = Histogram(
            "byollm_gateway_first_byte_seconds",
            "From a request to the first of its answer.",
            buckets=SECONDS,
            registry=self._registry,
        )
        self._latency = Histogram(
            "byollm_gateway_latency_seconds",
            "From a request to the end of its answer, by how it ended.",
            ["outcome"],
            buckets=SECONDS,
            registry=self._registry,
        )

    def responded(self, route: str, status: int) -> None:
        """Count an HTTP response."""
        self._responses.labels(route, str(status)).inc()

    def ended(self, outcome: str, seconds: float) -> None:
        """Count a call that was passed on, or could not be."""
        self._latency.labels(outcome).observe(seconds)

    def exposition(self) -> bytes:
        """Everything, in Prometheus's text format."""
        return generate_latest(self._registry)
