"""The small worlds that are searched: each small enough to be exhausted, together they have every process."""

from __future__ import annotations

from collections.abc import Mapping

from tests.model.guards import Guard
from tests.model.state import Put, World

_FIRST = Put(name="put 1", key="k", files=("file 1",))
_EVOLVING = _FIRST._replace(column="int64")

ONE_PUT = World(name="one put", puts=(_FIRST,), fsck=True)
ELSEWHERE = World(name="one put to a store elsewhere", puts=(_FIRST,), is_distant=True, fsck=True)
TWO_FILES = World(name="one put of two files", puts=(_FIRST._replace(files=("file 1", "file 2")),))
ABANDONED = World(name="a put and the abandonment of its key", puts=(_FIRST,), abandons="k")
RETRIED = World(
    name="a put and its retry on another server",
    puts=(_FIRST, Put(name="put 2", key="k", files=("file 2",))),
)
CONTRADICTED = World(
    name="a put and other rows under its key",
    puts=(_FIRST, Put(name="put 2", key="k", fingerprint="g", files=("file 2",))),
)
EVOLVED = World(
    name="a put that changes the schema beside one that does not",
    puts=(_EVOLVING, Put(name="put 2", key="l", files=("file 2",))),
)
EVOLVED_TWICE = World(
    name="two puts that change the schema differently",
    puts=(_EVOLVING, Put(name="put 2", key="l", files=("file 2",), column="string")),
)
WORLDS = (ONE_PUT, ELSEWHERE, TWO_FILES, ABANDONED, RETRIED, CONTRADICTED, EVOLVED, EVOLVED_TWICE)

# Where it shows that a guard is missing. The others show it in ONE_PUT.
SHOWN_IN: Mapping[Guard, World] = {
    Guard.BEGUN_IS_LEFT: ELSEWHERE,
    Guard.ONE_TRANSACTION: TWO_FILES,
    Guard.ABANDONED_KEY_REFUSED: ABANDONED,
    Guard.ABANDONED_UNDER_LOCK: ABANDONED,
    Guard.KEY_LOOKED_UP_UNDER_LOCK: RETRIED,
    Guard.FINGERPRINT_COMPARED: CONTRADICTED,
    Guard.VERSION_TAKEN_UNDER_LOCK: EVOLVED,
    Guard.SCHEMA_REVALIDATED: EVOLVED_TWICE,
}
