"""What the world of the model consists of: a catalog, a storage, what is under way, and the processes.

Named tuples instead of dataclasses: a search makes and hashes millions of them.
"""

from __future__ import annotations

from enum import StrEnum
from typing import NamedTuple


class Stage(StrEnum):
    """How far an intent is from being forgotten."""

    RECORDED = "recorded"
    CONDEMNED = "condemned"
    DELETED = "deleted"  # its bytes, once
    AGED = "aged"  # a day ago


class Step(StrEnum):
    """Where a put is: what it has done last."""

    NEW = "new"
    PLANNED = "planned"
    INTENDED = "intended"  # may write now
    WRITING = "writing"  # its files are on their way
    CALLING = "calling"  # waits for the commit's answer
    STALE = "stale"  # must plan again
    IN_DOUBT = "in doubt"  # the connection broke during the call
    REFUSED = "refused"  # has to clean up
    CONDEMNED = "condemned"  # its own files
    DELETED = "deleted"  # what it had condemned
    ENDED = "ended"
    CRASHED = "crashed"


class Answer(StrEnum):
    """What the client of a put, or of ``abandon``, hears."""

    NONE = ""
    RECEIPT = "receipt"
    REPLAYED = "replayed"
    REFUSED = "refused"
    UNKNOWN = "unknown"
    ABANDONED = "abandoned"


class Put(NamedTuple):
    """What a client sends to one server: an attempt of an append. It does not change."""

    name: str  # of the attempt; its append id
    key: str
    fingerprint: str = "f"
    files: tuple[str, ...] = ()
    column: str = ""  # the type of a column that it adds to the schema, if it does


class Attempt(NamedTuple):
    """How far a put is."""

    step: Step = Step.NEW
    schema: int = 0  # the schema version that it was planned with
    calls: int = 0
    begun: bool = False  # whether it has uploaded anything to a store elsewhere
    condemned: frozenset[str] = frozenset()  # files that it condemned itself
    answer: Answer = Answer.NONE


class Append(NamedTuple):
    """A row of the catalog's appends; an abandoned key has no put."""

    key: str
    put: str
    fingerprint: str
    version: int


class Slice(NamedTuple):
    """A visible file."""

    put: str
    file: str
    version: int


class Receipt(NamedTuple):
    """What a client was given: the append that it stands for, and what the client had sent."""

    key: str
    put: str
    version: int
    sent_fingerprint: str
    fingerprint: str


class Catalog(NamedTuple):
    """What Postgres holds."""

    version: int = 0
    schema: int = 0
    column: str = ""  # the type of the evolving column, once there is one
    appends: frozenset[Append] = frozenset()
    abandoned: frozenset[str] = frozenset()
    slices: frozenset[Slice] = frozenset()
    intents: frozenset[tuple[str, Stage]] = frozenset()


class Call(NamedTuple):
    """A call of the commit function that is under way. It may outlive the connection, and the server, that made it."""

    put: int
    number: int
    schema: int
    seen: Catalog | None = None  # what an unguarded call looked at before it had the lock
    rest: bool = False  # an unguarded commit that has published its first slice only


class Abandoning(NamedTuple):
    """A client that gives up a key."""

    key: str
    looked: bool = False  # an unguarded one: it has seen that the key is free
    answer: Answer = Answer.NONE


class Fsck(NamedTuple):
    """A comparison of storage and catalog."""

    listed: frozenset[str] | None = None
    known: frozenset[str] | None = None
    false_alarms: frozenset[str] = frozenset()  # called orphans though the catalog knows them


class State(NamedTuple):
    """Everything at one moment."""

    catalog: Catalog
    storage: frozenset[str]
    uploads: frozenset[str]  # under way: each may land or get lost, whatever becomes of its server
    echoes: frozenset[str]  # of uploads that ended: a request that was repeated, and may land once more
    calls: frozenset[Call]
    attempts: tuple[Attempt, ...]
    receipts: frozenset[Receipt]
    abandoning: Abandoning | None
    fsck: Fsck | None


class World(NamedTuple):
    """One small world: who takes part, besides the sweeper, and a network, servers and clients that fail."""

    name: str
    puts: tuple[Put, ...]
    is_distant: bool = False  # whether a store elsewhere gets the files, by requests that are repeated
    abandons: str = ""  # a key
    fsck: bool = False

    def start(self) -> State:
        """Return how it begins: with nothing."""
        return State(
            catalog=Catalog(),
            storage=frozenset(),
            uploads=frozenset(),
            echoes=frozenset(),
            calls=frozenset(),
            attempts=tuple(Attempt() for _ in self.puts),
            receipts=frozenset(),
            abandoning=Abandoning(key=self.abandons) if self.abandons else None,
            fsck=Fsck() if self.fsck else None,
        )
