"""The command line, one file for each group of commands.

Nothing is imported here: without the extra `server` there is no click, and `timestore` must be able to say so.
"""

from __future__ import annotations

import sys
from importlib import import_module
from typing import Any

EXIT_FAILED = 1
INTERRUPTED = "interrupted; running the same command again is safe, and adds nothing twice"

_OURS = ("catalog", "flight_server", "readers", "storage", "timestore", "timestore_app", "writers")


def main() -> None:
    """Run ``timestore``."""
    try:
        load("timestore_app.cli.group:cli")(prog_name="timestore")
    except KeyboardInterrupt:  # while the command itself was still being loaded
        sys.stderr.write(f"timestore: {INTERRUPTED}\n")
        sys.exit(EXIT_FAILED)


def load(path: str) -> Any:
    """Import ``module:attribute`` when it is needed: each command brings only what it uses.

    What the extra brings and is not there ends the program with one line that says what to install.
    """
    module, _, attribute = path.partition(":")
    try:
        return getattr(import_module(module), attribute)
    except ModuleNotFoundError as exc:
        if exc.name is None or exc.name.partition(".")[0] in _OURS:
            raise
        sys.stderr.write(
            f"timestore: the command line needs {exc.name!r}, which is not installed: pip install 'timestore[server]'\n"
        )
        sys.exit(EXIT_FAILED)
