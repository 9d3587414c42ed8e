"""Grants: what a principal may do, with which datasets."""

from __future__ import annotations

import re
from collections.abc import Iterable
from dataclasses import dataclass
from enum import StrEnum

from timestore.errors import error

EVERY_DATASET = "*"
MAX_GRANTS = 100
_GLOB = re.compile(r"[A-Za-z*][A-Za-z0-9_*-]{0,127}\Z")


class Permission(StrEnum):
    """What a grant allows."""

    READ = "read"
    APPEND = "append"
    CREATE = "create"
    ADMIN = "admin"  # all the others too


@dataclass(frozen=True, slots=True, kw_only=True)
class Grant:
    """One permission on the datasets whose names match a glob, in which only ``*`` has a meaning."""

    permission: Permission
    glob: str

    @classmethod
    def parse(cls, text: str) -> list[Grant]:
        """Read ``append:sensors_*`` or ``read,append:sensors_*``; raises ``descriptor_invalid``."""
        names, colon, glob = text.strip().partition(":")
        if not colon or not _GLOB.match(glob):
            raise _malformed(text)
        try:
            return [cls(permission=Permission(name.strip()), glob=glob) for name in names.split(",")]
        except ValueError as exc:
            raise _malformed(text) from exc

    def covers(self, dataset: str) -> bool:
        """Say whether a dataset's name matches, ignoring case as the uniqueness of names does."""
        first, *rest = self.glob.lower().split(EVERY_DATASET)
        name = dataset.lower()
        if not rest:
            return name == first
        if not name.startswith(first):
            return False
        at = len(first)
        for part in rest[:-1]:
            found = name.find(part, at)
            if found < 0:
                return False
            at = found + len(part)
        return name.endswith(rest[-1]) and len(name) - len(rest[-1]) >= at

    @property
    def like(self) -> str:
        """The glob as a pattern of SQL's LIKE, for names in lower case."""
        return self.glob.lower().replace("_", r"\_").replace(EVERY_DATASET, "%")

    def __str__(self) -> str:
        return f"{self.permission}:{self.glob}"


@dataclass(frozen=True, slots=True)
class Grants:
    """All that a principal was granted."""

    grants: tuple[Grant, ...] = ()

    @classmethod
    def parse(cls, texts: Iterable[str]) -> Grants:
        """Read grants as ``Grant.parse`` does; raises ``descriptor_invalid``."""
        grants = tuple(dict.fromkeys(grant for text in texts for grant in Grant.parse(text)))
        if len(grants) > MAX_GRANTS:
            raise error("descriptor_invalid", f"there are {len(grants)} grants, at most {MAX_GRANTS} are allowed")
        return cls(grants)

    def permit(self, dataset: str, permissions: Iterable[Permission]) -> bool:
        """Say whether one of some permissions is granted on a dataset."""
        return any(grant.covers(dataset) for grant in self._with(permissions))

    def permit_everywhere(self, permission: Permission) -> bool:
        """Say whether a permission is granted on every dataset there is or may be."""
        return any(grant.glob == EVERY_DATASET for grant in self._with([permission]))

    def patterns(self, permissions: Iterable[Permission]) -> list[str]:
        """Return LIKE patterns of the names on which one of some permissions is granted."""
        return [grant.like for grant in self._with(permissions)]

    def as_texts(self) -> list[str]:
        return [str(grant) for grant in self.grants]

    def __add__(self, other: Grants) -> Grants:
        return Grants(tuple(dict.fromkeys((*self.grants, *other.grants))))

    def _with(self, permissions: Iterable[Permission]) -> list[Grant]:
        sufficient = {*permissions, Permission.ADMIN}
        return [grant for grant in self.grants if grant.permission in sufficient]


EVERYTHING = Grants((Grant(permission=Permission.ADMIN, glob=EVERY_DATASET),))


def _malformed(text: str) -> Exception:
    permissions = ", ".join(Permission)
    return error(
        "descriptor_invalid",
        f"the grant {text[:80]!a} is not one: say permission:glob, such as append:sensors_*; permissions are "
        f"{permissions}, and a glob is a dataset's name in which * stands for anything",
    )
