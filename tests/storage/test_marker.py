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


@pytest.fixture(name="store")
def _store(tmp_path: Path) -> LocalStore:
    return LocalStore(root=tmp_path / "root")


def _claim(store: LocalStore, *, is_new: bool, catalog_id: UUID = CATALOG, incarnation: UUID = INCARNATION) -> None:
    claim_root(store, catalog_id=catalog_id, incarnation=incarnation, is_new=is_new)


def _fenced(store: LocalStore, **claim) -> RetryableError:
    with pytest.raises(RetryableError) as caught:
        _claim(store, **claim)
    assert caught.value.kind == "fenced"
    return caught.value


def test_a_new_catalog_claims_an_unmarked_root(store: LocalStore, tmp_path: Path) -> None:
    """The first catalog marks the root, in JSON that a person can read."""
    _claim(store, is_new=True)
    marker = json.loads((tmp_path / "root" / MARKER_PATH).read_bytes())
    assert marker == {"format": 1, "catalog_id": str(CATALOG), "incarnation": str(INCARNATION)}


@pytest.mark.parametrize("is_new", [True, False])
def test_the_owner_claims_again(store: LocalStore, is_new: bool) -> None:
    """Every start of the same catalog finds its own mark, also after a first start that got no further."""
    _claim(store, is_new=True)
    _claim(store, is_new=is_new)


def test_a_catalog_with_files_does_not_claim_an_unmarked_root(store: LocalStore) -> None:
    """A root without a marker is not where an older catalog's files are: it is a wrong URL, or lost its mount."""
    _fenced(store, is_new=False)
    assert store.stat(MARKER_PATH) is None


@pytest.mark.parametrize("is_new", [True, False])
@pytest.mark.parametrize(
    "stranger", [{"catalog_id": OTHER}, {"incarnation": UUID(int=4)}], ids=["catalog", "incarnation"]
)
def test_another_catalog_is_fenced(store: LocalStore, stranger: dict[str, UUID], is_new: bool) -> None:
    """Another catalog, or another incarnation of it, may neither commit nor delete here, and the mark stays."""
    _claim(store, is_new=True)
    assert str(CATALOG) in str(_fenced(store, is_new=is_new, **stranger))
    _claim(store, is_new=False)


@pytest.mark.parametrize("is_new", [True, False])
@pytest.mark.parametrize("content", [b"", b"{", b"[]", b"null", b"\xff", b'{"format": 2}', b'"other"', b"[" * 100_000])
def test_a_foreign_marker_is_fenced(store: LocalStore, content: bytes, is_new: bool) -> None:
    """A file of this name that Timestore did not write keeps us out, with an error that says so, and stays."""
    store.put_bytes(content, MARKER_PATH)
    _fenced(store, is_new=is_new)
    with store.open(MARKER_PATH) as file:
        assert file.read() == content


def test_the_marker_does_not_pass_for_a_data_file(store: LocalStore) -> None:
    """The marker's path is none that a dataset could have: a dataset's name has no dot."""
    _claim(store, is_new=True)
    assert [found.path for found in store.list()] == ["timestore.json"]
    assert not list(store.list("timestore/"))
