"""A request to write lines, from its body to the receipts of its appends, on a thread of its own.

What is not line protocol stores nothing. After that each append is made or refused for itself: one that is refused for
good does not keep the others from being stored, one that may be repeated ends the request, which then is to be sent
again: what it has stored is found by its idempotency keys.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass

from access.principal import Principal
from http_gateway.body import BodyPipe
from http_gateway.encodings import decoded
from http_gateway.influx.appends import LineAppend, appends_of
from http_gateway.influx.measurement import Points
from http_gateway.influx.parser import PIECE_BYTES, LineParser
from http_gateway.influx.write_request import WriteRequest
from readers.visible import VisibleDatasets
from timestore.errors import TimestoreError, error
from timestore.names import parse_dataset_name
from writers.commit_log import log_commit
from writers.ingestion import Ingestion

MAX_BODY_BYTES = 16 << 20  # without its encoding
LARGE_AT_ONCE = 2
LARGE_TIMEOUT_S = 30.0
RETRY_AFTER_S = 1.0
BATCH_ROWS = 65_536
MAX_TOLD = 3  # of the appends that were refused


class Writing:
    """Writes lines. Thread safe."""

    def __init__(self, *, ingestion: Ingestion, datasets: VisibleDatasets) -> None:
        self._ingestion = ingestion
        self._datasets = datasets
        self._large = threading.BoundedSemaphore(LARGE_AT_ONCE)

    def write(self, request: WriteRequest, pipe: BodyPipe, principal: Principal) -> None:
        """Write a whole body; raises what is wrong with it, or with the appends that were not made."""
        with ExitStack() as places:
            points = self._parse(request, pipe, take_place=lambda: self._place_for_large(places))
            outcomes = list(self._append_all(points, request, pipe, principal))
        if any(outcome.failure is not None for outcome in outcomes):
            raise _not_stored(outcomes)

    def _parse(self, request: WriteRequest, pipe: BodyPipe, *, take_place: Callable[[], None]) -> list[Points]:
        source = decoded(pipe, request.encoding)
        parser = LineParser(ns_per_unit=request.ns_per_unit, becomes_large=take_place)
        size = 0
        while data := source.read(PIECE_BYTES):
            size += len(data)
            if size > MAX_BODY_BYTES:
                raise error(
                    "batch_too_large",
                    f"the request has more than {MAX_BODY_BYTES} bytes; send fewer lines at once",
                    details={"limit": MAX_BODY_BYTES},
                )
            parser.feed(data)
            pipe.went_on()
        return parser.finish()

    def _append_all(
        self, measurements: Sequence[Points], request: WriteRequest, pipe: BodyPipe, principal: Principal
    ) -> Iterator[_Outcome]:
        """Make one append after the other, and tell of each; raises what may be repeated."""
        now_ns = time.time_ns()
        for points in measurements:
            appends: list[LineAppend] = []
            with _refusal() as refused:
                dataset = self._datasets.find_for_append(parse_dataset_name(points.measurement), principal)
                appends += appends_of(points, dataset, request, now_ns=now_ns)
            if refused:
                yield _Outcome(measurement=points.measurement, failure=refused[0])
            for append in appends:
                with _refusal() as refused:
                    self._put(append, pipe, principal)
                yield _Outcome(measurement=points.measurement, failure=refused[0] if refused else None)

    def _put(self, append: LineAppend, pipe: BodyPipe, principal: Principal) -> None:
        with self._ingestion.put(append.descriptor, append.rows.schema, principal) as put:
            for batch in append.rows.to_batches(max_chunksize=BATCH_ROWS):
                put.pace.wait(lambda: pipe.is_gone)
                put.make_room()
                put.add(batch)
                put.pace.took(batch.nbytes)
            receipt = put.finish(marker_rows=None, is_cancelled=lambda: pipe.is_gone)
        log_commit(receipt, principal, door="influx")

    def _place_for_large(self, places: ExitStack) -> None:
        if not self._large.acquire(timeout=LARGE_TIMEOUT_S):
            raise error(
                "overloaded",
                f"{LARGE_AT_ONCE} large requests of lines are being read, and no more may; try again shortly",
                details={"limit": LARGE_AT_ONCE},
                retry_after_s=RETRY_AFTER_S,
            )
        places.callback(self._large.release)


@dataclass(frozen=True, slots=True, kw_only=True)
class _Outcome:
    """How an append ended; the failure is one that is for good."""

    measurement: str
    failure: TimestoreError | None


@contextmanager
def _refusal() -> Iterator[list[TimestoreError]]:
    """Keep a failure that is for good; one that may be repeated ends the request."""
    refused: list[TimestoreError] = []
    try:
        yield refused
    except TimestoreError as failure:
        if failure.spec.repeatable:
            raise
        refused.append(failure)


def _not_stored(outcomes: Sequence[_Outcome]) -> TimestoreError:
    """Tell which appends were refused; that of a single one tells it best itself."""
    failures = [(outcome.measurement, outcome.failure) for outcome in outcomes if outcome.failure is not None]
    measurement, first = failures[0]
    if len(outcomes) == 1:
        return first
    told = "; ".join(f"{name[:100]!a}: {failure.message[:200]}" for name, failure in failures[:MAX_TOLD])
    return error(
        first.kind,
        f"{len(outcomes) - len(failures)} appends were stored, {len(failures)} refused: {told}",
        details=first.details | {"measurement": measurement, "refused": len(failures)},
    )
