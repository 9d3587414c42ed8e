"""The guards of the commit protocol: PROTOCOL 5 and 6, each with the failure that it prevents and where it is kept."""

from __future__ import annotations

from enum import StrEnum


class Guard(StrEnum):
    """One rule that the model can follow or break. The comment says where the rule is kept.

    ``0002`` is ``catalog/migrations/0002_commit.sql``; ``new_put`` is ``writers/new_put.py``.
    """

    # 0002: `SELECT * INTO v_known FROM appends` comes after `FOR UPDATE`, in a statement (and snapshot) of its own; the
    # constraint appends_idempotency_key is the second line.
    KEY_LOOKED_UP_UNDER_LOCK = "the idempotency key is looked up under the dataset's lock"
    # 0002: `WHEN v_known.append_id = ... THEN 'committed'`, before fingerprints are compared.
    OWN_APPEND_IS_SUCCESS = "a call that finds its own append id has committed, and is no replay"
    # 0002: `v_known.fingerprint = v_append ->> 'fingerprint'`; writers/put.py: `replay`.
    FINGERPRINT_COMPARED = "a key that has committed is replayed only for the same fingerprint"
    # 0002: `WHEN v_known.state = 'abandoned'`.
    ABANDONED_KEY_REFUSED = "an abandoned key is refused"
    # PROTOCOL 1, the action `abandon`: it takes the same row lock as a commit before it looks.
    ABANDONED_UNDER_LOCK = "abandoning looks the key up and fences it under the dataset's lock"
    # 0002: TS003; new_put: `_publish` plans again, or is refused.
    SCHEMA_REVALIDATED = "a commit is planned again when the schema is another than it was planned with"
    # 0002: `v_version := v_head.version + 1` after `FOR UPDATE`.
    VERSION_TAKEN_UNDER_LOCK = "the new version is counted from what the lock shows"
    # 0002: `IF v_appends > 0 ... ELSE v_version := v_head.version`.
    LOSERS_DO_NOT_BUMP = "a call that adds nothing makes no version"
    # 0002 is one function, called as one statement in autocommit mode.
    ONE_TRANSACTION = "append, slices and version are published by one transaction"
    # new_put: `_prepare` records before `WriterPool.submit`.
    INTENT_BEFORE_BYTES = "an intent is recorded before its first byte is written"
    # new_put: `finish` waits for the writers; storage/store.py: `put` returns when the object is durable.
    BYTES_BEFORE_COMMIT = "the commit is called when all bytes are durable"
    # 0002: `DELETE FROM intents`.
    INTENTS_TAKEN = "a commit takes the intents of its files away"
    # 0002: `IF v_intents <> ...` raises TS001.
    MISSING_INTENT_REFUSED = "a commit whose intent is gone aborts"
    # 0002: `condemned_at IS NULL` in that DELETE.
    CONDEMNED_INTENT_REFUSED = "a commit whose intent is condemned aborts"
    # catalog/sql/queries.sql: condemn_intents is a transaction of its own; new_put: `_remove_unpublished`; the sweeper.
    CONDEMNED_BEFORE_DELETED = "an intent is condemned, and that is committed, before its bytes are deleted"
    # The sweeper: it looks whether the bytes are gone before it goes on.
    DELETION_CHECKED = "bytes count as deleted when they are seen to be gone"
    # The sweeper: a condemned intent is kept for a day.
    FORGOTTEN_AFTER_A_DAY = "a swept intent is forgotten only after a day"
    # The sweeper: before it forgets.
    DELETED_AGAIN = "bytes are deleted once more before a swept intent is forgotten"
    # new_put: `_publish` clears `_unpublished` on OutcomeUnknownError. (Condemning would be safe too, but an unknown
    # outcome means that the catalog cannot be asked.)
    NOTHING_DELETED_AFTER_UNKNOWN = "after an unknown outcome a server deletes nothing"
    # catalog/ledger.py: `commit` raises OutcomeUnknownError instead of guessing.
    RECEIPT_FROM_THE_CATALOG = "a receipt is what the catalog answered"
    # storage/local.py: when `put` has returned or raised, nothing lands later; new_put: `_remove_unpublished` relies on
    # that. A store whose upload may outlive its call must leave the intent to the sweeper.
    FORGOTTEN_WHEN_UPLOAD_ENDED = (
        "a server that cleans up forgets only files whose uploads had ended when it deleted them"
    )
    # PROTOCOL 6: fsck.
    STORAGE_LISTED_FIRST = "fsck lists the storage first and asks the catalog after"


EVERY_GUARD = frozenset(Guard)
