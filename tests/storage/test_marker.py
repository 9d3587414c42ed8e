"""The marker at the storage root: one catalog per root."""

import json
from pathlib import Path
from uuid import UUID

import pytest

from storage.local import LocalStore
from storage.marker import MARKER_PATH, claim_root
from timestore.errors import RetryableError, TimestoreError

CATALOG, OTHER = UUID(int=1), UUID(int=2)
INCARNATION = UUID(int=3)


@pytest.fixture(name="store")
def _store(tmp_path: Path) -> LocalStore:
    return LocalStore(root=tmp_path / "root")


def test_an_unmarked_root_is_claimed(store: LocalStore, tmp_path: Path) -> None:
    """The first catalog marks the root, in JSON that a person can read."""
    claim_root(store, catalog_id=CATALOG, incarnation=INCARNATION)
    marker = json.loads((tmp_path / "root" / MARKER_PATH).read_bytes())
    assert marker == {"format": 1, "catalog_id": str(CATALOG), "incarnation": str(INCARNATION)}


def test_the_owner_claims_again(store: LocalStore) -> None:
    """Every start of the same catalog finds its own mark."""
    claim_root(store, catalog_id=CATALOG, incarnation=INCARNATION)
    claim_root(store, catalog_id=CATALOG, incarnation=INCARNATION)


@pytest.mark.parametrize(("catalog_id", "incarnation"), [(OTHER, INCARNATION), (CATALOG, UUID(int=4))])
def test_another_catalog_is_fenced(store: LocalStore, catalog_id: UUID, incarnation: UUID) -> None:
    """Another catalog, or another incarnation of it, may neither commit nor delete here, and the mark stays."""
    claim_root(store, catalog_id=CATALOG, incarnation=INCARNATION)
    with pytest.raises(RetryableError) as caught:
        claim_root(store, catalog_id=catalog_id, incarnation=incarnation)
    assert caught.value.kind == "fenced"
    assert str(CATALOG) in str(caught.value)
    claim_root(store, catalog_id=CATALOG, incarnation=INCARNATION)


@pytest.mark.parametrize("content", [b"", b"{", b"[]", b"null", b"\xff", b'{"format": 2}', b'"other"', b"[" * 100_000])
def test_a_foreign_marker_is_fenced(store: LocalStore, content: bytes) -> None:
    """A file of this name that Timestore did not write keeps us out, with an error that says so."""
    store.put_bytes(content, MARKER_PATH)
    with pytest.raises(TimestoreError) as caught:
        claim_root(store, catalog_id=CATALOG, incarnation=INCARNATION)
    assert caught.value.kind == "fenced"


def test_the_marker_does_not_pass_for_a_data_file(store: LocalStore) -> None:
    """The marker's path is none that a dataset could have: a dataset's name has no dot."""
    claim_root(store, catalog_id=CATALOG, incarnation=INCARNATION)
    assert [found.path for found in store.list()] == ["timestore.json"]
    assert not list(store.list("timestore/"))
