"""Where the data files of trials go: a directory, or a bucket behind a proxy; and what a stranger finds there."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from contextlib import AbstractContextManager, contextmanager
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Protocol
from uuid import uuid4

import pyarrow as pa

from storage.opening import open_store
from storage.store import Store
from tests.chaos.trap import STORE_VARIABLE
from tests.fixtures.files import read_with_duckdb
from tests.fixtures.object_stores import ObjectServer, environment_of, s3_client
from tests.fixtures.proxy import TcpProxy

DRIVERS = {"s3": "s3", "abfs": "azure"}  # the module of ``storage`` that speaks to a server, by its scheme
OTHER_DISK = Path("/dev/shm")


@dataclass(frozen=True, kw_only=True)
class Place:
    """A storage of one trial."""

    url: str
    environment: Mapping[str, str] = field(default_factory=dict)  # of servers, whose network is bad
    rest: Callable[[], set[str]] = set  # paths of uploads that never ended
    is_elsewhere: bool = False

    @cached_property
    def store(self) -> Store:
        """The storage, over a good network."""
        return open_store(self.url)

    def files(self) -> set[str]:
        """All data files, and those of which only a part was ever sent."""
        return {each.path for each in self.store.list() if each.path.endswith(".duckdb")} | self.rest()

    def rows(self, paths: list[str]) -> pa.Table:
        """What DuckDB finds in some files."""
        with TemporaryDirectory() as directory:
            copies = [Path(directory, f"{number}.duckdb") for number in range(len(paths))]
            for path, copy in zip(paths, copies, strict=True):
                with self.store.open(path) as file:
                    copy.write_bytes(file.read())
            return pa.concat_tables(read_with_duckdb(copy) for copy in copies)


class Places(Protocol):
    """Gives each trial a storage of its own."""

    def place(self, directory: Path, *, across_disks: bool) -> AbstractContextManager[Place]:
        """Make one; it is removed at the end."""
        ...

    @property
    def proxy(self) -> TcpProxy | None:
        """What is between servers and storage."""
        ...


class Directories:
    """A directory for each trial."""

    proxy: TcpProxy | None = None

    @contextmanager
    def place(self, directory: Path, *, across_disks: bool) -> Iterator[Place]:
        """Make one beside the trial's other files, or on another disk."""
        with TemporaryDirectory(dir=OTHER_DISK if across_disks else directory) as storage:
            yield Place(url=str(Path(storage) / "data"))


class Buckets:
    """A bucket for each trial, on a server behind a proxy. Servers find it by their environment."""

    def __init__(self, server: ObjectServer) -> None:
        self._server = server
        self.proxy = TcpProxy("127.0.0.1", server.port)
        self.environment = environment_of(server)  # of those with a good network
        self._environment = environment_of(server.behind(self.proxy.port)) | {STORE_VARIABLE: DRIVERS[server.scheme]}

    @contextmanager
    def place(self, directory: Path, *, across_disks: bool) -> Iterator[Place]:
        """Make one. It stays: the server is thrown away as a whole."""
        name = f"chaos-{uuid4().hex[:16]}"
        self._server.make_bucket(name)
        yield Place(
            url=f"{self._server.scheme}://{name}/data",
            environment=self._environment,
            rest=lambda: self._unfinished(name) if self._server.scheme == "s3" else set(),
            is_elsewhere=True,
        )

    def _unfinished(self, bucket: str) -> set[str]:
        answer = s3_client(self._server.port).list_multipart_uploads(Bucket=bucket)
        return {each["Key"].removeprefix("data/") for each in answer.get("Uploads", [])}
