"""One Postgres per cluster, across kill -9, zombies, reused pids and containers.

Postgres guards its cluster by the pid in ``postmaster.pid``, which misleads when that pid is a zombie, was given to
another program, or belongs to another pid namespace. We add an flock. Every process of Postgres inherits the descriptor
that holds it, so it is free exactly when the last one is gone, however it ended.
"""

from __future__ import annotations

import fcntl
import os
from collections.abc import Iterator
from contextlib import contextmanager

from catalog.embedded.deadline import Deadline
from catalog.embedded.errors import ClusterBusyError
from catalog.embedded.layout import Layout
from catalog.embedded.pid_file import living_postmaster, read_pid_file


@contextmanager
def locked_cluster(layout: Layout, *, deadline: Deadline) -> Iterator[int]:
    """Wait until no process works on the cluster; give the descriptor that children must inherit to keep the lock.

    Leaving the block only closes our copy: the lock goes on as long as a child has one. Never unlock it explicitly,
    that would unlock it for the children too.

    :raises ClusterBusyError: an earlier Postgres is still there at the deadline.
    """
    descriptor = os.open(layout.lock, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC | os.O_NOFOLLOW, 0o600)
    try:
        while not (_try_lock(descriptor) and living_postmaster(layout) is None):
            _wait(layout, deadline=deadline)
        layout.pid_file.unlink(missing_ok=True)  # it names nobody alive, but Postgres could think so
        yield descriptor
    finally:
        os.close(descriptor)


def _try_lock(descriptor: int) -> bool:
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    return True


def _wait(layout: Layout, *, deadline: Deadline) -> None:
    if deadline.passed():
        named = read_pid_file(layout.pid_file)
        raise ClusterBusyError(
            f"An earlier Postgres still works on {layout.cluster} "
            f"(pid {named.pid if named else 'unknown'}). Wait until it has ended, or stop it, then start again."
        )
    deadline.pause()
