"""The gate: how many puts run at once, and none while the server shuts down."""

import time
from concurrent.futures import ThreadPoolExecutor

import pytest

from timestore.errors import OverloadedError, RetryableError
from writers.admission import AdmissionGate


def _enters(gate: AdmissionGate) -> bool:
    try:
        gate.enter()
    except OverloadedError:
        return False
    return True


def test_a_full_gate_refuses_at_once_with_a_delay() -> None:
    """One put too many is ``overloaded``, with the numbers and when to come back."""
    gate = AdmissionGate(max_running=2)
    gate.enter()
    gate.enter()
    with pytest.raises(OverloadedError) as caught:
        gate.enter()
    assert caught.value.kind == "overloaded"
    assert caught.value.retry_after_s
    assert caught.value.details == {"running": "2", "limit": "2"}
    assert gate.running == 2


def test_a_place_is_free_again_when_a_put_leaves() -> None:
    """Whoever leaves makes room for one, and a refusal takes no place."""
    gate = AdmissionGate(max_running=1)
    gate.enter()
    assert not _enters(gate)
    gate.leave()
    assert _enters(gate)
    assert gate.running == 1


def test_a_closed_gate_lets_nobody_in() -> None:
    """From the first step of a shutdown new puts are ``shutting_down``: retryable, elsewhere or later."""
    gate = AdmissionGate(max_running=2)
    gate.enter()
    assert gate.is_open
    gate.close()
    assert not gate.is_open
    with pytest.raises(RetryableError) as caught:
        gate.enter()
    assert caught.value.kind == "shutting_down"
    assert caught.value.retry_after_s
    assert gate.running == 1


def test_waiting_ends_with_the_last_put() -> None:
    """A shutdown waits until every running put has left, and not at all if none runs."""
    gate = AdmissionGate(max_running=2)
    assert gate.wait_until_empty(deadline=time.monotonic())
    gate.enter()
    gate.enter()
    gate.close()
    with ThreadPoolExecutor(1) as pool:
        emptied = pool.submit(gate.wait_until_empty, deadline=time.monotonic() + 60)
        gate.leave()
        gate.leave()
        assert emptied.result()


def test_waiting_ends_at_the_deadline() -> None:
    """A put that does not end does not hold up a shutdown for ever, nor does a deadline that has passed."""
    gate = AdmissionGate(max_running=1)
    gate.enter()
    assert not gate.wait_until_empty(deadline=time.monotonic() + 0.01)
    assert not gate.wait_until_empty(deadline=time.monotonic() - 10)


def test_the_limit_holds_for_many_threads() -> None:
    """However many come at once, exactly as many are let in as there are places."""
    gate = AdmissionGate(max_running=5)
    with ThreadPoolExecutor(16) as pool:
        entered = list(pool.map(lambda _: _enters(gate), range(200)))
    assert entered.count(True) == gate.running == 5
