"""File descriptors are kept free for DuckDB, which ends the process when it cannot have one."""

from __future__ import annotations

import subprocess
import sys

import pytest

from readers.descriptors import check_descriptors

IN_A_PROCESS = """
import os, resource
from readers.descriptors import allow_many_descriptors, check_descriptors
from timestore.errors import TimestoreError

def kind(look):
    try:
        look()
    except TimestoreError as failure:
        return failure.kind
    return "fine"

"""


def _printed(script: str) -> list[str]:
    command = [sys.executable, "-c", IN_A_PROCESS + script]
    return subprocess.run(command, check=True, capture_output=True, text=True).stdout.split()


def test_here_are_enough() -> None:
    """With few files open there is nothing to refuse."""
    check_descriptors()


@pytest.mark.parametrize(("is_open", "kind"), [(100, "fine"), (200, "overloaded"), (255, "overloaded")])
def test_some_are_kept_free(is_open: int, kind: str) -> None:
    """The last 64 are for DuckDB alone, whichever of the others have been closed meanwhile."""
    assert _printed(f"""
resource.setrlimit(resource.RLIMIT_NOFILE, (256, 256))
files = []
while len(os.listdir("/dev/fd")) - 1 < {is_open} and len(files) < 260:
    try:
        files.append(os.open(os.devnull, os.O_RDONLY))
    except OSError:
        break
os.close(files[0])
print(kind(check_descriptors))
""") == [kind]


def test_the_limit_is_raised_as_far_as_it_goes() -> None:
    """At start the soft limit becomes the hard one; less than a server needs is refused."""
    assert _printed("""
resource.setrlimit(resource.RLIMIT_NOFILE, (64, 300))
print(kind(allow_many_descriptors), resource.getrlimit(resource.RLIMIT_NOFILE)[0])
resource.setrlimit(resource.RLIMIT_NOFILE, (100, 100))
print(kind(allow_many_descriptors))
""") == ["fine", "300", "unsupported"]
