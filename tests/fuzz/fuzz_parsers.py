"""Fuzz one parser with Atheris: ``python -m tests.fuzz.fuzz_parsers TARGET CORPUS... [libFuzzer options]``.

Atheris watches which lines an input reaches, and goes on from those that reach new ones.
"""

from __future__ import annotations

import sys

import atheris

with atheris.instrument_imports(include=["timestore", "catalog.manifests", "flight_server.put_stream", "json"]):
    from tests.fuzz.targets import run


def main() -> None:
    """Fuzz until libFuzzer's options say that it is enough; it ends the process itself."""
    target = sys.argv.pop(1)
    atheris.Setup(sys.argv, lambda data: run(target, data))
    atheris.Fuzz()


if __name__ == "__main__":
    main()
