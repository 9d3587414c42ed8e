"""Fuzz for some minutes, half of them the parsers with Atheris, half of them everything that has a property test.

``python -m tests.fuzz --minutes 5 --atheris DIRECTORY`` exits with 1 at the first finding.
"""

from __future__ import annotations

import argparse
import os
import re
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import pytest

from tests.fuzz import deadline
from tests.fuzz.seeds import SEEDS, TOKENS

FINDINGS = Path(".fuzz")
SLOWEST_INPUT_S = 10
MAX_INPUT_BYTES = 8_192
SLOWEST_TEST_S = 600


def main() -> int:
    """Run both halves; return the exit code."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--minutes", type=float, default=5)
    parser.add_argument("--atheris", type=Path, required=True, help="the directory that Atheris is installed in")
    arguments = parser.parse_args()
    half_s = arguments.minutes * 60 / 2
    environment = os.environ | {"PYTHONPATH": str(arguments.atheris)}
    for target in SEEDS:
        if not fuzz_parser(target, seconds=max(1, int(half_s / len(SEEDS))), environment=environment):
            return 1
    return 0 if fuzz_properties(until=time.time() + half_s) else 1


def fuzz_parser(target: str, *, seconds: int, environment: dict[str, str]) -> bool:
    """Throw bytes at one parser; a finding is printed, and kept as a file. Return whether there was none."""
    FINDINGS.mkdir(exist_ok=True)
    with tempfile.TemporaryDirectory() as directory:
        corpus, words = Path(directory, "corpus"), Path(directory, "words")
        _plant(target, corpus)
        words.write_bytes(b"\n".join(_words(target)))
        options = {
            "-artifact_prefix": f"{FINDINGS}/{target}-",
            "-dict": words,
            "-max_len": MAX_INPUT_BYTES,
            "-max_total_time": seconds,
            "-timeout": SLOWEST_INPUT_S,
            "-verbosity": 0,
        }
        command = [sys.executable, "-m", "tests.fuzz.fuzz_parsers", target, str(corpus)]
        command += [f"{name}={value}" for name, value in options.items()]
        sys.stderr.write(f"{target}: {seconds} s\n")
        return subprocess.run(command, env=environment, check=False).returncode == 0


def _plant(target: str, corpus: Path) -> None:
    """Write the inputs to begin with."""
    corpus.mkdir()
    inputs = [*SEEDS[target], *(token.encode("utf-8", "surrogatepass") for token in TOKENS)]
    for number, data in enumerate(inputs):
        (corpus / str(number)).write_bytes(data)


def _words(target: str) -> set[bytes]:
    """Quote the words of the inputs as a dictionary of libFuzzer's: it would hardly guess the name of a field."""
    return {b'"%b"' % word for data in SEEDS[target] for word in re.findall(rb"[A-Za-z][\w./-]+", data)}


def fuzz_properties(*, until: float) -> bool:
    """Run the property tests, with many examples each, again and again; return whether none failed."""
    command = [sys.executable, "-m", "pytest", "-m", "hypothesis", "-x", "-q", "--timeout=0", "-p", deadline.__name__]
    environment = os.environ | {"TIMESTORE_FUZZ": "1", deadline.VARIABLE: str(until)}
    while (left_s := until - time.time()) > 0:
        try:
            tests = subprocess.run(command, env=environment, check=False, timeout=left_s + SLOWEST_TEST_S)
        except subprocess.TimeoutExpired:
            sys.stderr.write("a test hangs\n")
            return False
        if tests.returncode not in (pytest.ExitCode.OK, pytest.ExitCode.INTERRUPTED):
            return False
    return True


if __name__ == "__main__":
    sys.exit(main())
