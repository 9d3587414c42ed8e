"""A fixed number of readers, of which nobody keeps one for nothing."""

from __future__ import annotations

from collections.abc import Generator, Iterator

import pyarrow as pa
import pytest

from readers.file_reader import ReaderPool
from timestore.errors import RetryableError

BATCH = pa.record_batch({"x": [1]})


@pytest.fixture(name="pool")
def _pool(request: pytest.FixtureRequest) -> Iterator[ReaderPool]:
    pool = ReaderPool(readers=1, memory_limit_bytes=64 << 20, idle_timeout_s=request.param)
    yield pool
    pool.close()


def _batches(closed: list[bool]) -> Generator[pa.RecordBatch, None, None]:
    try:
        for _ in range(3):
            yield BATCH
    finally:
        closed.append(True)


def _streaming(pool: ReaderPool, closed: list[bool]) -> Iterator[pa.RecordBatch]:
    with pool.reader() as lent:
        yield from lent.stream(_batches(closed))


@pytest.mark.parametrize("pool", [0.0], indirect=True)
def test_stalled_stream_loses_its_reader_to_another(pool: ReaderPool) -> None:
    """A stream that takes nothing gives way when another needs its reader: what it held is freed, and it is told."""
    closed: list[bool] = []
    stalled = _streaming(pool, closed)
    next(stalled)

    with pool.reader():
        assert closed == [True]
        with pytest.raises(RetryableError) as caught:
            next(stalled)
    assert caught.value.kind == "deadline_exceeded"
    assert len(list(_streaming(pool, closed))) == 3  # there is one reader still, not two and not none


@pytest.mark.parametrize("pool", [0.0], indirect=True)
def test_slow_stream_goes_on_while_nobody_waits(pool: ReaderPool) -> None:
    """However long a stream rests, it keeps its reader until another needs one."""
    slow = _streaming(pool, [])
    next(slow)
    slow_reads = [next(slow), next(slow)]

    assert slow_reads == [BATCH, BATCH]
    assert next(slow, None) is None


@pytest.mark.parametrize("pool", [3600.0], indirect=True)
def test_stream_in_use_keeps_its_reader(pool: ReaderPool, monkeypatch: pytest.MonkeyPatch) -> None:
    """A stream that has just taken something is not disturbed; who waits is told to come back."""
    monkeypatch.setattr("readers.file_reader.ACQUIRE_TIMEOUT_S", 0.3)
    busy = _streaming(pool, [])
    next(busy)

    with pytest.raises(RetryableError) as caught, pool.reader():
        pass

    assert (caught.value.kind, caught.value.retry_after_s) == ("overloaded", 1.0)
    assert len(list(busy)) == 2
