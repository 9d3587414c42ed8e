"""A pytest plugin: stop after the test that is running when the time of ``make fuzz`` is over."""

from __future__ import annotations

import os
import time

import pytest

VARIABLE = "FUZZ_UNTIL"  # Unix time


def pytest_runtest_teardown(item: pytest.Item) -> None:
    """Let this test be the last one, if it is time."""
    if time.time() >= float(os.environ[VARIABLE]):
        item.session.shouldstop = "the time is over"
