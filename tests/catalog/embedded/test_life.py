"""The embedded Postgres: its starts and stops, what it keeps to itself, and what it says when it cannot start."""

from __future__ import annotations

import os
import signal
import stat
import subprocess
import sys
import threading
from pathlib import Path

import psycopg
import pytest
from psycopg.conninfo import conninfo_to_dict, make_conninfo

from catalog.embedded import (
    BinariesMissingError,
    EmbeddedPostgres,
    EmbeddedPostgresError,
    StartFailedError,
    WrongMajorVersionError,
)
from catalog.embedded.binaries import find_binaries
from tests.fixtures.embedded_postgres import postmaster_pid, processes_of, read, write

pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="kills and death signals are tested on Linux")


def test_the_database_sorts_the_same_everywhere(postgres: EmbeddedPostgres) -> None:
    """Encoding and collation do not depend on the machine or the environment."""
    postgres.start()
    query = "SELECT pg_encoding_to_char(encoding), datcollate, datctype FROM pg_database WHERE datname = 'timestore'"
    with psycopg.connect(postgres.dsn) as connection:
        assert connection.execute(query).fetchall() == [("UTF8", "C", "C")]


def test_a_restart_keeps_the_data(postgres: EmbeddedPostgres, directory: Path) -> None:
    """The first start makes the database; what is committed is there after stop and start, also for a new object."""
    postgres.start()
    assert postgres.exit_code() is None
    write(postgres.dsn, 1)
    postgres.stop()
    postgres.start()
    write(postgres.dsn, 2)
    postgres.stop()
    successor = EmbeddedPostgres(directory=directory)
    successor.start()
    try:
        assert read(successor.dsn) == [1, 2]
    finally:
        successor.stop()


def test_the_dsn_is_enough_for_another_process_and_holds_no_secret(postgres: EmbeddedPostgres, directory: Path) -> None:
    """The DSN joins from another process of the same user; the secret is in a closed file only."""
    postgres.start()
    secret = (directory / "passfile").read_text().strip().split(":")[-1]
    assert len(secret) >= 32
    assert secret not in postgres.dsn
    assert secret not in (directory / "log").read_text()
    assert set(conninfo_to_dict(postgres.dsn)) == {"host", "port", "user", "dbname", "passfile", "sslmode"}
    joiner = "import psycopg, sys; print(psycopg.connect(sys.argv[1]).execute('SELECT current_user').fetchone()[0])"
    answer = subprocess.run([sys.executable, "-c", joiner, postgres.dsn], capture_output=True, text=True, check=True)
    assert answer.stdout.strip() == "timestore"


def test_only_we_can_look_inside(postgres: EmbeddedPostgres, directory: Path) -> None:
    """Directory and cluster are 0700, passfile and log 0600, and nothing but our names is there."""
    postgres.start()
    modes = {path.name: stat.S_IMODE(path.stat().st_mode) for path in (directory, *directory.iterdir())}
    assert modes == {"postgres": 0o700, "cluster": 0o700, "passfile": 0o600, "log": 0o600, "lock": 0o600}


def test_a_wrong_password_is_refused(postgres: EmbeddedPostgres) -> None:
    """Nobody gets in without the password, by no way that pg_hba.conf knows."""
    postgres.start()
    with pytest.raises(psycopg.OperationalError, match="password authentication failed"):
        psycopg.connect(make_conninfo(postgres.dsn, password="wrong"))
    with pytest.raises(psycopg.OperationalError, match="no password supplied"):
        psycopg.connect(make_conninfo(postgres.dsn, passfile="/nonexistent"))
    with psycopg.connect(postgres.dsn) as connection:
        methods = connection.execute("SELECT DISTINCT auth_method FROM pg_hba_file_rules").fetchall()
    assert methods == [("scram-sha-256",)]


def test_durability_is_on_and_only_loopback_listens(postgres: EmbeddedPostgres) -> None:
    """The settings that a receipt relies on are on, and cannot be turned off by ALTER SYSTEM."""
    postgres.start()
    with psycopg.connect(postgres.dsn, autocommit=True) as connection:
        connection.execute("ALTER SYSTEM SET fsync = off")
    postgres.stop()
    postgres.start()
    with psycopg.connect(postgres.dsn) as connection:
        settings: dict[str, str] = dict(connection.execute("SELECT name, setting FROM pg_settings").fetchall())
    assert {settings[name] for name in ("fsync", "full_page_writes", "synchronous_commit", "data_checksums")} == {"on"}
    assert settings["listen_addresses"] == "127.0.0.1"
    assert settings["unix_socket_directories"] == ""


def test_stop_is_clean_and_may_be_repeated(postgres: EmbeddedPostgres, directory: Path) -> None:
    """Stop ends open sessions, leaves a cluster that needs no recovery, and no process. It may come before start."""
    postgres.stop()
    assert postgres.exit_code() is None
    postgres.start()
    with psycopg.connect(postgres.dsn):
        postgres.stop()
    postgres.stop()
    assert postgres.exit_code() == 0
    controldata = find_binaries().postgres.with_name("pg_controldata")
    state = subprocess.run([controldata, directory / "cluster"], capture_output=True, text=True, check=True).stdout
    assert "shut down\n" in state
    assert processes_of(directory) == []


def test_stop_uses_force_after_its_timeout(postgres: EmbeddedPostgres, directory: Path) -> None:
    """A Postgres that does not react is killed in the end; the next start has the data."""
    postgres.start()
    write(postgres.dsn, 1)
    os.kill(postmaster_pid(directory), signal.SIGSTOP)
    postgres.stop(timeout_s=0.1)
    assert postgres.exit_code() == -signal.SIGKILL
    postgres.start()
    assert read(postgres.dsn) == [1]


def test_only_the_main_thread_may_start(postgres: EmbeddedPostgres, directory: Path) -> None:
    """A start from another thread is refused, since Postgres would end with that thread. Nothing was touched."""
    refused: list[BaseException] = []

    def try_start() -> None:
        try:
            postgres.start()
        except RuntimeError as exc:
            refused.append(exc)

    worker = threading.Thread(target=try_start, name="starter")
    worker.start()
    worker.join()
    assert "main thread" in str(refused[0])
    assert not directory.exists()


def test_a_second_start_and_an_early_dsn_are_errors(postgres: EmbeddedPostgres) -> None:
    """Misuse is named, not guessed at; and constructing does no I/O."""
    with pytest.raises(RuntimeError, match="first start"):
        _ = postgres.dsn
    postgres.start()
    with pytest.raises(RuntimeError, match="already running"):
        postgres.start()


def test_a_terminal_cannot_interrupt_postgres(postgres: EmbeddedPostgres, directory: Path) -> None:
    """Postgres has a session of its own: Ctrl-C reaches the server, not its Postgres."""
    postgres.start()
    pid = postmaster_pid(directory)
    assert os.getsid(pid) == pid
    assert os.getpgid(pid) != os.getpgid(0)


def test_a_long_and_awkward_path_works(tmp_path: Path) -> None:
    """Neither the 107 bytes of a socket path nor blanks and quotes are a limit."""
    postgres = EmbeddedPostgres(directory=tmp_path / ("long " * 30) / "it's \\ here")
    postgres.start()
    try:
        write(postgres.dsn, 1)
    finally:
        postgres.stop()


def test_the_log_stays_bounded(postgres: EmbeddedPostgres, directory: Path) -> None:
    """A long-running Postgres cannot fill the disk with its log; the newest lines survive the cut."""
    postgres.start()
    with (directory / "log").open("a") as log:
        log.write("noise\n" * (1 << 20) + "the newest line\n")
    assert postgres.exit_code() is None
    assert (directory / "log").stat().st_size < 1 << 20
    postgres.stop()
    text = (directory / "log").read_text()
    assert "the newest line" in text
    assert "database system is shut down" in text


def test_statements_do_not_reach_the_log(postgres: EmbeddedPostgres, directory: Path) -> None:
    """A failing statement leaves no row values in the log."""
    postgres.start()
    with psycopg.connect(postgres.dsn) as connection, pytest.raises(psycopg.Error):
        connection.execute("SELECT 'private value'::int")
    assert "private" not in (directory / "log").read_text()


def test_another_major_version_is_named(postgres: EmbeddedPostgres, directory: Path) -> None:
    """A cluster of another major version is not opened; the message names both versions and a way out."""
    postgres.start()
    postgres.stop()
    (directory / "cluster" / "PG_VERSION").write_text("12\n")
    with pytest.raises(WrongMajorVersionError, match=r"made by PostgreSQL 12.*timestore catalog export"):
        postgres.start()


def test_a_failed_start_quotes_postgres(postgres: EmbeddedPostgres, directory: Path) -> None:
    """If Postgres cannot start, the error ends with its own words, and no process is left."""
    postgres.start()
    postgres.stop()
    (directory / "cluster" / "global" / "pg_control").unlink()
    with pytest.raises(StartFailedError, match="pg_control") as failure:
        postgres.start()
    assert str(directory / "log") in str(failure.value)
    assert processes_of(directory) == []


def test_a_foreign_folder_in_place_of_the_cluster_is_left_alone(postgres: EmbeddedPostgres, directory: Path) -> None:
    """A `cluster` that is none is neither used nor removed."""
    (directory / "cluster").mkdir(parents=True)
    (directory / "cluster" / "thesis.txt").write_text("mine")
    with pytest.raises(EmbeddedPostgresError, match="not a Postgres cluster"):
        postgres.start()
    assert (directory / "cluster" / "thesis.txt").read_text() == "mine"


def test_missing_binaries_say_what_to_do(postgres: EmbeddedPostgres, monkeypatch: pytest.MonkeyPatch) -> None:
    """Without the package the message says what to install, or how to do without."""
    monkeypatch.setitem(sys.modules, "embedded_postgres", None)
    with pytest.raises(BinariesMissingError, match=r"timestore\[server\].*--catalog-dsn"):
        postgres.start()


def test_variables_of_libpq_do_not_get_in_the_way(postgres: EmbeddedPostgres, monkeypatch: pytest.MonkeyPatch) -> None:
    """A start works although the environment has a password and TLS settings that are for another Postgres."""
    monkeypatch.setenv("PGPASSWORD", "of-another-database")
    monkeypatch.setenv("PGSSLMODE", "require")
    postgres.start()
    with psycopg.connect(postgres.private_dsn) as connection:
        assert connection.execute("SELECT current_user").fetchone() == ("timestore",)
