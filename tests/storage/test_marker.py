"""The marker at the storage root: one catalog per root, one root per catalog."""

import json
from pathlib import Path
from uuid import UUID

import pytest

from storage.local import LocalStore
from storage.marker import MARKER_PATH, claim_root
from timestore.errors import RetryableError

CATALOG, OTHER = UUID(int=1), UUID(int=2)
INCARNATION = UUID(int=3)
ELSEWHERE = UUID(int=5)


@pytest.fixture(name="store")
def _store(tmp_path: Path) -> LocalStore:
    return LocalStore(root=tmp_path / "root")


def _claim(
    store: LocalStore, *, settled: UUID | None, catalog_id: UUID = CATALOG, incarnation: UUID = INCARNATION
) -> UUID:
    return claim_root(store, catalog_id=catalog_id, incarnation=incarnation, settled=settled)


def _fenced(store: LocalStore, **claim) -> RetryableError:
    with pytest.raises(RetryableError) as caught:
        _claim(store, **claim)
    assert caught.value.kind == "fenced"
    return caught.value


def test_a_new_catalog_claims_an_unmarked_root(store: LocalStore, tmp_path: Path) -> None:
    """The first catalog marks the root, in JSON that a person can read."""
    root_id = _claim(store, settled=None)
    marker = json.loads((tmp_path / "root" / MARKER_PATH).read_bytes())
    expected = {"format": 1, "catalog_id": str(CATALOG), "incarnation": str(INCARNATION), "root_id": str(root_id)}
    assert marker == expected


def test_the_owner_claims_again(store: LocalStore) -> None:
    """Every start of the same catalog finds its own mark, also after a first start that got no further."""
    root_id = _claim(store, settled=None)
    assert _claim(store, settled=None) == root_id
    assert _claim(store, settled=root_id) == root_id


def test_a_settled_catalog_does_not_claim_an_unmarked_root(store: LocalStore) -> None:
    """A root without a marker is not where a catalog's files are: it is a wrong URL, or lost its mount."""
    _fenced(store, settled=ELSEWHERE)
    assert store.stat(MARKER_PATH) is None


def test_a_second_root_of_one_catalog_is_fenced(store: LocalStore) -> None:
    """A root that the catalog marked once, but where its files are not, takes none."""
    _claim(store, settled=None)
    assert "not where this catalog has its files" in str(_fenced(store, settled=ELSEWHERE))


@pytest.mark.parametrize(
    "stranger", [{"catalog_id": OTHER}, {"incarnation": UUID(int=4)}], ids=["catalog", "incarnation"]
)
def test_another_catalog_is_fenced(store: LocalStore, stranger: dict[str, UUID]) -> None:
    """Another catalog, or another incarnation of it, may neither commit nor delete here, and the mark stays."""
    root_id = _claim(store, settled=None)
    assert str(CATALOG) in str(_fenced(store, settled=None, **stranger))
    assert _claim(store, settled=root_id) == root_id


@pytest.mark.parametrize("content", [b"", b"{", b"[]", b"null", b"\xff", b'{"format": 2}', b'"other"', b"[" * 100_000])
def test_a_foreign_marker_is_fenced(store: LocalStore, content: bytes) -> None:
    """A file of this name that Timestore did not write keeps us out, with an error that says so."""
    store.put_bytes(content, MARKER_PATH)
    _fenced(store, settled=None)


def test_the_marker_does_not_pass_for_a_data_file(store: LocalStore) -> None:
    """The marker's path is none that a dataset could have: a dataset's name has no dot."""
    _claim(store, settled=None)
    assert [found.path for found in store.list()] == ["timestore.json"]
    assert not list(store.list("timestore/"))
