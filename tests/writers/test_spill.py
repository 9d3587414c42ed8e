"""Spill files: a batch that left memory is the same batch, and a full disk harms nobody else."""

import resource
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import numpy as np
import pyarrow as pa
import pytest

from writers.spill import SpillFile
from writers.staging_room import StagingRoom

ROOM = StagingRoom(limit_bytes=1 << 40)


@contextmanager
def _files_limited_to(size: int) -> Iterator[None]:
    """Let no file grow beyond a size, as on a full disk."""
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (size, hard))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))


def _batch(first: int, rows: int) -> pa.RecordBatch:
    numbers = np.arange(first, first + rows)
    return pa.record_batch({"row": pa.array(numbers), "text": pa.array([f"\0{n}" if n % 3 else None for n in numbers])})


def test_spilled_batches_are_read_as_they_were(tmp_path: Path) -> None:
    """Batches of any size come back equal and valid, whole and sliced, long after others were written."""
    file = SpillFile(path=tmp_path / "put.arrow", room=ROOM)
    batches = [_batch(0, 1), _batch(1, 5_000), _batch(0, 10_000).slice(100, 7), _batch(9, 3)]
    spilled = [file.write(batch)[0] for batch in batches]
    for read, batch in zip(spilled, batches, strict=True):
        read.validate(full=True)
        assert read.equals(batch)
    file.close()


def test_a_closed_file_is_gone_and_its_batches_stay_readable(tmp_path: Path) -> None:
    """Closing removes the file, also while a writer still reads from it; without a spill there never was one."""
    file = SpillFile(path=tmp_path / "put.arrow", room=ROOM)
    file.close()
    file = SpillFile(path=tmp_path / "put.arrow", room=ROOM)
    read, _ = file.write(_batch(0, 1_000))
    file.close()
    assert list(tmp_path.iterdir()) == []
    assert read.equals(_batch(0, 1_000))


def test_what_follows_a_failed_spill_is_read_as_it_was(tmp_path: Path) -> None:
    """A spill that the disk did not take is an OSError, and shifts nothing that is written after it."""
    file = SpillFile(path=tmp_path / "put.arrow", room=ROOM)
    first, _ = file.write(_batch(0, 1_000))
    with _files_limited_to((tmp_path / "put.arrow").stat().st_size + 5_000), pytest.raises(OSError, match="large"):
        file.write(_batch(1_000, 100_000))
    later, _ = file.write(_batch(2_000, 500))
    assert first.equals(_batch(0, 1_000))
    assert later.equals(_batch(2_000, 500))
    file.close()


def test_a_file_that_fails_at_its_first_spill_is_removed(tmp_path: Path) -> None:
    """A full disk gets its space back when the put closes."""
    file = SpillFile(path=tmp_path / "put.arrow", room=ROOM)
    with _files_limited_to(5_000), pytest.raises(OSError, match="large"):
        file.write(_batch(0, 100_000))
    file.close()
    assert list(tmp_path.iterdir()) == []
