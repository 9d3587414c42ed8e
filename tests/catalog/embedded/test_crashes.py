"""The embedded Postgres under kills: real processes, and never two on one cluster."""

from __future__ import annotations

import os
import signal
import socket
import subprocess
import sys
from pathlib import Path

import psycopg
import pytest
from psycopg.conninfo import conninfo_to_dict, make_conninfo

from catalog.embedded import ClusterBusyError, EmbeddedPostgres
from tests.fixtures.embedded_postgres import HOLDER, holder, is_running, postmaster_pid, python, read, write
from tests.fixtures.server import wait_until

pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="kills and death signals are tested on Linux")


def test_a_killed_postgres_is_noticed_and_restarted(postgres: EmbeddedPostgres, directory: Path) -> None:
    """After kill -9 of Postgres exit_code says so; start brings it back on the same port with all commits."""
    postgres.start()
    before = postgres.dsn
    write(before, 1)
    os.kill(postmaster_pid(directory), signal.SIGKILL)
    wait_until(lambda: postgres.exit_code() is not None)
    assert postgres.exit_code() == -signal.SIGKILL
    postgres.start()
    assert postgres.exit_code() is None
    assert postgres.dsn == before
    assert read(before) == [1]


def test_a_port_that_was_taken_meanwhile_is_replaced(postgres: EmbeddedPostgres, directory: Path) -> None:
    """If another program took the port of the last start, the next start finds another one."""
    postgres.start()
    port = int(str(conninfo_to_dict(postgres.dsn)["port"]))
    postgres.stop()
    with socket.create_server(("127.0.0.1", port)):
        postgres.start()
        assert int(str(conninfo_to_dict(postgres.dsn)["port"])) != port
        write(postgres.dsn, 1)


def test_postgres_goes_when_its_server_is_killed(postgres: EmbeddedPostgres, directory: Path) -> None:
    """After kill -9 of the server its Postgres shuts down by itself, cleanly; a new server has the data."""
    with holder(directory) as (server, dsn):
        write(dsn, 1)
        pid = postmaster_pid(directory)
        server.kill()
        wait_until(lambda: not is_running(pid))
    assert "database system is shut down" in (directory / "log").read_text()
    postgres.start()
    assert read(postgres.dsn) == [1]


def test_a_successor_waits_for_the_postgres_of_a_killed_server(postgres: EmbeddedPostgres, directory: Path) -> None:
    """A start at the very moment of the server's death succeeds: it waits for the other Postgres to end."""
    with holder(directory) as (server, dsn):
        write(dsn, 1)
        server.kill()
        postgres.start()
        assert read(postgres.dsn) == [1]
        postgres.stop()


def test_there_are_never_two(postgres: EmbeddedPostgres, directory: Path) -> None:
    """While a Postgres of the cluster lives, even stopped and orphaned, a start is refused at its deadline."""
    with holder(directory) as (server, dsn):
        write(dsn, 1)
        pid = postmaster_pid(directory)
        os.kill(pid, signal.SIGSTOP)
        server.kill()
        try:
            with pytest.raises(ClusterBusyError, match=str(pid)):
                postgres.start(deadline_s=0.3)
        finally:
            os.kill(pid, signal.SIGCONT)
        postgres.start()
        assert read(postgres.dsn) == [1]
        assert postmaster_pid(directory) != pid
        postgres.stop()


def test_a_second_server_is_refused_while_the_first_lives(postgres: EmbeddedPostgres, directory: Path) -> None:
    """A second start on the same directory fails and does not disturb the first."""
    with holder(directory) as (_, dsn):
        with pytest.raises(ClusterBusyError):
            postgres.start(deadline_s=0.3)
        write(dsn, 1)
        assert read(dsn) == [1]


def test_server_and_postgres_may_be_killed_at_once(postgres: EmbeddedPostgres, directory: Path) -> None:
    """After kill -9 of server and Postgres at the same instant a new start works, in spite of the stale pid file."""
    with holder(directory) as (server, dsn):
        write(dsn, 1)
        postmaster = postmaster_pid(directory)
        os.kill(server.pid, signal.SIGKILL)
        os.kill(postmaster, signal.SIGKILL)
        postgres.start()
        assert read(postgres.dsn) == [1]
        postgres.stop()


def test_a_pid_that_was_given_to_another_program_does_not_block(postgres: EmbeddedPostgres, directory: Path) -> None:
    """In containers pids repeat: a stale pid file that names some other living process is no reason to wait."""
    postgres.start()
    os.kill(postmaster_pid(directory), signal.SIGKILL)
    wait_until(lambda: postgres.exit_code() is not None)
    with subprocess.Popen(["sleep", "60"]) as stranger:
        pid_file = directory / "cluster" / "postmaster.pid"
        pid_file.write_text("\n".join([str(stranger.pid), *pid_file.read_text().splitlines()[1:], ""]))
        try:
            postgres.start(deadline_s=5)
            assert stranger.poll() is None
        finally:
            stranger.kill()
    write(postgres.dsn, 1)


def test_leftovers_of_a_dead_initdb_are_removed_and_nothing_else(postgres: EmbeddedPostgres, directory: Path) -> None:
    """A half-made cluster and a passfile without cluster do not matter; names that are not ours are left alone."""
    (directory / "initdb-dead" / "cluster" / "base").mkdir(parents=True)
    (directory / "passfile").write_text("*:*:*:timestore:of a cluster that never was\n")
    (directory / "notes.txt").write_text("mine")
    postgres.start()
    write(postgres.dsn, 1)
    assert not (directory / "initdb-dead").exists()
    assert (directory / "notes.txt").read_text() == "mine"


@pytest.mark.parametrize(
    "step", ["initdb-*", "initdb-*/cluster/PG_VERSION", "initdb-*/cluster/base/5", "passfile", "cluster"]
)
def test_a_kill_during_the_first_start_heals(postgres: EmbeddedPostgres, directory: Path, step: str) -> None:
    """Whenever the very first start is killed, the next one works."""
    first = python(HOLDER, directory)
    try:
        wait_until(lambda: any(directory.glob(step)))
    finally:
        first.kill()
        first.communicate()
    postgres.start()
    write(postgres.dsn, 1)
    assert list(directory.glob("initdb-*")) == []


def test_a_missing_database_is_made_again(postgres: EmbeddedPostgres) -> None:
    """A kill between initdb and the creation of the database heals with the next start."""
    postgres.start()
    with psycopg.connect(make_conninfo(postgres.dsn, dbname="postgres"), autocommit=True) as connection:
        connection.execute("DROP DATABASE timestore")
    postgres.stop()
    postgres.start()
    write(postgres.dsn, 1)
