"""The watchdog: whoever waits for a silent client too long is given up, and nobody else."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable

import pytest

from tests.fixtures.server import wait_until
from timestore.errors import RetryableError
from writers.watchdog import Watch, Watchdog


def _overdue(watch: Watch) -> bool:
    return watch.expire(time.monotonic() + 61)


def _wait(watch: Watch, meanwhile: Callable[[], object]) -> None:
    with watch.waiting_for_client():
        meanwhile()


def test_a_put_that_waits_too_long_is_given_up_once() -> None:
    """Its holdings are given back by another thread, once, and its own thread hears why when it goes on."""
    given_up = threading.Event()
    with Watchdog(idle_timeout_s=60).watch(given_up.set) as watch:

        def meanwhile() -> None:
            assert not watch.expire(time.monotonic())  # too early
            assert _overdue(watch)
            assert not _overdue(watch)
            assert given_up.wait(10)

        with pytest.raises(RetryableError) as caught:
            _wait(watch, meanwhile)

    assert caught.value.kind == "deadline_exceeded"


def test_a_put_at_work_is_never_given_up() -> None:
    """However long validating, routing or waiting for room takes: only a client's silence counts."""
    with Watchdog(idle_timeout_s=60).watch(lambda: pytest.fail("given up")) as watch:
        assert not _overdue(watch)
        with watch.waiting_for_client():
            pass
        assert not _overdue(watch)


def test_rows_start_the_time_anew() -> None:
    """A slow client that sends rows within each period is not silent."""
    with Watchdog(idle_timeout_s=60).watch(lambda: pytest.fail("given up")) as watch:
        for _ in range(3):
            with watch.waiting_for_client():
                assert not watch.expire(time.monotonic() + 59)
            watch.took_rows()


def test_messages_without_rows_do_not() -> None:
    """The waits for messages that bring no rows add up to one."""
    pause = threading.Event()
    with Watchdog(idle_timeout_s=60).watch(lambda: None) as watch:
        for _ in range(4):
            with watch.waiting_for_client():
                pause.wait(0.02)  # the time under test

        def meanwhile() -> None:
            assert watch.expire(time.monotonic() + 59.93)

        with pytest.raises(RetryableError):
            _wait(watch, meanwhile)


def test_the_silence_outlasts_what_ended_it() -> None:
    """When the connection breaks after the put was given up, the put ends as given up, not as broken."""
    with Watchdog(idle_timeout_s=60).watch(lambda: None) as watch:

        def meanwhile() -> None:
            assert _overdue(watch)
            raise StopIteration

        with pytest.raises(RetryableError) as caught:
            _wait(watch, meanwhile)

    assert caught.value.kind == "deadline_exceeded"


def test_counts() -> None:
    """A put that was given up is counted for ever as expired, and as stalled until its thread ends."""
    with Watchdog(idle_timeout_s=0.05) as watchdog:
        with watchdog.watch(lambda: None) as watch:

            def meanwhile() -> None:
                wait_until(lambda: watchdog.expired_puts == 1)
                assert watchdog.stalled_puts == 1

            with pytest.raises(RetryableError):
                _wait(watch, meanwhile)
        assert (watchdog.expired_puts, watchdog.stalled_puts) == (1, 0)
