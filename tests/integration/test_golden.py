"""What earlier versions stored is read by this one, for ever: tests/golden has an archive of each."""

from __future__ import annotations

import json
import zipfile
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pyarrow as pa
import pytest

import timestore
from catalog.transfer import import_catalog
from tests.fixtures.arrow_values import digest_of
from tests.fixtures.command_line import run_process
from tests.fixtures.server import StartService

ARCHIVES = sorted((Path(__file__).parents[1] / "golden").glob("*.zip"))


@dataclass(frozen=True, slots=True)
class Kept:
    """A server of today on what an earlier version stored."""

    client: timestore.Client
    folder: Path

    @property
    def storage(self) -> str:
        """Where its data files are."""
        return str(self.folder / "data")

    @property
    def receipts(self) -> dict[str, Any]:
        """What each idempotency key was answered."""
        receipts: dict[str, Any] = json.loads((self.folder / "receipts.json").read_text())
        return receipts

    def expected(self) -> Iterator[tuple[str, int, pa.Table]]:
        """What each version of each dataset has."""
        for path in sorted((self.folder / "expected").iterdir()):
            dataset, _, version = path.stem.rpartition("-")
            with pa.ipc.open_file(path) as reader:
                yield dataset, int(version), reader.read_all()


@pytest.fixture(name="kept", params=ARCHIVES, ids=lambda path: path.stem)
def _kept(
    request: pytest.FixtureRequest,
    start_service: StartService,
    postgres_dsn: str,
    catalog_schema: str,
    tmp_path: Path,
) -> Iterator[Kept]:
    folder = tmp_path / "kept"
    with zipfile.ZipFile(request.param) as archive:
        archive.extractall(folder)
    import_catalog(postgres_dsn, catalog_schema, folder / "catalog.zip")
    with timestore.connect(start_service(storage_url=str(folder / "data")).url) as client:
        yield Kept(client, folder)


def test_every_version_is_read_as_it_was(kept: Kept) -> None:
    """Each version of each dataset has the schema, metadata included, and the very bits that it had."""
    seen = 0
    for dataset, version, expected in kept.expected():
        read = kept.client.read(dataset, version=version, with_key=True)
        assert read.schema.equals(expected.schema, check_metadata=True)
        assert digest_of(read, read.schema) == digest_of(expected, expected.schema), (dataset, version)
        seen += 1
    assert seen >= 4


def test_receipts_are_what_they_were(kept: Kept) -> None:
    """Each idempotency key still stands for its append."""
    for key, receipt in kept.receipts.items():
        assert kept.client.receipt(receipt["dataset"], key).as_json() == receipt


def test_a_retry_from_then_is_still_a_replay(kept: Kept) -> None:
    """The same rows sent again have the same fingerprint; other rows are a conflict."""
    first = next(table for dataset, version, table in kept.expected() if (dataset, version) == ("cpu", 1))
    rows = first.drop_columns(["region"])

    again = kept.client.append("cpu", rows, key={"region": "eu"}, idempotency_key="a")

    assert again.as_json() == kept.receipts["a"] | {"replayed": True}
    with pytest.raises(timestore.errors.ConflictError):
        kept.client.append("cpu", rows.slice(1), key={"region": "eu"}, idempotency_key="a")


def test_puts_go_on_and_totals_are_right(kept: Kept) -> None:
    """What today's version adds stands beside what was there."""
    described = kept.client.describe("cpu")
    rows = kept.client.read("cpu")
    assert (described["rows"], described["version"]) == (rows.num_rows, 3)

    receipt = kept.client.append("cpu", rows.slice(0, 5), key={"region": "eu"})

    assert receipt.version == 4
    assert kept.client.describe("cpu")["rows"] == kept.client.read("cpu").num_rows == rows.num_rows + 5


def test_fsck_agrees(kept: Kept, postgres_dsn: str, catalog_schema: str) -> None:
    """What earlier versions wrote, rows, checksums and what files say about themselves, is as their catalog says."""
    place = ("--catalog-dsn", postgres_dsn, "--catalog-schema", catalog_schema, "--storage-url", kept.storage)

    done = run_process("fsck", "--deep", "--json", *place)

    assert (done.code, done.document["findings"]) == (0, []), done.err
    assert done.document["files"] >= 4


def test_files_alone_tell_it_too(
    kept: Kept, start_service: StartService, postgres_dsn: str, catalog_schema: str
) -> None:
    """A catalog made anew from the files of earlier versions has the same rows, and retries are replays."""
    schema = f"{catalog_schema}_new"
    before = {name: kept.client.read(name, with_key=True) for name in {dataset for dataset, _, _ in kept.expected()}}
    place = ("--catalog-dsn", postgres_dsn, "--catalog-schema", schema, "--storage-url", kept.storage)

    done = run_process("rebuild", "--json", *place)

    assert (done.code, done.document["left"]) == (0, []), done.err
    with timestore.connect(start_service(storage_url=kept.storage, catalog_schema=schema).url) as client:
        for name, rows in before.items():
            assert digest_of(client.read(name, with_key=True), rows.schema) == digest_of(rows, rows.schema), name
        for key, receipt in kept.receipts.items():
            rebuilt = client.receipt(receipt["dataset"], key)
            assert (rebuilt.append_id, rebuilt.fingerprint) == (receipt["append_id"], receipt["fingerprint"])
