"""One registry for each server: several may run in one process."""

from __future__ import annotations

from prometheus_client import CollectorRegistry, Info, PlatformCollector, ProcessCollector, disable_created_metrics
from prometheus_client.exposition import choose_encoder

from timestore import __version__
from timestore_app.metrics.put_metrics import PutMetrics
from timestore_app.metrics.request_metrics import RequestMetrics
from timestore_app.metrics.server_state import Parts, ServerState


class Metrics:
    """Everything that one server counts."""

    def __init__(self) -> None:
        # Else each counter has a second series, of which nothing here makes use.
        disable_created_metrics()  # type: ignore[no-untyped-call]
        self._registry = CollectorRegistry()
        ProcessCollector(registry=self._registry)
        PlatformCollector(registry=self._registry)
        Info("timestore_build", "The version that runs.", registry=self._registry).info({"version": __version__})
        self.puts = PutMetrics(self._registry)
        self.requests = RequestMetrics(self._registry)

    def watch(self, parts: Parts) -> None:
        """Ask these parts at each scrape."""
        self._registry.register(ServerState(parts))

    def render(self, accept: str) -> tuple[bytes, str]:
        """Return all of it in a format that ``accept`` names, and what the format is called."""
        encode, content_type = choose_encoder(accept)
        return encode(self._registry), content_type
