"""`timestore serve` as a process: start, stop, kill, restart."""

from __future__ import annotations

import json
import shlex
import subprocess
import sys
import threading
import time
from collections.abc import Callable
from pathlib import Path

import pytest

import timestore
from tests.fixtures.data import cpu_table
from tests.fixtures.files import published_files
from tests.fixtures.raw_put import RawPut, command
from tests.fixtures.server import ServerProcess, same_user_environment, wait_until
from timestore.errors import RetryableError, TimestoreError

StartProcess = Callable[..., ServerProcess]
SENT = cpu_table(200_000, step_s=1)


def _retry_until_receipt(server: ServerProcess, key: str, *, timeout_s: float = 60) -> timestore.Receipt:
    """What a client does: send it again with the same key until there is a receipt."""
    deadline = time.monotonic() + timeout_s
    while True:
        try:
            with timestore.connect(server.url, retries=False) as client:
                return client.append("cpu", SENT, idempotency_key=key)
        except (RetryableError, timestore.errors.InternalError):
            assert time.monotonic() < deadline
            time.sleep(0.1)


def test_sigterm_drains(server_process: StartProcess) -> None:
    """SIGTERM lets running puts finish, refuses new ones with a typed error, and exits 0."""
    server = server_process()
    url = server.url
    running = RawPut(url, command(dataset="cpu", idempotency_key="a"), SENT.schema)
    assert running.answer() is not None
    running.send(SENT.slice(0, 100_000))
    exit_codes: list[int] = []
    stopping = threading.Thread(target=lambda: exit_codes.append(server.terminate()))
    stopping.start()

    with timestore.connect(url, retries=False) as client:
        wait_until(lambda: client.health()["status"] != "ok")
        with pytest.raises(TimestoreError) as caught:
            client.append("cpu", SENT)
    running.send(SENT.slice(100_000))
    running.mark_end(SENT.num_rows)
    receipt = running.finish()
    stopping.join()

    assert caught.value.kind == "shutting_down"
    assert (receipt["rows"], exit_codes) == (SENT.num_rows, [0])
    assert not (server.data_dir / "server.json").exists()
    with timestore.connect(server.start().url) as client:
        assert client.read("cpu").equals(SENT)


def test_idle_put_does_not_keep_the_server(server_process: StartProcess) -> None:
    """A put that never ends is cut after the grace period; the server still exits 0, and nothing of it is stored."""
    server = server_process("--shutdown-grace-s", "0.5")
    hanging = RawPut(server.url, command(dataset="cpu", idempotency_key="a"), SENT.schema)
    hanging.answer()
    hanging.send(SENT)

    assert server.terminate() == 0
    with timestore.connect(server.start().url) as client:
        assert client.datasets() == []


@pytest.mark.parametrize("victims", ["server", "postgres", "both"])
@pytest.mark.parametrize("delay_s", [0.0, 0.1, 0.3])
def test_kill_at_any_moment(server_process: StartProcess, victims: str, delay_s: float) -> None:
    """Kill -9 of server, Postgres or both during puts: after a restart and a retry, each put is there exactly once."""
    server = server_process()
    with timestore.connect(server.url, retries=False) as client:
        client.append("cpu", SENT, idempotency_key="before")
    postgres = server.postgres()
    putting = threading.Thread(target=_append_ignoring_failure, args=(server.url, "during"))
    putting.start()
    time.sleep(delay_s)  # the moment under test, not synchronisation
    if victims != "postgres":
        server.process.kill()  # type: ignore[union-attr]
    if victims != "server":
        postgres.kill()
    putting.join()
    if victims != "postgres":
        server.process.wait()  # type: ignore[union-attr]
        server.start()

    receipt = _retry_until_receipt(server, "during")

    with timestore.connect(server.url, retries=False) as client:
        assert receipt.rows == SENT.num_rows
        assert client.append("cpu", SENT, idempotency_key="before").version == 1
        assert client.describe("cpu")["version"] == 2
        assert client.describe("cpu")["rows"] == 2 * SENT.num_rows
        assert client.read("cpu", version=1).equals(SENT)
        listed = {item["id"] for item in client.manifest("cpu")}
        unlisted = [path for path in published_files(server.data_dir / "data") if path.stem not in listed]
        assert len(unlisted) <= client.stats()["intents"]  # whatever is left over is accounted for


def test_second_server_is_refused(server_process: StartProcess) -> None:
    """A second server on a data directory exits 3 and prints how to join the first one's catalog, without a secret."""
    server = server_process()

    second = _serve("--data-dir", str(server.data_dir), "--port", "0")

    assert second.returncode == 3
    assert "--catalog-dsn" in second.stderr
    assert "password" not in second.stderr
    join = shlex.split(second.stderr.split("another --data-dir and ")[1])
    joined = server_process(*join, data_dir=server.data_dir.parent / "other")
    with timestore.connect(joined.url) as one, timestore.connect(server.url) as other:
        receipt = one.append("cpu", SENT, idempotency_key="a")
        assert other.append("cpu", SENT, idempotency_key="a") == receipt.as_replay()
        assert other.read("cpu").equals(SENT)


def test_foreign_files_are_left_alone(server_process: StartProcess, tmp_path: Path) -> None:
    """A file in the data directory that is not the server's is not touched."""
    foreign = tmp_path / "process" / "notes.txt"
    foreign.parent.mkdir()
    foreign.write_text("mine")

    server_process().terminate()

    assert foreign.read_text() == "mine"


def test_newer_data_directory_is_refused(tmp_path: Path) -> None:
    """A data directory of a newer version is refused with a clear message and left as it is."""
    (tmp_path / "VERSION").write_text("2\n")

    refused = _serve("--data-dir", str(tmp_path), "--port", "0")

    assert refused.returncode == 1
    assert "version '2'" in refused.stderr
    assert sorted(path.name for path in tmp_path.iterdir()) == ["VERSION", "lock"]


def test_another_catalogs_storage_is_not_written(server_process: StartProcess, tmp_path: Path) -> None:
    """A storage that belongs to another catalog is neither committed to nor deleted from; reads still work."""
    first = server_process()
    first.terminate()
    storage = str(first.data_dir / "data")
    second = server_process("--storage-url", storage, data_dir=tmp_path / "other")

    with timestore.connect(second.url, retries=False) as client:
        with pytest.raises(TimestoreError) as caught:
            client.append("cpu", SENT)
        assert caught.value.kind == "fenced"
        assert client.datasets() == []


def test_help_teaches() -> None:
    """`timestore serve --help` names every setting."""
    shown = _serve("--help").stdout

    for option in ("--data-dir", "--catalog-dsn", "--memory-budget", "--max-running-puts", "--shutdown-grace-s"):
        assert option in shown


def test_server_file_has_no_secret(server_process: StartProcess) -> None:
    """server.json says where the server is and how to join, without the catalog's password."""
    server = server_process()

    text = (server.data_dir / "server.json").read_text()

    password = (server.data_dir / "postgres" / "passfile").read_text().strip().rsplit(":", 1)[1]
    assert json.loads(text)["url"] == server.url
    assert password not in text
    assert password not in server.log.read_text()


def _append_ignoring_failure(url: str, key: str) -> None:
    try:
        with timestore.connect(url, retries=False) as client:
            client.append("cpu", SENT, idempotency_key=key)
    except TimestoreError:
        pass


def _serve(*arguments: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-m", "timestore_app", "serve", *arguments],
        env=same_user_environment(), capture_output=True, text=True, check=False, timeout=60,
    )  # fmt: skip
