"""The guards of the commit protocol: PROTOCOL 5 and 6, each with the place that keeps it."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from enum import StrEnum


class Guard(StrEnum):
    """One rule that the model can follow or break."""

    KEY_LOOKED_UP_UNDER_LOCK = "the idempotency key is looked up under the dataset's lock"
    OWN_APPEND_IS_SUCCESS = "a call that finds its own append id has committed, and is no replay"
    FINGERPRINT_COMPARED = "a key that has committed is replayed only for the same fingerprint"
    ABANDONED_KEY_REFUSED = "an abandoned key is refused"
    ABANDONED_UNDER_LOCK = "abandoning looks the key up and fences it under the dataset's lock"
    SCHEMA_REVALIDATED = "a commit is planned again when the schema is another than it was planned with"
    VERSION_TAKEN_UNDER_LOCK = "the new version is counted from what the lock shows"
    LOSERS_DO_NOT_BUMP = "a call that adds nothing makes no version"
    ONE_TRANSACTION = "append, slices and version are published by one transaction"
    INTENT_BEFORE_BYTES = "an intent is recorded before its first byte is written"
    BYTES_BEFORE_COMMIT = "the commit is called when all bytes are durable"
    INTENTS_TAKEN = "a commit takes the intents of its files away"
    MISSING_INTENT_REFUSED = "a commit whose intent is gone aborts"
    CONDEMNED_INTENT_REFUSED = "a commit whose intent is condemned aborts"
    CONDEMNED_BEFORE_DELETED = "an intent is condemned, and that is committed, before its bytes are deleted"
    DELETION_CHECKED = "bytes count as deleted when they are seen to be gone"
    FORGOTTEN_AFTER_A_DAY = "a swept intent is forgotten only after a day"
    DELETED_AGAIN = "bytes are deleted once more before a swept intent is forgotten"
    # Condemning first would be safe too, but after an unknown outcome the catalog is not there to be asked.
    NOTHING_DELETED_AFTER_UNKNOWN = "after an unknown outcome a server deletes nothing"
    RECEIPT_FROM_THE_CATALOG = "a receipt is what the catalog answered"
    FORGOTTEN_WHEN_UPLOAD_ENDED = (
        "a server that cleans up forgets only files whose uploads had ended when it deleted them"
    )
    BEGUN_IS_LEFT = "a server that cleans up leaves to the sweeper what it had begun to upload to a store elsewhere"
    STORAGE_LISTED_FIRST = "fsck lists the storage first and asks the catalog after"


EVERY_GUARD = frozenset(Guard)


@dataclass(frozen=True, slots=True, kw_only=True)
class Place:
    """Where a guard is kept: words of a file, and why they keep it."""

    file: str
    words: str
    why: str


_COMMIT = "catalog/migrations/0003_limits_and_totals.sql"  # the newest definition of `commit_appends`
_PUT = "writers/new_put.py"
_FILES = "writers/put_files.py"

# A guard that is not here is a rule of PROTOCOL for code that does not exist yet.
PLACES: Mapping[Guard, Place] = {
    Guard.KEY_LOOKED_UP_UNDER_LOCK: Place(
        file=_COMMIT,
        words="SELECT * INTO v_known FROM appends",
        why="after FOR UPDATE, in a statement with a snapshot of its own; appends_idempotency_key is the second line",
    ),
    Guard.OWN_APPEND_IS_SUCCESS: Place(
        file=_COMMIT,
        words="WHEN v_known.append_id = (v_append ->> 'append_id')::uuid THEN 'committed'",
        why="before fingerprints are compared",
    ),
    Guard.FINGERPRINT_COMPARED: Place(
        file=_COMMIT,
        words="WHEN v_known.fingerprint = v_append ->> 'fingerprint' THEN 'replayed'",
        why="anything else is a conflict; `replay` in writers/put.py compares again",
    ),
    Guard.ABANDONED_KEY_REFUSED: Place(
        file=_COMMIT, words="WHEN v_known.state = 'abandoned' THEN 'abandoned'", why="an abandoned key is a row too"
    ),
    Guard.ABANDONED_UNDER_LOCK: Place(
        file="catalog/migrations/0004_lifecycle.sql",
        words="v_head    dataset_heads%ROWTYPE := lock_head(p_known_migration, p_incarnation);",
        why="`abandon_key` begins with the lock that every commit takes",
    ),
    Guard.SCHEMA_REVALIDATED: Place(
        file=_PUT, words="except PlanStaleError:", why="the function raised TS003; the put plans again, or is refused"
    ),
    Guard.VERSION_TAKEN_UNDER_LOCK: Place(
        file=_COMMIT, words="v_version := v_head.version + 1", why="v_head was read by FOR UPDATE"
    ),
    Guard.LOSERS_DO_NOT_BUMP: Place(file=_COMMIT, words="v_version := v_head.version;", why="if no append was added"),
    Guard.ONE_TRANSACTION: Place(
        file="catalog/sql/queries.sql",
        words="SELECT commit_appends(",
        why="one statement in autocommit mode; any exception in the function undoes all",
    ),
    Guard.INTENT_BEFORE_BYTES: Place(
        file=_FILES, words="self._shared.ledger.record_intents(intents)", why="`_prepare` comes before `pool.submit`"
    ),
    Guard.BYTES_BEFORE_COMMIT: Place(
        file=_FILES, words="self.buffer.wait_until_written()", why="`finish` waits for every file to be promoted"
    ),
    Guard.INTENTS_TAKEN: Place(file=_COMMIT, words="DELETE FROM intents", why="in the transaction of the commit"),
    Guard.MISSING_INTENT_REFUSED: Place(file=_COMMIT, words="IF v_intents <> (SELECT count", why="raises TS001"),
    Guard.CONDEMNED_INTENT_REFUSED: Place(
        file=_COMMIT, words="DELETE FROM intents WHERE condemned_at IS NULL", why="then one is missing"
    ),
    Guard.CONDEMNED_BEFORE_DELETED: Place(
        file="catalog/migrations/0005_sweeping.sql",
        words="DELETE FROM intents i USING server_leases l",
        why="`sweep_intents` is a transaction of its own; `_remove_unpublished` of a put keeps the same order",
    ),
    Guard.DELETION_CHECKED: Place(
        file="writers/housekeeping.py", words="store.stat(file.path) is None", why="else it stays condemned"
    ),
    Guard.FORGOTTEN_AFTER_A_DAY: Place(
        file="catalog/migrations/0005_sweeping.sql", words="clock_timestamp() + p_keep FROM orphans", why="forget_after"
    ),
    Guard.DELETED_AGAIN: Place(
        file="catalog/sql/queries.sql",
        words="(deleted_at IS NULL OR forget_after <= clock_timestamp())",
        why="a file is listed for deletion once more before it is forgotten",
    ),
    Guard.NOTHING_DELETED_AFTER_UNKNOWN: Place(
        file=_PUT, words="self._files.let_go()  # the commit may have happened", why="`remove` then removes nothing"
    ),
    Guard.RECEIPT_FROM_THE_CATALOG: Place(
        file="catalog/ledger.py", words="raise (OutcomeUnknownError() if lost else unavailable())", why="no guess"
    ),
    Guard.FORGOTTEN_WHEN_UPLOAD_ENDED: Place(
        file="storage/local.py",
        words="def put(self, source: Path, path: str)",
        why="when it has returned or raised, nothing lands later; for any other store see the next guard",
    ),
    Guard.BEGUN_IS_LEFT: Place(
        file=_FILES,
        words="if holder_id not in may_land",
        why="their intents stay, condemned; `sweep_intents` takes them",
    ),
}
