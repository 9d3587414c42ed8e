"""The HTTP door of a server, put together: its routes, and how many bodies may be on their way at once."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from fastapi import APIRouter

from access.authenticator import Authenticator
from catalog.manifests import Manifests
from http_gateway.app import build_app
from http_gateway.append_routes import AppendPlaces, append_routes
from http_gateway.appending import Appending
from http_gateway.callers import Callers
from http_gateway.dataset_routes import dataset_routes
from http_gateway.influx.routes import influx_routes
from http_gateway.influx.writing import Writing
from http_gateway.monitoring_routes import metrics_routes, probe_routes
from http_gateway.observed_requests import ObservedRequests
from http_gateway.row_routes import row_routes
from http_gateway.server import HttpDoor
from http_gateway.spool import Spool
from readers.reads import Reads
from readers.visible import VisibleDatasets
from storage.targets import Targets
from timestore_app.authentication import http_tls
from timestore_app.metrics import Metrics
from timestore_app.settings import Settings
from writers.ingestion import Ingestion
from writers.readiness import ReadinessProbe
from writers.row_types import RowTypes
from writers.staging_room import StagingRoom

BODIES_SHARE = 16  # of the memory budget, what bodies on their way may take beside it
BODY_BYTES = 2 << 20  # a chunk of text, and what waits to become one
MINIMUM_BODIES = 8
LINE_BODIES = 8  # of the line protocol; each has about 20 MiB while it is parsed, a large one ten times that
CLOSE_TIMEOUT_S = 5.0


@dataclass(frozen=True, slots=True, kw_only=True)
class Behind:
    """What the door calls. ``on_close`` is told of each part how it is closed, in the order of their start."""

    settings: Settings
    staging: Path
    room: StagingRoom
    ingestion: Ingestion
    manifests: Manifests
    reads: Reads
    targets: Targets
    authenticator: Authenticator
    metrics: Metrics
    on_close: Callable[[str, Callable[[], object]], None]


def open_http_door(behind: Behind, port: int) -> HttpDoor:
    """Listen; raises ``OSError`` where somebody else does."""
    settings = behind.settings
    host = settings.http_host or settings.host
    callers = Callers(behind.authenticator)
    probe = ReadinessProbe(manifests=behind.manifests, targets=behind.targets, ingestion=behind.ingestion)
    app = build_app(
        [
            _append_routes(behind),
            row_routes(behind.reads),
            dataset_routes(behind.manifests, behind.targets),
            metrics_routes(behind.metrics.render),
        ],
        public=[probe_routes(probe), _influx_routes(behind, probe, callers)],
        callers=callers,
    )
    door = HttpDoor(app=ObservedRequests(app, behind.metrics.requests), host=host, port=port, tls=http_tls(settings))
    behind.on_close("HTTP door", lambda: door.close(CLOSE_TIMEOUT_S))
    try:
        door.open()
    except OSError as exc:
        raise OSError(f"cannot listen on {host}:{port} for HTTP; is it in use? try --http-port 0") from exc
    return door


def _append_routes(behind: Behind) -> APIRouter:
    settings = behind.settings
    appending = Appending(
        ingestion=behind.ingestion.observed_by(behind.metrics.puts.of_door("http")),
        types=RowTypes(manifests=behind.manifests),
        spool=Spool(directory=behind.staging, room=behind.room),
        max_batch_bytes=settings.max_batch_bytes,
    )
    by_memory = max(MINIMUM_BODIES, settings.memory_budget // BODIES_SHARE // BODY_BYTES)
    return append_routes(appending, _places(behind, by_memory, name="bodies"))


def _influx_routes(behind: Behind, probe: ReadinessProbe, callers: Callers) -> APIRouter:
    writing = Writing(
        ingestion=behind.ingestion.observed_by(behind.metrics.puts.of_door("influx")),
        datasets=VisibleDatasets(manifests=behind.manifests),
    )
    return influx_routes(writing, _places(behind, LINE_BODIES, name="threads for lines"), probe, callers)


def _places(behind: Behind, most: int, *, name: str) -> AppendPlaces:
    settings = behind.settings
    places = AppendPlaces(places=min(settings.max_running_puts, most), idle_timeout_s=settings.put_idle_timeout_s)
    behind.on_close(name, places.close)
    return places
