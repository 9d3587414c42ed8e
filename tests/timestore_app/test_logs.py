"""What a log line never has."""

import subprocess
import sys

import pytest

FAILS = """
import sys
import structlog
from timestore_app.logs import configure_logs

configure_logs(log_format=sys.argv[1], level="info")

def fail(row):
    try:
        raise RuntimeError("something unforeseen")
    except RuntimeError:
        structlog.get_logger().exception("rpc.failed")

fail("".join(["a-row", "-value"]))
"""


@pytest.mark.parametrize("log_format", ["console", "json"])
def test_a_traceback_shows_no_variables(log_format: str) -> None:
    """What is unforeseen is logged with its traceback, for people and machines, and without the values of variables."""
    done = subprocess.run([sys.executable, "-c", FAILS, log_format], check=True, capture_output=True, text=True)

    assert "something unforeseen" in done.stderr
    assert "a-row-value" not in done.stderr
