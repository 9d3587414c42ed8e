"""When the client repeats a call, and when it must not."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import pyarrow as pa
import pytest

import timestore
from tests.fixtures.data import cpu_table
from tests.fixtures.gate import Gate
from tests.fixtures.raw_put import RawPut, command
from tests.fixtures.server import wait_until
from timestore.client.retrying import Retrying
from timestore.errors import ConflictError, InternalError, RetryableError, TimestoreError, error
from timestore_app.service import Service
from writers.admission import RETRY_AFTER_S

DAY = cpu_table(5_000)
NOBODY = "grpc://127.0.0.1:1"


def _begun_put(service: Service) -> RawPut:
    """A put that runs, and so holds its place."""
    raw = RawPut(service.url, command(dataset="other", idempotency_key="raw"), DAY.schema)
    assert raw.answer() is not None
    return raw


def _end(running: RawPut) -> None:
    running.mark_end(0)
    running.finish()


@pytest.mark.parametrize("data", [DAY, [DAY], DAY.to_reader()], ids=["table", "list", "reader"])
def test_overload_is_waited_for(start_service: Callable[..., Service], data: Any) -> None:
    """A put refused as ``overloaded`` is repeated when the server said, and commits once there is room.

    Even a reader can wait so: the refusal comes before anything of it was read.
    """
    service = start_service(max_running_puts=1)
    running = _begun_put(service)
    waiting = threading.Timer(0.5, _end, [running])
    waiting.start()
    started = time.monotonic()

    with timestore.connect(service.url) as client:
        receipt = client.append("cpu", data)

    waiting.join()
    assert (receipt.rows, receipt.replayed) == (5_000, False)
    assert time.monotonic() - started >= RETRY_AFTER_S


def test_without_retries_overload_is_raised(start_service: Callable[..., Service]) -> None:
    """``retries=False``, or a deadline of 0, hands the first refusal to the caller, with its delay and its key."""
    service = start_service(max_running_puts=1)
    running = _begun_put(service)

    for client in (timestore.connect(service.url, retries=False), timestore.connect(service.url)):
        with client, pytest.raises(RetryableError) as caught:
            client.append("cpu", DAY, idempotency_key="a", deadline_s=0)
        assert caught.value.kind == "overloaded"
        assert caught.value.retry_after_s == RETRY_AFTER_S
        assert caught.value.idempotency_key == "a"
    _end(running)


def test_server_that_comes_later(service: Service, gate: Gate) -> None:
    """Calls made before the server is there succeed once it is: an append of a reader, a read, an action."""
    with timestore.connect(gate.url) as client, ThreadPoolExecutor() as pool:
        append = pool.submit(client.append, "cpu", DAY.to_reader(), idempotency_key="a")
        assert gate.refused.wait(20)
        gate.open_to(service.port)
        assert append.result(60).rows == 5_000
        assert client.read("cpu").equals(DAY)


def test_nobody_there_until_the_deadline() -> None:
    """At the deadline the last error is raised, and names the idempotency key to go on with."""
    started = time.monotonic()
    with timestore.connect(NOBODY, deadline_s=1.5) as client, pytest.raises(RetryableError) as caught:
        client.append("cpu", DAY)

    assert caught.value.kind == "unreachable"
    assert caught.value.idempotency_key
    assert time.monotonic() - started < 10


def test_broken_connection_is_repeated(service: Service, gate: Gate) -> None:
    """A table whose connection breaks in the middle is sent again under the same key, and is there exactly once."""
    gate.open_to(service.port)
    rows = cpu_table(300_000)
    with timestore.connect(gate.url) as client:
        client.health()
        gate.cut_after(2 << 20)

        receipt = client.append("cpu", rows, idempotency_key="a")

        assert gate.cut.is_set()
        assert (receipt.rows, receipt.version) == (300_000, 1)
        assert client.describe("cpu")["rows"] == 300_000


def test_half_read_reader_is_not_repeated(service: Service, gate: Gate) -> None:
    """A reader whose rows are gone is not sent again: half of it would be another append. The error is retryable."""
    gate.open_to(service.port)
    with timestore.connect(gate.url) as client:
        client.health()
        gate.cut_after(2 << 20)

        with pytest.raises(RetryableError) as caught:
            client.append("cpu", cpu_table(300_000).to_reader(), idempotency_key="a")

        assert caught.value.kind in {"unreachable", "cancelled"}
        assert caught.value.idempotency_key == "a"
        assert client.append("cpu", cpu_table(300_000).to_reader(), idempotency_key="a").rows == 300_000


def test_commit_without_an_answer_is_replayed(service: Service, gate: Gate) -> None:
    """When the receipt is lost on the way, repeating returns that receipt and adds nothing."""
    gate.open_to(service.port)
    with timestore.connect(service.url) as direct, timestore.connect(gate.url) as client:
        first = direct.append("cpu", DAY, idempotency_key="a")

        again = client.append("cpu", DAY, idempotency_key="a")

    assert again.replayed
    assert again.version == first.version


class Calls:
    """Counts attempts; each fails."""

    def __init__(self, failure: Exception) -> None:
        self.failure = failure
        self.times: list[float] = []

    def __call__(self) -> None:
        """Fail once more."""
        self.times.append(time.monotonic())
        raise self.failure


@pytest.mark.parametrize(
    "failure",
    [
        error("schema_mismatch", "no"),
        error("idempotency_conflict", "no"),
        error("internal", "no"),
        LookupError("mine"),
    ],
    ids=lambda failure: getattr(failure, "kind", "not ours"),
)
def test_what_is_never_repeated(failure: Exception) -> None:
    """Wrong input, conflicts, defects and what is not ours are raised at once."""
    calls = Calls(failure)

    with pytest.raises(type(failure)):
        Retrying(deadline_s=30).call(calls)

    assert len(calls.times) == 1


def test_server_says_the_least_wait() -> None:
    """``retry_after_s`` is the least time between attempts, and nothing is started after the deadline."""
    calls = Calls(error("overloaded", "full", retry_after_s=0.4))
    started = time.monotonic()

    with pytest.raises(RetryableError):
        Retrying(deadline_s=1.5).call(calls)

    waits = [after - before for before, after in zip(calls.times, calls.times[1:], strict=False)]
    assert waits
    assert all(wait >= 0.4 for wait in waits)
    assert calls.times[-1] - started < 1.5


def test_many_appends_each_for_itself(client: timestore.Client) -> None:
    """``append_many`` gives results in order; one that fails, in whatever way, loses no other."""

    def broken() -> Iterator[pa.Table]:
        yield DAY
        raise LookupError("mine")

    def appends() -> Iterator[timestore.Append]:
        for number in range(12):
            data: Any = {3: DAY.slice(1), 5: broken(), 7: 7}.get(number, DAY)
            yield timestore.Append(
                dataset="cpu", data=data, key={"site": "1"}, idempotency_key="a" if number in {2, 3} else f"n{number}"
            )

    client.append("cpu", DAY, key={"site": "1"}, idempotency_key="a")

    results = client.append_many(appends(), connections=3)

    assert [result.idempotency_key for result in results][:5] == ["n0", "n1", "a", "a", "n4"]
    assert results[2].get().replayed
    assert isinstance(results[3].error, ConflictError)
    assert isinstance(results[5].error, LookupError)
    assert isinstance(results[7].error, TypeError)
    with pytest.raises(LookupError):
        results[5].get()
    assert all(result.get().rows == 5_000 for n, result in enumerate(results) if n not in {3, 5, 7})
    assert client.describe("cpu")["rows"] == 9 * 5_000


def test_many_appends_take_their_turn(client: timestore.Client) -> None:
    """Appends are taken from the iterable as they are due, so a year of them does not have to fit into memory."""
    taken: list[int] = []
    finished: list[int] = []

    def appends() -> Iterator[timestore.Append]:
        for number in range(20):
            taken.append(number)
            assert len(taken) - len(finished) <= 6
            yield timestore.Append(dataset="cpu", data=source(number))

    def source(number: int) -> Iterator[pa.Table]:
        yield cpu_table(10)
        finished.append(number)

    assert all(result.get() for result in client.append_many(appends(), connections=2))


def test_failing_iterable_of_appends(client: timestore.Client) -> None:
    """What the iterable of appends raises is raised, after what was running has ended."""

    def appends() -> Iterator[timestore.Append]:
        yield timestore.Append(dataset="cpu", data=DAY, idempotency_key="a")
        raise LookupError("mine")

    with pytest.raises(LookupError, match="mine"):
        client.append_many(appends())

    assert client.receipt("cpu", "a").rows == 5_000


def test_progress_tells_rows_and_bytes(client: timestore.Client) -> None:
    """``on_progress`` hears, on the caller's thread, what was sent and at last that all of it was acknowledged."""
    heard: list[timestore.Progress] = []
    threads = set()

    def listen(progress: timestore.Progress) -> None:
        heard.append(progress)
        threads.add(threading.get_ident())

    client.append("cpu", cpu_table(200_000), on_progress=listen)

    assert threads == {threading.get_ident()}
    sent = [progress.rows_sent for progress in heard]
    assert sent == sorted(sent)
    assert sent[0] == 65_536
    assert heard[-1].rows_sent == heard[-1].rows_acknowledged == 200_000
    assert heard[-1].bytes_sent == heard[-1].bytes_acknowledged == cpu_table(200_000).nbytes or sent[-1] == 200_000


def test_failing_callback_ends_the_append(client: timestore.Client) -> None:
    """What ``on_progress`` raises ends the append and is passed on; nothing is stored."""

    def stop(progress: timestore.Progress) -> None:
        raise LookupError("enough")

    with pytest.raises(LookupError, match="enough"):
        client.append("cpu", DAY, on_progress=stop)

    assert client.datasets() == []


def test_progress_while_the_source_is_slow(client: timestore.Client) -> None:
    """Answers are read while rows are sent: what the server has taken is known before the stream ends."""
    acknowledged = threading.Event()

    def source() -> Iterator[pa.RecordBatch]:
        for number in range(1_000):
            yield cpu_table(1, offset=number).to_batches()[0]
            if acknowledged.wait(0.05):
                return

    def listen(progress: timestore.Progress) -> None:
        if progress.rows_acknowledged:
            acknowledged.set()

    receipt = client.append("cpu", source(), on_progress=listen)

    assert receipt.rows < 1_000


def test_refusal_in_the_middle_is_the_server_s(client: timestore.Client) -> None:
    """A put that the server refuses while rows are still being sent says why, not that a connection broke."""
    unordered = pa.concat_tables([cpu_table(100), *[cpu_table(65_536)] * 20])

    with pytest.raises(TimestoreError) as caught:
        client.append("cpu", unordered)

    assert caught.value.kind == "timestamp_unordered"


def test_server_killed_while_rows_are_sent(server_process: Callable[..., Any]) -> None:
    """A server that is killed in the middle of a put is a retryable error, never one of another kind."""
    server = server_process()
    killed = threading.Event()

    def source() -> Iterator[pa.RecordBatch]:
        for number in range(200):
            if number == 20:
                server.kill()
                killed.set()
            yield from cpu_table(20_000, offset=number * 20_000, step_s=0.01).to_batches()

    with timestore.connect(server.url) as client, pytest.raises(RetryableError) as caught:
        client.append("cpu", source(), idempotency_key="a")

    assert killed.is_set()
    assert caught.value.kind in {"unreachable", "cancelled"}
    assert not isinstance(caught.value, InternalError)
    wait_until(lambda: server.process is not None and server.process.poll() is not None)
