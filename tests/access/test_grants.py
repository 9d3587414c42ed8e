"""Grants: what they say, and which names they are for."""

from __future__ import annotations

import re

import psycopg
import pytest
from hypothesis import given
from hypothesis import strategies as st

from access.grants import Grant, Grants, Permission
from access.principal import EVERYBODY, Limits, Principal
from timestore.errors import TimestoreError

NAMES = st.text("abA_-1", min_size=1, max_size=8)
GLOBS = st.text("abA_-1*", min_size=1, max_size=8).filter(lambda glob: glob[0] in "abA*")


@pytest.mark.parametrize(
    "text", ["", "read", "read:", ":x", "write:x", "read:a b", "read:a.b", "read:-a", "read:ä", "READ:x"]
)
def test_what_is_no_grant(text: str) -> None:
    """A grant that is malformed is refused, and the message says how one is spelled."""
    with pytest.raises(TimestoreError, match="append:sensors_"):
        Grants.parse([text])


def test_several_permissions_at_once() -> None:
    """Permissions with commas between are as many grants, and spelled so when they are shown."""
    assert Grants.parse(["read,append:s_*", "read:s_*"]).as_texts() == ["read:s_*", "append:s_*"]


@given(glob=GLOBS, name=NAMES)
def test_which_names_a_glob_covers(glob: str, name: str) -> None:
    """``*`` stands for any characters and none; everything else for itself, in any case."""
    pattern = "".join(".*" if char == "*" else re.escape(char) for char in glob)

    assert Grant(permission=Permission.READ, glob=glob).covers(name) == bool(re.fullmatch(pattern, name, re.I))


def test_the_catalog_compares_alike(postgres_dsn: str) -> None:
    """Names that a listing is narrowed to are those that the glob covers."""
    names = ["a", "ab", "aab", "A_b", "a-b", "a_", "b", "ba1", "Ab_1"]
    with psycopg.connect(postgres_dsn) as connection:
        for glob in ["*", "a*", "a_*", "*b", "a*b", "A_B", "*a*1", "a-*"]:
            grant = Grant(permission=Permission.READ, glob=glob)
            rows = connection.execute(
                "SELECT name FROM unnest(%s::text[]) AS n (name) WHERE lower(name) LIKE ANY (%s::text[])",
                (names, [grant.like]),
            ).fetchall()
            assert sorted(name for (name,) in rows) == sorted(filter(grant.covers, names)), glob


def test_admin_is_everything() -> None:
    """The grant admin includes the others, on its names only."""
    principal = Principal(name="token:a", grants=Grants.parse(["admin:s_*"]))

    assert all(principal.may("s_1", permission) for permission in Permission)
    assert not any(principal.may("t", permission) for permission in Permission)
    assert principal.patterns(Permission.READ) == [r"s\_%"]
    assert EVERYBODY.patterns(Permission.READ) is None


def test_limits_fall_back() -> None:
    """A token's own limit goes before the server's, each by itself."""
    limits = Limits(max_running_puts=1).or_else(Limits(max_running_puts=5, bytes_per_s=7))

    assert limits == Limits(max_running_puts=1, bytes_per_s=7)
