"""The embedded Postgres, as the server sees it."""

from __future__ import annotations

import os
import shutil
import subprocess
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import structlog
from psycopg.conninfo import make_conninfo

from catalog.embedded.access import choose_identity
from catalog.embedded.binaries import find_binaries
from catalog.embedded.child import Surroundings
from catalog.embedded.cluster import SUPERUSER, ensure_cluster
from catalog.embedded.cluster_lock import locked_cluster
from catalog.embedded.database import DATABASE, ensure_database
from catalog.embedded.deadline import Deadline
from catalog.embedded.errors import EmbeddedPostgresError, StartFailedError
from catalog.embedded.layout import Layout
from catalog.embedded.postmaster import HOST, Postmaster, end, launch
from catalog.embedded.server_log import ServerLog

_NEARLY_FULL_BYTES = 128 << 20


class EmbeddedPostgres:
    """A Postgres of our own in ``directory``, started and stopped with us.

    It listens on 127.0.0.1 only, and asks everyone for a password that lies in ``directory`` and is read by libpq
    itself. On Linux it shuts down cleanly by itself when our process dies, even by kill -9. Its data survive a kill -9
    of us, of it, or of both, at any moment.

    Not thread-safe: one thread, the main thread, supervises it.
    """

    def __init__(self, *, directory: Path) -> None:
        self._layout = Layout(directory=directory.absolute())
        self._log = ServerLog(path=self._layout.log)
        self._postmaster: Postmaster | None = None

    def start(self, *, deadline_s: float = 30.0) -> None:
        """Create the cluster if there is none, launch Postgres, and return when the database can be used.

        Waits for an earlier Postgres of this cluster to end; there are never two. After a crash, start again: the port
        stays the same if it is still free, so that pools and joined processes find the new one.

        Call it from the main thread. Linux ties the life of a child to the *thread* that started it, so a Postgres
        started by a worker would be shut down when that worker ends.

        :raises RuntimeError: called from another thread, or while it runs.
        :raises EmbeddedPostgresError: it did not start, and nothing was left running. The message says what to do.
        """
        self._refuse_misuse()
        began = time.monotonic()
        with self._explained():
            self._postmaster = self._start(Deadline.after(deadline_s))
        structlog.get_logger().info(
            "postgres.started",
            port=self._postmaster.port,
            pid=self._postmaster.process.pid,
            took_ms=round((time.monotonic() - began) * 1000),
        )

    def exit_code(self) -> int | None:
        """Return None while Postgres runs (or was never started), else its exit code, negative for a signal.

        Reaps the child. Since a supervisor calls this regularly, this is also where the log is kept bounded.
        """
        if self._postmaster is None:
            return None
        self._log.keep_bounded()
        return self._postmaster.process.poll()

    def stop(self, *, timeout_s: float = 20.0) -> None:
        """Shut down cleanly, ending all sessions; after ``timeout_s``, by force, which loses no committed data.

        Does nothing if Postgres does not run. ``exit_code`` is set afterwards.
        """
        if self._postmaster is None or self._postmaster.process.poll() is not None:
            return
        began = time.monotonic()
        end(self._postmaster.process, patience_s=timeout_s)
        structlog.get_logger().info(
            "postgres.stopped",
            pid=self._postmaster.process.pid,
            exit_code=self._postmaster.process.returncode,
            took_ms=round((time.monotonic() - began) * 1000),
        )

    @property
    def dsn(self) -> str:
        """Return how to connect, as a libpq conninfo without the secret; other processes of our user can use it too.

        :raises RuntimeError: it was never started.
        """
        if self._postmaster is None:
            raise RuntimeError("the embedded Postgres has no DSN before its first start")
        return self._dsn(port=self._postmaster.port)

    @property
    def private_dsn(self) -> str:
        """Return how we connect ourselves: with the secret, because PGPASSWORD would outrank the passfile.

        :raises RuntimeError: it was never started.
        """
        return make_conninfo(self.dsn, password=self._layout.read_password())

    def _dsn(self, *, port: int) -> str:
        return make_conninfo(
            host=HOST,
            port=port,
            user=SUPERUSER,
            dbname=DATABASE,
            passfile=str(self._layout.passfile),
            sslmode="disable",  # PGSSLMODE may ask for what a Postgres on 127.0.0.1 does not offer
        )

    def _refuse_misuse(self) -> None:
        if threading.current_thread() is not threading.main_thread():
            raise RuntimeError(
                "start the embedded Postgres from the main thread: it ends with the thread that starts it"
            )
        if self._postmaster is not None and self._postmaster.process.poll() is None:
            raise RuntimeError("the embedded Postgres is already running")

    def _start(self, deadline: Deadline) -> Postmaster:
        layout, binaries = self._layout, find_binaries()
        major = binaries.major()
        layout.directory.mkdir(mode=0o700, parents=True, exist_ok=True)
        # The lock comes first: what follows changes files that a dying Postgres may still use.
        with locked_cluster(layout, deadline=deadline) as lock, self._log.opened() as log:
            identity = choose_identity(binaries=binaries, directory=layout.directory)
            surroundings = Surroundings(identity=identity, log=log, lock=lock)
            ensure_cluster(layout, initdb=binaries.initdb, major=major, surroundings=surroundings, deadline=deadline)
            postmaster = launch(
                layout,
                postgres=binaries.postgres,
                surroundings=surroundings,
                preferred_port=self._postmaster.port if self._postmaster else None,
                deadline=deadline,
            )
        try:
            own = make_conninfo(self._dsn(port=postmaster.port), password=self._layout.read_password())
            ensure_database(own, deadline=deadline)
        except BaseException:
            end(postmaster.process, patience_s=0.0)
            raise
        return postmaster

    @contextmanager
    def _explained(self) -> Iterator[None]:
        """Add to a failed start what Postgres said and what we see, and turn errors of the system into ours."""
        before = 0
        try:
            self._log.keep_bounded()
            before = self._log.size()
            yield
        except StartFailedError as exc:
            said = self._log.tail(since=before) or "(nothing)"
            raise StartFailedError(f"{exc}{self._disk_hint()}\nPostgres said ({self._log.path}):\n{said}") from exc
        except (OSError, subprocess.SubprocessError) as exc:
            raise EmbeddedPostgresError(
                f"Cannot run Postgres in {self._layout.directory} as uid {os.geteuid()}: {exc}.{self._disk_hint()}"
            ) from exc

    def _disk_hint(self) -> str:
        try:
            free = shutil.disk_usage(self._layout.directory).free
        except OSError:
            return ""
        return f" The disk is full ({free >> 20} MiB left): make room." if free < _NEARLY_FULL_BYTES else ""
