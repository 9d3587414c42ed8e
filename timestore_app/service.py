"""A server from its start to its end: the parts are built elsewhere, here are their order and the life they lead."""

from __future__ import annotations

import signal
import threading
import time
from types import FrameType, TracebackType
from typing import Self
from uuid import uuid4

import pyarrow as pa
import structlog

from access.authenticator import Authenticator
from catalog.audit import Audit
from flight_server.actions import Actions
from flight_server.flight_sql import FlightSql
from flight_server.server import FlightDoor, TlsIdentity
from readers.descriptors import allow_many_descriptors
from readers.sql_metadata import SqlMetadata
from timestore_app.allocator import keep_freed_memory
from timestore_app.authentication import build_authenticator, read_tls
from timestore_app.background import start_lease
from timestore_app.catalog_postgres import CatalogPostgres
from timestore_app.closing import OpenParts, within
from timestore_app.data_directory import DataDirectory
from timestore_app.exposure import check_exposure
from timestore_app.foundation import Foundation, lay_foundation
from timestore_app.http_door import Behind, open_http_door
from timestore_app.metrics import Metrics
from timestore_app.metrics.server_state import Parts
from timestore_app.reading_side import ReadingSide, open_reading
from timestore_app.settings import Settings
from timestore_app.writing_side import WritingSide, open_writing
from writers.lifecycle import DatasetLifecycle
from writers.storage_setup import StorageSetup

KEPT_SHARE = 16  # of the memory budget: what the C library may keep for the next batches
DOOR_CLOSE_TIMEOUT_S = 5.0

log = structlog.get_logger()


class Service:
    """A server in this process. ``open`` and ``run`` belong on the main thread: it owns Postgres and the signals."""

    actions: Actions  # once it is open; their table says what each needs

    def __init__(self, *, settings: Settings) -> None:
        self._settings = settings
        self._run_id = uuid4()
        self._directory = DataDirectory(path=settings.data_dir.absolute())
        self._postgres = CatalogPostgres(settings, self._directory.postgres)
        self._stop = threading.Event()
        self._parts = OpenParts()
        self.metrics = Metrics()
        self.port = 0
        self.http_port: int | None = None  # None while it does not listen there

    @property
    def url(self) -> str:
        """Where clients connect."""
        return f"{self._address}:{self.port}"

    @property
    def _address(self) -> str:
        host = f"[{self._settings.host}]" if ":" in self._settings.host else self._settings.host
        return f"grpc+tls://{host}" if self._settings.tls_cert is not None else f"grpc://{host}"

    @property
    def http_url(self) -> str | None:
        """Where HTTP clients connect; None if they cannot."""
        if self.http_port is None:
            return None
        host = self._settings.http_host or self._settings.host
        scheme = "https" if self._settings.tls_cert is not None else "http"
        return f"{scheme}://{f'[{host}]' if ':' in host else host}:{self.http_port}"

    def open(self) -> None:
        """Start everything, the port last: it opens only when the server can answer.

        Raises ``ExposedError``, ``CredentialsError``, ``DirectoryInUseError``, ``DirectoryVersionError``,
        ``EmbeddedPostgresError`` or a ``TimestoreError``.
        """
        try:
            self._open()
        except BaseException:
            self.close()
            raise

    def handle_signals(self) -> None:
        """Let SIGTERM and SIGINT end ``run``; call it before ``open``, so that none is missed."""
        for number in (signal.SIGTERM, signal.SIGINT):
            signal.signal(number, self._on_signal)

    def run(self) -> None:
        """Serve until a signal comes, then let running puts finish."""
        self._postgres.supervise(self._stop)
        self.drain()

    def drain(self) -> None:
        """Refuse new puts and let the running ones finish, within the grace period."""
        log.info("server.draining", running_puts=self._gate.running)
        self._gate.close()
        deadline = time.monotonic() + self._settings.shutdown_grace_s
        if not self._gate.wait_until_empty(deadline=deadline):
            log.warning("server.puts_cut", running_puts=self._gate.running)

    def close(self) -> None:
        """Stop everything, in the reverse order of its start. What fails to stop does not keep the rest from it."""
        self._parts.close()

    def __enter__(self) -> Self:
        self.open()
        return self

    def __exit__(self, kind: type[BaseException] | None, exc: BaseException | None, tb: TracebackType | None) -> None:
        self.close()

    def _open(self) -> None:
        settings = self._settings
        check_exposure(settings)
        tls = read_tls(settings)
        allow_many_descriptors()
        keep_freed_memory(settings.memory_budget // KEPT_SHARE)
        on_close = self._parts.on_close
        self._directory.open()
        on_close("data directory", self._directory.close)
        self._postgres.start(on_close)
        base = lay_foundation(settings, self._directory, self._postgres.dsn, self._run_id, on_close)
        start_lease(base.ledger, settings, on_close)
        writing = open_writing(base)
        self._gate = writing.ingestion.gate
        reading = open_reading(base)
        self.metrics.watch(_watched(base, writing, reading))
        authenticator = build_authenticator(settings, base.connections)
        if settings.http_port is not None:
            self.http_port = self._open_http(settings.http_port, base, writing, reading, authenticator)
        self.actions = _build_actions(base, writing, reading)
        door = self._open_flight(base, writing, reading, authenticator, tls)
        self.port = door.port
        on_close("door", lambda: within(DOOR_CLOSE_TIMEOUT_S, door.shutdown, name="door-close"))
        self._write_server_file()
        on_close("uploads", writing.shared.uploads.close)  # before the door, which waits for puts that wait for them

    def _open_http(
        self, port: int, base: Foundation, writing: WritingSide, reading: ReadingSide, authenticator: Authenticator
    ) -> int:
        behind = Behind(
            settings=self._settings,
            staging=self._directory.staging,
            room=writing.shared.room,
            ingestion=writing.ingestion,
            manifests=base.manifests,
            reads=reading.reads,
            targets=base.targets,
            authenticator=authenticator,
            metrics=self.metrics,
            on_close=base.on_close,
        )
        return open_http_door(behind, port).port

    def _open_flight(
        self,
        base: Foundation,
        writing: WritingSide,
        reading: ReadingSide,
        authenticator: Authenticator,
        tls: TlsIdentity | None,
    ) -> FlightDoor:
        location = f"{self._address}:{self._settings.port}"
        if not authenticator.required:
            log.info("access.open", host=self._settings.host)
        try:
            return FlightDoor(
                location=location,
                ingestion=writing.ingestion.observed_by(self.metrics.puts.of_door("flight")),
                reads=reading.reads,
                actions=self.actions,
                flight_sql=FlightSql(queries=reading.queries, metadata=SqlMetadata(manifests=base.manifests)),
                authenticator=authenticator,
                tls=tls,
            )
        except pa.ArrowException as exc:
            raise OSError(f"cannot listen on {location}; is the port in use? try --port 0") from exc

    def _write_server_file(self) -> None:
        self._directory.write_server_file(
            {
                "url": self.url,
                "port": self.port,
                "http_url": self.http_url,
                "run_id": str(self._run_id),
                "join": self._join_options(),
            }
        )

    def _join_options(self) -> str:
        """Return the options with which another server joins this one's catalog and storage; never a secret."""
        dsn = f"'{told}'" if (told := self._postgres.dsn_to_tell) is not None else "(the same)"
        storage = "(the same)" if self._settings.storage_url is not None else f"'{self._directory.data}'"
        return f"--catalog-dsn {dsn} --storage-url {storage}"

    def _on_signal(self, number: int, frame: FrameType | None) -> None:  # noqa: ARG002
        self._stop.set()


def _watched(base: Foundation, writing: WritingSide, reading: ReadingSide) -> Parts:
    return Parts(
        ingestion=writing.ingestion,
        shared=writing.shared,
        fence=writing.fence,
        housekeeping=writing.housekeeping,
        connections=base.connections,
        cache=reading.cache,
        max_running_puts=base.settings.max_running_puts,
    )


def _build_actions(base: Foundation, writing: WritingSide, reading: ReadingSide) -> Actions:
    return Actions(
        manifests=base.manifests,
        audit=Audit(connections=base.connections),
        ingestion=writing.ingestion,
        lifecycle=DatasetLifecycle(
            manifests=base.manifests, lifecycle=base.lifecycle, fence=writing.fence, horizon=writing.horizon
        ),
        housekeeping=writing.housekeeping,
        shared=writing.shared,
        targets=base.targets,
        setup=StorageSetup(targets=base.targets, register=base.register, ledger=base.ledger, fence=writing.fence),
        sql=reading.queries,
    )
