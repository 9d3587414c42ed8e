"""Where trials happen: a Postgres with a proxy before it, and for each trial a server, a catalog and a storage."""

from __future__ import annotations

import json
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any, LiteralString

import psutil
import psycopg
import pyarrow as pa
from psycopg import sql

import timestore
from catalog.embedded import EmbeddedPostgres
from tests.chaos.client import ABANDONED_KEY, ARCHIVE, DATASET, IDEMPOTENCY_KEY, KEY, OTHER_DATASET, good_rows
from tests.chaos.places import Directories, Place, Places
from tests.chaos.trap import Trap
from tests.fixtures.data import START
from tests.fixtures.proxy import PostgresProxy
from tests.fixtures.server import ServerProcess, same_user_environment, wait_until
from timestore.errors import ConflictError, InternalError, RetryableError

CLIENT_TIMEOUT_S = 90
LEASE_S = 5
OTHER_KEY = {"region": "us"}
BEFORE = pa.table({"ts": pa.array([START], pa.timestamp("us", "UTC")), "value": [0]})


class Laboratory:
    """What all trials share. Use it on the main thread: Linux ties Postgres to the thread that started it."""

    def __init__(self, directory: Path, places: Places | None = None) -> None:
        self._directory = directory
        self._places = places or Directories()
        self._trials = 0
        self.postgres = EmbeddedPostgres(directory=directory / "postgres")
        self.postgres.start()
        self.proxy = PostgresProxy(self.postgres.dsn)
        self.store_proxy = self._places.proxy

    @contextmanager
    def site(self, *, across_disks: bool = False) -> Iterator[Site]:
        """Make everything that one trial needs, and remove its processes and files at the end."""
        self._trials += 1
        directory = self._directory / f"trial{self._trials}"
        directory.mkdir()
        with self._places.place(directory, across_disks=across_disks) as place:
            site = Site(self, directory, place, directory.name)
            try:
                yield site
            finally:
                site.end()
                self._forget(directory.name)

    def kill_postgres(self) -> None:
        """Kill -9 the postmaster; its sessions see that and end."""
        cluster = str(self._directory / "postgres" / "cluster")  # this process may have started others
        [postmaster] = [child for child in psutil.Process().children() if cluster in child.cmdline()]
        postmaster.kill()
        wait_until(lambda: self.postgres.exit_code() is not None)

    def heal(self) -> None:
        """Bring back Postgres and the network."""
        if self.postgres.exit_code() is not None:
            self.postgres.start()
            self.proxy.follow(self.postgres.dsn)
        self.proxy.talk_again()
        if self.store_proxy is not None:
            self.store_proxy.talk_again()

    def _forget(self, schema: str) -> None:
        """Drop a trial's catalog: a Postgres that was killed looks at every file before it serves again."""
        self.heal()
        with psycopg.connect(self.postgres.dsn, autocommit=True) as connection:
            connection.execute(sql.SQL("DROP SCHEMA IF EXISTS {} CASCADE").format(sql.Identifier(schema)))
            connection.execute("CHECKPOINT")  # only then the files go

    def close(self) -> None:
        """Stop Postgres."""
        self.proxy.close()
        self.postgres.stop()


class Site:
    """One trial's server with its trap, and what a stranger can find out about it."""

    def __init__(self, laboratory: Laboratory, directory: Path, place: Place, schema: str) -> None:
        self._laboratory = laboratory
        self.proxy = laboratory.proxy
        self.place = place
        self._schema = schema
        self._directory = directory
        self._processes: list[subprocess.Popen[bytes]] = []
        self.trap = Trap(directory)
        self._catalog = ("--catalog-dsn", laboratory.proxy.dsn, "--catalog-schema", schema)
        self._where = (*self._catalog, "--storage-url", place.url)
        self._program = ("-m", "tests.chaos.trap", str(directory))
        limits = ("--lease-s", str(LEASE_S), "--memory-budget", "256MiB")
        self.server = ServerProcess(
            directory / "server",
            *self._where,
            *limits,
            log=directory / "server.log",
            program=self._program,
            environment=place.environment,
        )
        self.rows = good_rows(place.url)
        self.before = self.rows.slice(0, 1)

    def send(self, what: str) -> subprocess.Popen[bytes]:
        """Start a client: see ``tests.chaos.client`` for what it can do."""
        program = [sys.executable, "-m", "tests.chaos.client"]
        command = [*program, self.server.url, what, self.place.url, str(self._directory)]
        return subprocess.Popen(command, stdout=subprocess.PIPE, env=same_user_environment())

    def command(self, *arguments: str, storage: bool = True) -> subprocess.Popen[bytes]:
        """Start a command that works on the catalog, and on the storage unless told otherwise, with the trap."""
        command = [sys.executable, *self._program, *arguments, *(self._where if storage else self._catalog)]
        with self.server.log.open("ab") as log:
            environment = same_user_environment() | {"TIMESTORE_LEASE_S": str(LEASE_S), **self.place.environment}
            return subprocess.Popen(command, stdout=log, stderr=log, env=environment)

    def watched(self, process: subprocess.Popen[bytes]) -> subprocess.Popen[bytes]:
        """Remember a process, so that it does not outlive the trial."""
        self._processes.append(process)
        return process

    def end(self) -> None:
        """Kill whatever still runs."""
        if self.server.process is not None:
            self.server.stop()
        for process in self._processes:
            process.kill()
            process.wait()
            if process.stdout is not None:
                process.stdout.close()

    def heal(self) -> None:
        """Bring back whatever does not run, as an operator would."""
        self.trap.take_away()
        self._laboratory.heal()
        process = self.server.process
        if process is None or process.poll() is not None:
            self.server.start()

    def append_before(self) -> None:
        """Commit the append that was there before."""
        with timestore.connect(self.server.url) as client:
            client.append(DATASET, self.before, key=OTHER_KEY, idempotency_key="before")

    def append_other(self, *, expire: bool = False, drop: bool = False) -> None:
        """Commit an append of old rows to another dataset, and end them."""
        with timestore.connect(self.server.url) as client:
            client.append(OTHER_DATASET, BEFORE, create={"retention": "1d"})
            if expire:
                client.expire(OTHER_DATASET)
            if drop:
                client.drop_dataset(OTHER_DATASET, confirm=OTHER_DATASET)

    @property
    def archive(self) -> Path:
        """The directory of another storage target, beside the storage."""
        return Path(self.place.url).with_name(ARCHIVE)

    def add_storage(self) -> None:
        """Add a storage target."""
        with timestore.connect(self.server.url) as client:
            client.add_storage(ARCHIVE, str(self.archive))

    def retry(self) -> timestore.Receipt:
        """Send the good put with its key until there is a receipt, as every client may."""
        deadline = time.monotonic() + CLIENT_TIMEOUT_S
        while True:
            try:
                with timestore.connect(self.server.url) as client:
                    return client.append(DATASET, self.rows, key=KEY, idempotency_key=IDEMPOTENCY_KEY)
            except (RetryableError, InternalError):
                if time.monotonic() > deadline:
                    raise
                time.sleep(0.05)

    def violations(self, first: dict[str, Any] | None, *, had_before: bool) -> list[str]:
        """Retry, then compare everything a stranger can see with what was sent; name what does not hold.

        ``first`` is what the client of the first attempt was told; None if it was told nothing.
        """
        receipt = self.retry()
        expected = ["before", IDEMPOTENCY_KEY] if had_before else [IDEMPOTENCY_KEY]
        found = []
        if first is not None and first["type"] == "receipt" and timestore.Receipt.from_json(first) != _first(receipt):
            found.append("the receipt changed")
        with timestore.connect(self.server.url) as client:
            history = [entry["version"] for entry in client.history(DATASET)]
            if history != list(range(len(expected), 0, -1)):
                found.append(f"the versions are {history}")
            if receipt.version != len(expected):
                found.append(f"the append is at version {receipt.version}")
            for version in range(1, len(expected) + 1):
                sent = [self.before if key == "before" else self.rows for key in expected[:version]]
                if self._read(client, version) != pa.concat_tables(sent).sort_by("ts"):
                    found.append(f"version {version} has other rows than were sent")
            stats = client.stats()
            if stats["running_puts"] or stats["buffered_bytes"]:
                found.append(f"the server still holds {stats}")
            found += _contradictions(client, (first or {}).get("type"))
        stored, published = self.place.files(), self.paths_in("holders")
        unknown = stored - published - self.paths_in("intents") - self.paths_in("condemned_files")
        if unknown := unknown & self.place.files():  # not deleted and forgotten since they were listed
            found.append(f"nobody knows the files {sorted(unknown)}")
        if missing := published - stored:
            found.append(f"files are missing: {sorted(missing)}")
        return found

    def _read(self, client: timestore.Client, version: int) -> pa.Table:
        """Read a version: through the server, or the files themselves, which no server reads from elsewhere."""
        if not self.place.is_elsewhere:
            return client.read(DATASET, version=version).sort_by("ts")
        root = self.place.store.url("")
        items = client.manifest(DATASET, version=version)
        return self.place.rows([item["uri"].removeprefix(root) for item in items]).sort_by("ts")

    def paths_in(self, table: str, condition: LiteralString = "true") -> set[str]:
        """Ask the catalog for files in one of its tables."""
        query = sql.SQL("SELECT path FROM {} WHERE {}").format(sql.Identifier(self._schema, table), sql.SQL(condition))
        with psycopg.connect(self._laboratory.postgres.dsn) as connection:
            return {path for (path,) in connection.execute(query).fetchall()}


def outcome(client: subprocess.Popen[bytes]) -> dict[str, Any] | None:
    """Wait for a client and return what it was told; None if it was killed."""
    printed, _ = client.communicate(timeout=CLIENT_TIMEOUT_S)
    return json.loads(printed) if printed else None


def _contradictions(client: timestore.Client, told: str | None) -> list[str]:
    """Name what does not hold of an action that its caller was told to be done."""
    others = [item for item in client.datasets() if item["dataset"] == OTHER_DATASET]
    if any(item["rows"] not in (0, BEFORE.num_rows) for item in others):
        return ["half of the other dataset is there"]
    targets = {item["storage"]: item["state"] for item in client.list_storage()}
    if set(targets.values()) != {"ok"} or (told == "add" and ARCHIVE not in targets):
        return [f"the storage targets are {targets}"]
    if told == "abandon":
        with suppress(ConflictError):
            client.append(DATASET, BEFORE, key=KEY, idempotency_key=ABANDONED_KEY)
            return ["an abandoned key committed"]
    if told == "drop" and others:
        return ["a dropped dataset is there"]
    if told == "expire" and others[0]["rows"]:
        return ["expired rows are there"]
    if told == "retention" and others[0]["retention"] != "9d":
        return ["the retention is not what was said"]
    return []


def _first(receipt: timestore.Receipt) -> timestore.Receipt:
    return timestore.Receipt.from_json(receipt.as_json() | {"replayed": False})
