"""HTTP requests, counted as they end."""

from __future__ import annotations

from prometheus_client import CollectorRegistry, Counter, Histogram

from timestore_app.metrics.put_metrics import SECONDS


class RequestMetrics:
    """Counts HTTP requests by route. Thread safe."""

    def __init__(self, registry: CollectorRegistry) -> None:
        self._requests = Counter(
            "timestore_http_requests",
            "HTTP requests that were answered; the route is the pattern of the path, or unmatched.",
            ("method", "route", "status"),
            registry=registry,
        )
        self._seconds = Histogram(
            "timestore_http_request_seconds",
            "HTTP requests, from their headers to the end of the answer.",
            ("method", "route"),
            buckets=SECONDS,
            registry=registry,
        )

    def request_ended(self, *, method: str, route: str, status: int, seconds: float) -> None:
        self._requests.labels(method, route, str(status)).inc()
        self._seconds.labels(method, route).observe(seconds)
