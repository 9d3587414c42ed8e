"""A fixed number of running queries, of which none keeps its place, or its files, for nothing."""

from __future__ import annotations

from collections.abc import Generator, Iterator
from contextlib import contextmanager

import pytest

from readers.query_places import Place, QueryPlaces
from timestore.errors import RetryableError, TimestoreError, error

LATE = error("query_too_expensive", "late")


class Query:
    """A query in the only place there is, that gives three rows; what became of it."""

    def __init__(self, places: QueryPlaces) -> None:
        self.events: list[str] = []
        self.places = places
        self.place: Place | None = None

    @contextmanager
    def _file(self) -> Iterator[str]:
        yield "file"
        self.events.append("file released")

    def _end(self, reason: TimestoreError) -> None:
        self.events.append(f"ended: {reason.kind}")

    def rows(self) -> Generator[int, None, None]:
        """Run it."""
        with self.places.take() as place:
            self.place = place
            place.runs(self._end)
            assert place.hold(self._file()) == "file"
            yield from place.watched(iter(range(3)))


def test_a_stalled_query_gives_way_to_another() -> None:
    """A query whose client takes nothing is ended when another needs its place; then what it held is freed, once."""
    query = Query(QueryPlaces(places=1, idle_timeout_s=0.0))
    stalled = query.rows()
    next(stalled)

    with query.places.take():
        assert query.events == ["ended: deadline_exceeded", "file released"]
        stalled.close()
        assert len(query.events) == 2
    assert len(list(Query(query.places).rows())) == 3


def test_a_query_in_use_keeps_its_place(monkeypatch: pytest.MonkeyPatch) -> None:
    """A query whose client has just taken rows is not disturbed; who waits is told to come back."""
    monkeypatch.setattr("readers.query_places.ACQUIRE_TIMEOUT_S", 0.3)
    query = Query(QueryPlaces(places=1, idle_timeout_s=3600.0))
    busy = query.rows()
    next(busy)

    with pytest.raises(RetryableError) as caught, query.places.take():
        pass

    assert (caught.value.kind, caught.value.retry_after_s) == ("overloaded", 1.0)
    assert list(busy) == [1, 2]
    assert query.events == ["file released"]


def test_what_is_taken_too_late_is_given_back() -> None:
    """Files that are there only after their query gave way are released at once."""
    query = Query(QueryPlaces(places=1))
    resting = query.rows()
    next(resting)
    assert query.place is not None
    query.place.give_way(LATE)
    query.events.clear()

    query.place.hold(query._file())
    assert query.events == ["file released"]
    with query.places.take():
        pass
