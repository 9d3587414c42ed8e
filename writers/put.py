"""One put: from its first batch to its receipt.

A ``NewPut`` validates, digests, routes, buffers and writes, then publishes everything in one commit. A ``RepeatedPut``
is a stream whose idempotency key has committed before: it is read whole and compared, and nothing of it is kept.
"""

from __future__ import annotations

import time
from abc import ABC, abstractmethod
from collections.abc import Callable

import pyarrow as pa

from catalog.records import KnownAppend
from timestore.descriptor import EndRule, PutDescriptor
from timestore.digest import PayloadDigest, fingerprint
from timestore.errors import TimestoreError, error
from timestore.receipt import Receipt
from writers.principal_limits import Pace
from writers.put_outcomes import Stage, StageTimes
from writers.validation import check_arrow
from writers.watchdog import Watch

Cancelled = Callable[[], bool]


class PutStream(ABC):
    """What the door drives: ``make_room`` and ``add`` for each batch, ``finish`` at the end, ``close`` in any case.

    Whatever may take as long as the client likes happens inside ``watch.waiting_for_client()``.
    """

    committed: Receipt | None = None  # the receipt that this idempotency key already has
    receipt: Receipt | None = None  # of this put, once it has ended well
    storage: str | None = None  # the target that a put writes to, if it writes
    watch: Watch
    pace: Pace

    def __init__(
        self, *, descriptor: PutDescriptor, idempotency_key: str, schema: pa.Schema, schema_version: int
    ) -> None:
        self.descriptor = descriptor
        self.idempotency_key = idempotency_key
        self.schema = schema
        self.schema_version = schema_version
        self.rows = 0
        self.bytes = 0  # of Arrow data received, uncompressed
        self.times = StageTimes()
        try:
            self._digest = PayloadDigest(schema)
        except TypeError as exc:
            raise error("type_unsupported", f"a column's type cannot be stored: {exc}") from exc
        except UnicodeDecodeError as exc:
            raise error("schema_mismatch", "a name or time zone in the schema is not valid UTF-8") from exc
        self._started = time.monotonic()

    @abstractmethod
    def make_room(self) -> None:
        """Wait until the next batch may be read."""

    @abstractmethod
    def add(self, batch: pa.RecordBatch) -> None:
        """Take the next batch."""

    def finish(self, *, marker_rows: int | None, is_cancelled: Cancelled) -> Receipt:
        """Judge the end of the stream and return the receipt.

        ``marker_rows`` is what the end marker said, None without one.
        """
        self.receipt = self._finish(marker_rows=marker_rows, is_cancelled=is_cancelled)
        return self.receipt

    @abstractmethod
    def _finish(self, *, marker_rows: int | None, is_cancelled: Cancelled) -> Receipt:
        """Do what ``finish`` promises."""

    @abstractmethod
    def close(self) -> None:
        """Give back everything the put holds; whatever it did not publish is removed. Called once, by any thread."""

    def _count(self, batch: pa.RecordBatch, *, sent_bytes: int) -> None:
        """Take rows into account, in any form: their digest is the same."""
        with self.times.spent_in(Stage.DIGEST):
            self._digest.update(batch)
        self.rows += batch.num_rows
        self.bytes += sent_bytes

    def _fingerprint(self) -> str:
        digest = self._digest.finish()
        return fingerprint(key=self.descriptor.key.as_dict(), schema=self.schema, payload_digest=digest)

    def _check_end(self, marker_rows: int | None, is_cancelled: Cancelled) -> None:
        """Refuse a stream that did not end as its descriptor says: a dead client looks like a clean end."""
        if is_cancelled():
            raise cancelled()
        promised = self.descriptor.idempotency_key is not None and self.descriptor.end is EndRule.MARKER
        if promised and marker_rows is None and self.descriptor.expected_rows is None:
            raise error(
                "end_missing",
                "the stream ended without an end marker, so it may be incomplete; send the metadata-only message "
                '{"end": true, "rows": n} last, or expected_rows, or "end": "eof" in the descriptor',
                details={"rows_received": self.rows},
            )
        for source, said in (("end marker", marker_rows), ("descriptor", self.descriptor.expected_rows)):
            if said is not None and said != self.rows:
                raise error(
                    "row_count_mismatch",
                    f"{self.rows} rows arrived, but the {source} says {said}",
                    details={"rows_received": self.rows, "rows_expected": said},
                )


class RepeatedPut(PutStream):
    """A stream whose idempotency key stands for an append already."""

    def __init__(
        self,
        *,
        descriptor: PutDescriptor,
        idempotency_key: str,
        schema: pa.Schema,
        schema_version: int,
        known: KnownAppend,
        max_batch_bytes: int,
    ) -> None:
        super().__init__(
            descriptor=descriptor, idempotency_key=idempotency_key, schema=schema, schema_version=schema_version
        )
        self._known = known
        self._max_batch_bytes = max_batch_bytes
        self.committed = known.receipt
        if known.abandoned or descriptor.fingerprint is not None:
            replay(known, descriptor.fingerprint or "", idempotency_key)  # refuse before any data is sent

    def make_room(self) -> None:
        """Nothing is kept, so there is always room."""

    def add(self, batch: pa.RecordBatch) -> None:
        with self.times.spent_in(Stage.VALIDATE):
            check_arrow(batch, rows_before=self.rows, max_batch_bytes=self._max_batch_bytes)
        self._count(batch, sent_bytes=batch.nbytes)

    def _finish(self, *, marker_rows: int | None, is_cancelled: Cancelled) -> Receipt:
        if self.descriptor.fingerprint is not None and not self.rows:
            return replay(self._known, self.descriptor.fingerprint, self.idempotency_key)  # the client skipped sending
        self._check_end(marker_rows, is_cancelled)
        return replay(self._known, self._fingerprint(), self.idempotency_key)

    def close(self) -> None:
        """Nothing is held."""


def replay(known: KnownAppend, fingerprint: str, idempotency_key: str) -> Receipt:
    """Return the first receipt, marked as replayed, if the same append was sent again.

    Raises ``idempotency_conflict`` or ``idempotency_abandoned``.
    """
    if known.abandoned or known.receipt is None:
        raise error(
            "idempotency_abandoned",
            f"the idempotency key {idempotency_key!r} was abandoned and can never commit; use a new one",
            details={"idempotency_key": idempotency_key},
        )
    if known.fingerprint != fingerprint:
        first = known.receipt
        raise error(
            "idempotency_conflict",
            f"the idempotency key {idempotency_key!r} stands for another append, committed at version {first.version} "
            f"with {first.rows} rows; nothing was stored. Use a new key for new data",
            details={"idempotency_key": idempotency_key, "version": first.version, "fingerprint": known.fingerprint},
        )
    return first_receipt(known).as_replay()


def first_receipt(known: KnownAppend) -> Receipt:
    assert known.receipt is not None  # a committed append has one
    return known.receipt


def cancelled() -> TimestoreError:
    return error("cancelled", "the client went away or cancelled before the commit; nothing was stored")
