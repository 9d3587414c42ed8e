"""Puts, counted as they end, for each door."""

from __future__ import annotations

from prometheus_client import CollectorRegistry, Counter, Histogram

from writers.put_outcomes import COMMITTED, REPLAYED, EndedPut, Stage

# From a put of one row to one of an hour.
SECONDS = (0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30, 60, 300, 1_800)
REFUSED = "refused"  # any other outcome: a histogram for each kind of error would be much for little
AWAITED = (COMMITTED, REPLAYED, "idempotency_conflict", "overloaded")  # there at the start: a rate sees the first


class PutMetrics:
    """What is counted about all puts of a server."""

    def __init__(self, registry: CollectorRegistry) -> None:
        labels = ("door", "outcome")
        self.puts = Counter(
            "timestore_puts",
            "Puts that have ended: committed, replayed, or the kind of their error.",
            labels,
            registry=registry,
        )
        self.rows = Counter("timestore_put_rows", "Rows received by puts that have ended.", labels, registry=registry)
        self.bytes = Counter(
            "timestore_put_bytes",
            "Bytes received by puts that have ended, as uncompressed Arrow data.",
            labels,
            registry=registry,
        )
        self.seconds = Histogram(
            "timestore_put_seconds",
            "Whole puts, from descriptor to end.",
            labels,
            buckets=SECONDS,
            registry=registry,
        )
        self.stage_seconds = Histogram(
            "timestore_put_stage_seconds",
            "What one put spends in a stage, all its batches and files together.",
            ("door", "stage"),
            buckets=SECONDS,
            registry=registry,
        )

    def of_door(self, door: str) -> DoorPuts:
        """Return the observer of the puts that come through a door."""
        return DoorPuts(self, door)


class DoorPuts:
    """Counts the puts of one door. Thread safe."""

    def __init__(self, metrics: PutMetrics, door: str) -> None:
        self._metrics = metrics
        self._door = door
        self._stages = {stage: metrics.stage_seconds.labels(door, stage) for stage in Stage}
        for outcome in AWAITED:
            for counter in (metrics.puts, metrics.rows, metrics.bytes):
                counter.labels(door, outcome)
        for ended in (COMMITTED, REPLAYED, REFUSED):
            metrics.seconds.labels(door, ended)

    def put_ended(self, put: EndedPut) -> None:
        labels = (self._door, put.outcome)
        self._metrics.puts.labels(*labels).inc()
        self._metrics.rows.labels(*labels).inc(put.rows)
        self._metrics.bytes.labels(*labels).inc(put.bytes)
        ended = put.outcome if put.outcome in (COMMITTED, REPLAYED) else REFUSED
        self._metrics.seconds.labels(self._door, ended).observe(put.seconds)
        for stage, seconds in put.stages.items():
            self._stages[stage].observe(seconds)
