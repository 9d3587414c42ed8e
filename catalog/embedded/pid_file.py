"""``postmaster.pid``: how Postgres says that it is ready, and what a dead one leaves behind.

Line 1 is the pid (negative: single-user mode), line 8 the state; the file is filled line by line while Postgres starts
(its miscadmin.h).
"""

from __future__ import annotations

import os
import sys
from dataclasses import dataclass
from pathlib import Path

from catalog.embedded.layout import Layout

_STATE_LINE = 7


@dataclass(frozen=True, slots=True, kw_only=True)
class PidFile:
    """What the file says; ``state`` is empty until Postgres has written it."""

    pid: int
    state: str


def read_pid_file(path: Path) -> PidFile | None:
    """Return the content, or None if there is no file or no pid in it."""
    try:
        lines = path.read_text(errors="replace").splitlines()
        return PidFile(pid=abs(int(lines[0])), state=lines[_STATE_LINE].strip() if len(lines) > _STATE_LINE else "")
    except (FileNotFoundError, IndexError, ValueError):
        return None


def living_postmaster(layout: Layout) -> int | None:
    """Return the pid of the Postgres that the file names, if it lives and works on this cluster."""
    content = read_pid_file(layout.pid_file)
    if content is None or not _lives(content.pid):
        return None
    if sys.platform == "linux" and not _works_on(layout.cluster, pid=content.pid):
        return None
    return content.pid


def _lives(pid: int) -> bool:
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    except PermissionError:
        return True
    return True


def _works_on(cluster: Path, *, pid: int) -> bool:
    """Tell by the working directory, which for every Postgres process is its cluster.

    A zombie has none. A pid that was given to another program, or to a thread of ours, has another one: in containers,
    where pids are small, that is common after a restart. Postgres itself would take both for a running server.
    """
    process = Path(f"/proc/{pid}")
    try:
        return (process / "cwd").samefile(cluster)
    except (FileNotFoundError, ProcessLookupError):
        return False
    except PermissionError:  # another uid, and we lack CAP_SYS_PTRACE: the program's name must do
        return _is_running_postgres(process)


def _is_running_postgres(process: Path) -> bool:
    try:
        status = (process / "stat").read_text()
    except (FileNotFoundError, ProcessLookupError):
        return False
    return "(postgres) " in status and "(postgres) Z" not in status
