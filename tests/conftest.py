"""Fixtures live in tests/fixtures, one file each for what they give."""

import os

from hypothesis import settings

pytest_plugins = ["tests.fixtures.postgres", "tests.fixtures.proxy", "tests.fixtures.server"]

# Two cores may be busy with other things, so no example has a deadline. `make fuzz` looks deeper, again and again.
settings.register_profile("brief", deadline=None)
settings.register_profile("fuzz", deadline=None, max_examples=300, print_blob=True)
settings.load_profile("fuzz" if os.environ.get("TIMESTORE_FUZZ") else "brief")
