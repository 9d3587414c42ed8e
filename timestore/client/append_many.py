"""Many appends over several connections: each with its own outcome, in the order in which they were given."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterable, Iterator, Mapping
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass, field, replace
from typing import Any, Protocol

from timestore.errors import TimestoreError
from timestore.identifiers import uuid7
from timestore.receipt import Receipt


@dataclass(frozen=True, slots=True, kw_only=True)
class Append:
    """One append of ``append_many``: what ``Client.append`` takes."""

    dataset: str
    data: Any = field(repr=False)
    key: Mapping[str, str] | None = None
    idempotency_key: str | None = None
    create: Mapping[str, Any] | None = None
    landing: str = "auto"


@dataclass(frozen=True, slots=True, kw_only=True)
class AppendResult:
    """What became of one append: a receipt, or the error that it ended with."""

    dataset: str
    key: Mapping[str, str]
    idempotency_key: str  # repeat a failed append with this one
    receipt: Receipt | None
    error: Exception | None  # a ``TimestoreError``, or what the data's own source raised

    def get(self) -> Receipt:
        """Return the receipt, or raise the error."""
        if self.error is not None:
            raise self.error
        assert self.receipt is not None  # one of them there is
        return self.receipt


class Appender(Protocol):
    """What appends, on a connection of its own."""

    def append(
        self,
        dataset: str,
        data: Any,
        *,
        key: Mapping[str, str] | None,
        idempotency_key: str | None,
        create: Mapping[str, Any] | None,
        landing: str,
    ) -> Receipt:
        """Append, and return the receipt."""

    def close(self) -> None:
        """Close the connection."""


def append_many(
    appends: Iterable[Append], *, open_connection: Callable[[], Appender], connections: int
) -> list[AppendResult]:
    """Run appends on so many connections. An error of one is its result and stops no other.

    Appends are taken from the iterable only when they are due, so that not all their rows need memory at once. What the
    iterable itself raises is raised here, once the appends that are running have ended.
    """
    appenders = [open_connection() for _ in range(connections)]
    idle = deque(appenders)  # as many as there are threads: one is always there
    try:
        with ThreadPoolExecutor(max_workers=connections, thread_name_prefix="timestore-append") as pool:
            return list(_in_order(appends, pool, lambda job: _run(job, idle), ahead=connections))
    finally:
        for appender in appenders:
            appender.close()


def _in_order(
    appends: Iterable[Append], pool: ThreadPoolExecutor, run: Callable[[Append], AppendResult], *, ahead: int
) -> Iterator[AppendResult]:
    running: deque[Future[AppendResult]] = deque()
    for job in appends:
        if len(running) > ahead:
            yield running.popleft().result()
        running.append(pool.submit(run, _with_idempotency_key(job)))
    while running:
        yield running.popleft().result()


def _with_idempotency_key(job: Append) -> Append:
    return job if job.idempotency_key is not None else replace(job, idempotency_key=str(uuid7()))


def _run(job: Append, idle: deque[Appender]) -> AppendResult:
    receipt: Receipt | None = None
    failure: Exception | None = None
    appender = idle.popleft()
    try:
        receipt = appender.append(
            job.dataset,
            job.data,
            key=job.key,
            idempotency_key=job.idempotency_key,
            create=job.create,
            landing=job.landing,
        )
    except TimestoreError as exc:
        failure = exc
    except Exception as exc:  # noqa: BLE001  # of the data's source: the result of this append alone
        failure = exc
    finally:
        idle.append(appender)
    return AppendResult(
        dataset=job.dataset,
        key=dict(job.key or {}),
        idempotency_key=job.idempotency_key or "",
        receipt=receipt,
        error=failure,
    )
