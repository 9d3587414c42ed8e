"""Fixtures live in tests/fixtures, one file each for what they give."""

pytest_plugins = ["tests.fixtures.postgres", "tests.fixtures.proxy", "tests.fixtures.server"]
