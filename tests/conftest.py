"""Fixtures live in tests/fixtures, one file each for what they give."""

import os
from collections.abc import Iterator

import pytest
from hypothesis import settings

pytest_plugins = [
    "tests.fixtures.capabilities",
    "tests.fixtures.gate",
    "tests.fixtures.http_requests",
    "tests.fixtures.postgres",
    "tests.fixtures.proxy",
    "tests.fixtures.restoring",
    "tests.fixtures.secured",
    "tests.fixtures.server",
    "tests.fixtures.skips",
    "tests.fixtures.sql_reading",
    "tests.fixtures.stores",
    "tests.fixtures.victim",
    "tests.fixtures.command_line",  # these two after those that they import
    "tests.fixtures.object_stores",
    "tests.fixtures.remote_store",
]

# Two cores may be busy with other things, so no example has a deadline. `make fuzz` looks deeper, again and again.
settings.register_profile("brief", deadline=None, stateful_step_count=30)
settings.register_profile("fuzz", deadline=None, max_examples=300, print_blob=True)
settings.load_profile("fuzz" if os.environ.get("TIMESTORE_FUZZ") else "brief")


@pytest.fixture(autouse=True, scope="session")
def _no_settings_of_the_tests() -> Iterator[None]:
    """Hide the switch above from servers, which refuse a ``TIMESTORE_`` variable that is no setting of theirs."""
    switch = os.environ.pop("TIMESTORE_FUZZ", None)
    yield
    if switch is not None:
        os.environ["TIMESTORE_FUZZ"] = switch
