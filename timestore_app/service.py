"""The composition root: builds a whole server from one ``Settings`` and runs it."""

from __future__ import annotations

import os
import signal
import threading
import time
from collections.abc import Callable
from datetime import timedelta
from types import FrameType, TracebackType
from typing import Self
from uuid import uuid4

import pyarrow as pa
import structlog

from catalog.connections import Connections
from catalog.embedded import EmbeddedPostgres, EmbeddedPostgresError
from catalog.ledger import Ledger
from catalog.lifecycle import Lifecycle
from catalog.manifests import Manifests
from catalog.migrate import migrate
from flight_server.actions import Actions
from flight_server.server import FlightDoor
from readers.descriptors import allow_many_descriptors
from readers.file_reader import ReaderPool
from readers.reads import Reads
from readers.sql import SqlQueries
from storage.horizon import check_horizon
from storage.marker import claim_root, foreign_root
from storage.opening import open_store
from storage.store import Store
from timestore import __version__
from timestore.errors import TimestoreError
from timestore.reading import TICKET_LIFETIME
from timestore_app.data_directory import DataDirectory
from timestore_app.settings import Settings
from writers.admission import AdmissionGate
from writers.buffers import Budget
from writers.fence import Fence
from writers.housekeeping import Housekeeping
from writers.ingestion import Ingestion
from writers.lifecycle import DatasetLifecycle
from writers.new_put import PutLimits, Workshop
from writers.planning import Planner
from writers.pool import WriterPool
from writers.watchdog import Watchdog

READERS = 8
SQL_QUERIES = 2
MINIMUM_SQL_BYTES = 128 << 20
MINIMUM_WRITER_BYTES = 64 << 20
START_TIMEOUT_S = 30.0
SUPERVISION_INTERVAL_S = 0.25
RESTART_BACKOFF_S = (0.0, 1.0, 2.0, 5.0, 10.0)
DOOR_CLOSE_TIMEOUT_S = 5.0
HOUSEKEEPING_INTERVAL_S = 60.0
HOUSEKEEPING_STOP_TIMEOUT_S = 5.0

log = structlog.get_logger()


class Service:
    """A server in this process. ``open`` and ``run`` belong on the main thread: it owns Postgres and the signals."""

    def __init__(self, *, settings: Settings) -> None:
        self._settings = settings
        self._run_id = uuid4()
        self._directory = DataDirectory(path=settings.data_dir.absolute())
        self._postgres: EmbeddedPostgres | None = None
        self._stop = threading.Event()
        self._undo: list[tuple[str, Callable[[], object]]] = []
        self.port = 0

    @property
    def url(self) -> str:
        """Where clients connect."""
        host = f"[{self._settings.host}]" if ":" in self._settings.host else self._settings.host
        return f"grpc://{host}:{self.port}"

    def open(self) -> None:
        """Start everything, the port last: it opens only when the server can answer.

        Raises ``DirectoryInUseError``, ``DirectoryVersionError``, ``EmbeddedPostgresError`` or a ``TimestoreError``.
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
        self._supervise()
        self._drain()

    def close(self) -> None:
        """Stop everything, in the reverse order of its start. What fails to stop does not keep the rest from it."""
        while self._undo:
            name, undo = self._undo.pop()
            try:
                undo()
            except Exception:  # shutting down goes on
                log.exception("stop.failed", part=name)

    def __enter__(self) -> Self:
        self.open()
        return self

    def __exit__(self, kind: type[BaseException] | None, exc: BaseException | None, tb: TracebackType | None) -> None:
        self.close()

    def _open(self) -> None:
        settings = self._settings
        allow_many_descriptors()
        self._directory.open()
        self._on_close("data directory", self._directory.close)
        if settings.catalog_dsn is None:
            self._start_postgres()
        migrate(self._dsn(), settings.catalog_schema)
        connections = Connections(dsn=self._dsn, schema=settings.catalog_schema)
        self._on_close("catalog connections", connections.close)
        connections.open(timeout_s=START_TIMEOUT_S)
        ledger = Ledger(connections=connections, run_id=self._run_id)
        manifests = Manifests(connections=connections)
        store = open_store(settings.storage_url or str(self._directory.data))
        self._start_lease(ledger)
        shared = self._build_workshop(ledger, store)
        watchdog = Watchdog(idle_timeout_s=settings.put_idle_timeout_s)
        watchdog.open()
        self._on_close("watchdog", watchdog.close)
        lifecycle = Lifecycle(connections=connections)
        fence = _fence(ledger, lifecycle, store)
        ingestion = Ingestion(
            shared=shared,
            gate=AdmissionGate(max_running=settings.max_running_puts),
            watchdog=watchdog,
            fence=fence,
        )
        housekeeping = Housekeeping(
            lifecycle=lifecycle,
            store=store,
            history_retention=settings.retention.timedelta,
            ticket_lifetime=TICKET_LIFETIME,
            lease=timedelta(seconds=settings.lease_s),
            fence=fence,
        )
        if fence.is_open:  # what is not this catalog's own storage is not to be changed
            self._start_housekeeping(housekeeping)
        self._gate = ingestion.gate
        readers = ReaderPool(readers=READERS, memory_limit_bytes=settings.memory_budget // 4 // READERS)
        self._on_close("readers", readers.close)
        self._start_door(
            ingestion,
            Reads(manifests=manifests, store=store, pool=readers),
            Actions(
                manifests=manifests,
                ingestion=ingestion,
                lifecycle=DatasetLifecycle(manifests=manifests, lifecycle=lifecycle, fence=fence),
                housekeeping=housekeeping,
                shared=shared,
                store=store,
                sql=self._build_sql(manifests, store),
            ),
        )

    def _build_workshop(self, ledger: Ledger, store: Store) -> Workshop:
        """Share out the memory budget: half for buffers, a quarter each for writing and reading."""
        settings = self._settings
        buffers = settings.memory_budget // 2
        for_writing = settings.memory_budget // 4
        threads = min(settings.writer_threads, for_writing // MINIMUM_WRITER_BYTES)
        if threads < settings.writer_threads:
            log.warning("writers.fewer", threads=threads, reason="each needs its part of the memory budget")
        pool = WriterPool(
            threads=threads,
            memory_limit_bytes=for_writing // threads,
            staging=self._directory.staging,
            storage_version=settings.duckdb_storage_version,
        )
        self._on_close("writers", pool.close)
        pool.warm_up()
        return Workshop(
            ledger=ledger,
            planner=Planner(ledger=ledger),
            store=store,
            budget=Budget(limit_bytes=buffers),
            pool=pool,
            staging=self._directory.staging,
            limits=PutLimits(
                max_batch_bytes=settings.max_batch_bytes,
                max_windows_per_put=settings.max_windows_per_put,
                chunk_bytes=buffers // (4 * threads),
            ),
        )

    def _build_sql(self, manifests: Manifests, store: Store) -> SqlQueries:
        """Bound queries: their processes take memory beside the budget, but no more than it allows."""
        return SqlQueries(
            manifests=manifests,
            store=store,
            running=SQL_QUERIES,
            memory_limit_bytes=max(self._settings.memory_budget // 8 // SQL_QUERIES, MINIMUM_SQL_BYTES),
            threads=max(1, (os.cpu_count() or 1) // SQL_QUERIES),
        )

    def _start_postgres(self) -> None:
        self._postgres = EmbeddedPostgres(directory=self._directory.postgres)
        self._on_close("postgres", self._postgres.stop)
        self._postgres.start(deadline_s=START_TIMEOUT_S)

    def _dsn(self) -> str:
        if self._settings.catalog_dsn is not None:
            return self._settings.catalog_dsn.get_secret_value()
        assert self._postgres is not None  # started before anything asks
        return self._postgres.private_dsn

    def _start_lease(self, ledger: Ledger) -> None:
        lease_s = self._settings.lease_s
        ledger.start_lease(address=self._settings.host, software_version=__version__, lease_s=lease_s)
        self._on_close("lease", ledger.end_lease)
        ended = threading.Event()

        def renew() -> None:
            pause_s = lease_s / 3
            while not ended.wait(pause_s):
                try:
                    ledger.renew_lease(lease_s=lease_s)
                    pause_s = lease_s / 3
                except TimestoreError as exc:
                    pause_s = 1.0  # sweepers wait for a lease after Postgres has come back, but no longer
                    log.warning("lease.not_renewed", error=str(exc))

        threading.Thread(target=renew, name="lease", daemon=True).start()
        self._on_close("lease renewal", ended.set)

    def _start_housekeeping(self, housekeeping: Housekeeping) -> None:
        """Do what is due at an interval. Servers need not take turns: each step is one guarded transaction."""
        ended = threading.Event()

        def keep() -> None:
            _try_housekeeping(housekeeping.note_horizon)  # of what was committed last before a crash
            while not ended.wait(HOUSEKEEPING_INTERVAL_S):
                _try_housekeeping(housekeeping.run)

        # After the last put has ended, and before the connections close.
        self._on_close("horizon", lambda: _try_housekeeping(housekeeping.note_horizon))
        thread = threading.Thread(target=keep, name="housekeeping", daemon=True)
        thread.start()
        self._on_close("housekeeping", lambda: thread.join(HOUSEKEEPING_STOP_TIMEOUT_S))
        self._on_close("housekeeping's end", ended.set)

    def _start_door(self, ingestion: Ingestion, reads: Reads, actions: Actions) -> None:
        host = f"[{self._settings.host}]" if ":" in self._settings.host else self._settings.host
        location = f"grpc://{host}:{self._settings.port}"
        try:
            door = FlightDoor(location=location, ingestion=ingestion, reads=reads, actions=actions)
        except pa.ArrowException as exc:
            raise OSError(f"cannot listen on {host}:{self._settings.port}; is it in use? try --port 0") from exc
        self.port = door.port
        self._on_close("door", lambda: _close_door(door))
        self._directory.write_server_file(
            {
                "url": self.url,
                "port": self.port,
                "run_id": str(self._run_id),
                "join": self._join_options(),
            }
        )

    def _join_options(self) -> str:
        """Return the options with which another server joins this one's catalog and storage; never a secret."""
        dsn = f"'{self._postgres.dsn}'" if self._postgres is not None else "(the same)"
        storage = "(the same)" if self._settings.storage_url is not None else f"'{self._directory.data}'"
        return f"--catalog-dsn {dsn} --storage-url {storage}"

    def _supervise(self) -> None:
        """Wait for a signal, and start Postgres again whenever it died."""
        failures = 0
        while not self._stop.wait(SUPERVISION_INTERVAL_S):
            if self._postgres is None or (code := self._postgres.exit_code()) is None:
                continue
            log.warning("postgres.died", exit_code=code)
            if self._stop.wait(RESTART_BACKOFF_S[min(failures, len(RESTART_BACKOFF_S) - 1)]):
                return
            try:
                self._postgres.start(deadline_s=START_TIMEOUT_S)
                failures = 0
            except EmbeddedPostgresError as exc:
                failures += 1
                log.warning("postgres.not_restarted", error=str(exc))

    def _drain(self) -> None:
        """Refuse new puts and let the running ones finish, within the grace period."""
        log.info("server.draining", running_puts=self._gate.running)
        self._gate.close()
        deadline = time.monotonic() + self._settings.shutdown_grace_s
        if not self._gate.wait_until_empty(deadline=deadline):
            log.warning("server.puts_cut", running_puts=self._gate.running)

    def _on_signal(self, number: int, frame: FrameType | None) -> None:  # noqa: ARG002
        self._stop.set()

    def _on_close(self, part: str, undo: Callable[[], object]) -> None:
        self._undo.append((part, undo))


def _fence(ledger: Ledger, lifecycle: Lifecycle, store: Store) -> Fence:
    """Return a fence that is open if the storage is this catalog's, and no newer than it."""
    identity = ledger.identity()
    try:
        root_id = claim_root(
            store,
            catalog_id=identity.catalog_id,
            incarnation=identity.incarnation,
            settled=identity.storage_root,
        )
        if ledger.settle_storage_root(root_id) != root_id:
            raise foreign_root(store, identity.catalog_id, str(identity.catalog_id))
        check_horizon(store, lifecycle.horizon)
    except TimestoreError as failure:
        if failure.kind != "fenced":
            raise
        log.warning("server.fenced", error=failure.message)
        return Fence(failure)
    return Fence()


def _try_housekeeping(work: Callable[[], object]) -> None:
    try:
        work()
    except TimestoreError as exc:
        log.warning("housekeeping.put_off", error=str(exc))
    except Exception:  # the top of a thread, which must be there for the next time
        log.exception("housekeeping.failed")


def _close_door(door: FlightDoor) -> None:
    """Close the port and wait a little for running calls; ``shutdown`` alone would wait for ever."""
    closer = threading.Thread(target=door.shutdown, name="door-close", daemon=True)
    closer.start()
    closer.join(DOOR_CLOSE_TIMEOUT_S)
