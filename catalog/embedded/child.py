"""Start a program that takes an identity, and that dies when we die."""

from __future__ import annotations

import ctypes
import os
import signal
import subprocess
import sys
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from catalog.embedded.identity import Identity

_PR_SET_PDEATHSIG = 1
_EXIT_ORPHANED = 98

# Not our environment: it may hold credentials of object stores, and PG* or LC_* variables that would change Postgres.
PROGRAM_ENVIRONMENT: Mapping[str, str] = {"PATH": os.defpath, "LC_ALL": "C", "TZ": "UTC"}


@dataclass(frozen=True, slots=True, kw_only=True)
class Surroundings:
    """What every child of one start has in common.

    Children inherit the descriptor ``lock`` and keep the cluster's lock through it. Their output goes to ``log``.
    """

    identity: Identity
    log: int
    lock: int

    def spawn(self, command: Sequence[str | Path], *, death_signal: signal.Signals) -> subprocess.Popen[bytes]:
        """Start ``command`` as a direct child, to get ``death_signal`` when we die. Call it from the main thread.

        Its own session keeps a terminal's Ctrl-C away from it: the server must drain before its Postgres ends.
        """
        return subprocess.Popen(
            command,
            cwd="/",
            env=PROGRAM_ENVIRONMENT,
            stdin=subprocess.DEVNULL,
            stdout=self.log,
            stderr=self.log,
            pass_fds=(self.lock,),
            start_new_session=True,
            preexec_fn=child_setup(self.identity, death_signal=death_signal),  # noqa: PLW1509 - takes no lock of ours, see child_setup
        )


def child_setup(identity: Identity, *, death_signal: signal.Signals) -> Callable[[], None]:
    """Return what the child does between fork and exec: take the identity, then tie its life to ours.

    The child is a copy of one thread only, so a lock that another thread held stays locked in it. Hence these steps are
    system calls, and whatever they need (libraries, texts) is made here, before the fork.

    On Linux the kernel sends ``death_signal`` to the child when the *thread* that forked it ends. Other systems have no
    such call; there an orphaned Postgres runs on until it is stopped by hand.
    """
    die_with_parent = _dying_with_us(death_signal) if sys.platform == "linux" else None

    def setup() -> None:
        identity.become()
        if die_with_parent is not None:
            die_with_parent()  # last: taking another uid clears the death signal

    return setup


def _dying_with_us(death_signal: signal.Signals) -> Callable[[], None]:
    parent = os.getpid()
    prctl = ctypes.CDLL(None, use_errno=True).prctl  # looked up here: the child must not load libraries
    prctl.argtypes = (ctypes.c_int, *(ctypes.c_ulong,) * 4)

    def die_with_parent() -> None:
        # Python's own handler would only note the signal, and exec would then forget it.
        if death_signal != signal.SIGKILL:
            signal.signal(death_signal, signal.SIG_DFL)
        signal.pthread_sigmask(signal.SIG_SETMASK, ())
        if prctl(_PR_SET_PDEATHSIG, death_signal, 0, 0, 0) != 0:
            raise OSError(ctypes.get_errno(), "prctl")
        if os.getppid() != parent:  # it died before the call: no signal will come
            os._exit(_EXIT_ORPHANED)

    return die_with_parent
