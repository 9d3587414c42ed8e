"""The embedded Postgres as every kind of user: root, others, and in containers."""

from __future__ import annotations

import json
import os
import platform
import pwd
import shutil
import stat
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import psycopg
import pytest

from catalog.embedded import EmbeddedPostgres
from catalog.embedded.binaries import find_binaries
from tests.fixtures.embedded_postgres import processes_of, python

pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="kills and death signals are tested on Linux")

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
def open_folder() -> Iterator[Path]:
    """A folder every user can reach; pytest's own are closed to all but us."""
    folder = Path(tempfile.mkdtemp(prefix="timestore-test-"))
    folder.chmod(0o755)
    yield folder
    shutil.rmtree(folder)


def round_trip(directory: Path, *, setup: str = "", before: tuple[str, ...] = (), **options: Any) -> dict[str, int]:
    """Run ROUND_TRIP in a process of its own and return what it found."""
    process = python(ROUND_TRIP.format(setup=setup), directory, before=before, **options)
    _, errors = process.communicate(timeout=60)
    assert process.returncode == 0, errors
    found: dict[str, int] = json.loads(errors.splitlines()[-1])
    assert processes_of(directory) == []
    return found


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
