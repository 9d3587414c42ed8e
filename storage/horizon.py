"""How far a catalog had come when it last wrote to its storage: the number of an object at the root.

The catalog counts first, then the number is written here. So a catalog whose count is below the greatest number in its
storage has forgotten something: it was restored from a backup, or is a replica that lags.
"""

from __future__ import annotations

import re
from collections.abc import Callable

from storage.store import Store
from timestore.errors import error

_PREFIX = "timestore.horizon/"  # no dataset's name has a dot
_NUMBERED = re.compile(re.escape(_PREFIX) + r"(\d{20})\Z")


def is_horizon(path: str) -> bool:
    """Say whether an object is a horizon's."""
    return path.startswith(_PREFIX)


def read_horizon(store: Store) -> int:
    """Return the greatest number in storage; 0 while there is none.

    To compare it with the catalog's, ask the catalog afterwards: it is always ahead of what it has written.
    """
    return max(_numbers(store), default=0)


def check_horizon(store: Store, known: Callable[[], int]) -> None:
    """Refuse a catalog that is older than its storage; ``known`` asks it for its horizon. Raises ``fenced``."""
    stored = read_horizon(store)
    if stored > (horizon := known()):
        raise error(
            "fenced",
            f"the catalog is older than its storage at {store.url('')} (it counts {horizon}, the storage {stored}): it "
            "was restored from a backup, or is a replica that lags. Nothing is committed or deleted until timestore "
            "rebuild --adopt has taken in what it does not know",
            details={"horizon": horizon, "stored": stored},
        )


def write_horizon(store: Store, number: int) -> None:
    """Write a number, durably, and then delete the smaller ones."""
    store.put_bytes(b"", _path(number))
    for smaller in [each for each in _numbers(store) if each < number]:
        store.delete(_path(smaller))


def _path(number: int) -> str:
    return f"{_PREFIX}{number:020}"


def _numbers(store: Store) -> list[int]:
    return [int(found[1]) for each in store.list(_PREFIX) if (found := _NUMBERED.match(each.path))]
