"""Choose the identity that works here, and give it exactly the files it needs."""

from __future__ import annotations

import os
import subprocess
from pathlib import Path

import structlog

from catalog.embedded.binaries import Binaries, version_answer
from catalog.embedded.errors import RootRefusedError
from catalog.embedded.identity import Identity, candidates


def choose_identity(*, binaries: Binaries, directory: Path) -> Identity:
    """Return the first identity that can run Postgres on ``directory``; close that to everybody else.

    :raises RootRefusedError: we are root and none can.
    """
    directory.chmod(0o700)
    for candidate in candidates(directory=directory):
        if _works(candidate, binaries=binaries, directory=directory):
            return candidate
    directory.chmod(0o700)  # the last candidate was let through
    raise RootRefusedError(
        "Postgres refuses to run as root. User namespaces are forbidden here, and neither user `postgres` nor `nobody` "
        f"exists, can be switched to, and can reach both {binaries.postgres} and {directory}. "
        "Run the server as an ordinary user (in Docker: --user), or make the parents of both paths traversable (o+x), "
        "or use a Postgres of your own with `--catalog-dsn`."
    )


def hand_over(tree: Path, *, identity: Identity) -> None:
    """Make a closed directory tree the property of ``identity``; only root ever has something to change.

    The top comes last: a hand-over that was interrupted is then seen as not done, and repeated.
    """
    if os.geteuid() != 0 or tree.stat().st_uid == identity.uid:
        return
    for folder, folders, files in os.walk(tree, topdown=False):
        for name in (*folders, *files):
            os.chown(Path(folder, name), identity.uid, identity.gid, follow_symlinks=False)
    os.chown(tree, identity.uid, identity.gid)


def _works(candidate: Identity, *, binaries: Binaries, directory: Path) -> bool:
    try:
        if candidate.uid != os.geteuid():
            _let_through(candidate, directory=directory)
        version_answer(binaries.postgres, identity=candidate)
    except (OSError, subprocess.SubprocessError) as exc:
        structlog.get_logger().debug("postgres.identity_refused", identity=candidate.description, reason=str(exc))
        return False
    return True


def _let_through(stranger: Identity, *, directory: Path) -> None:
    """Let the stranger's group pass through the directory; it can neither list nor change it."""
    os.chown(directory, -1, stranger.gid)
    directory.chmod(0o710)
