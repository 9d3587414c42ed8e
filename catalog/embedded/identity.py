"""Who Postgres runs as. It refuses to be root, and in a container we often are root.

An ordinary user runs it as itself. Root has two ways, tried in this order:

1. A user namespace, in which our uid has the number of an ordinary user. Nothing else changes: the files stay root's, a
   0700 home stays closed. The kernel allows it to root nearly everywhere; Docker's default seccomp profile does not.
2. Another uid, of the user ``postgres`` or ``nobody``. The cluster then belongs to that uid, our directory gets its
   group and mode 0710, and these must be traversable for it (``o+x``): every parent of our directory, and the path to
   the installed Postgres programs. We never open those ourselves: that would open somebody's home.

initdb also refuses a uid without a name, as containers have with ``--user 12345``. The namespace helps there too.
"""

from __future__ import annotations

import ctypes
import os
import pwd
import sys
from collections.abc import Callable, Iterator
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

_CLONE_NEWUSER = 0x10000000
_UID_INSIDE = 1000
_NAMED_NEARLY_EVERYWHERE = ("nobody", "daemon", "bin")
_OTHER_USERS = ("postgres", "nobody")


@dataclass(frozen=True, slots=True, kw_only=True)
class Identity:
    """Somebody Postgres can run as.

    ``uid`` and ``gid`` own the cluster, as seen from our process. ``become`` runs in the forked child, before exec; it
    raises OSError if the identity cannot be taken.
    """

    description: str
    uid: int
    gid: int
    become: Callable[[], None]


def ourselves() -> Identity:
    """Return the identity of an ordinary user: nothing to change."""
    return Identity(description="own user", uid=os.geteuid(), gid=os.getegid(), become=lambda: None)


def candidates(*, directory: Path) -> Iterator[Identity]:
    """Yield who Postgres may run as, best first. Each must be tried out: only the kernel knows what is allowed."""
    we_are_root, we_have_a_name = os.geteuid() == 0, _has_name(os.geteuid())
    if sys.platform == "linux" and (we_are_root or not we_have_a_name):
        yield _user_namespace()
    if not we_are_root:
        yield ourselves()
        return
    for name in _OTHER_USERS:
        with suppress(KeyError):
            yield _other_user(pwd.getpwnam(name), directory=directory)


def _has_name(uid: int) -> bool:
    try:
        pwd.getpwuid(uid)
    except KeyError:
        return False
    return True


def _uid_inside() -> int:
    """Return a uid for us inside the namespace: not root's, and one with a name, which initdb wants to know."""
    if _has_name(_UID_INSIDE):
        return _UID_INSIDE
    for name in _NAMED_NEARLY_EVERYWHERE:
        with suppress(KeyError):
            return pwd.getpwnam(name).pw_uid
    return _UID_INSIDE


def _user_namespace() -> Identity:
    uid, gid = os.geteuid(), os.getegid()
    unshare = ctypes.CDLL(None, use_errno=True).unshare  # looked up here: the child must not load libraries
    # A gid map needs setgroups denied first, else a group that denies access could be dropped: the kernel insists.
    answers = (
        ("/proc/self/setgroups", b"deny"),
        ("/proc/self/uid_map", b"%d %d 1" % (_uid_inside(), uid)),
        ("/proc/self/gid_map", b"%d %d 1" % (_UID_INSIDE, gid)),
    )

    def become() -> None:
        if unshare(_CLONE_NEWUSER) != 0:
            raise OSError(ctypes.get_errno(), "unshare")
        for path, answer in answers:
            descriptor = os.open(path, os.O_WRONLY)
            os.write(descriptor, answer)  # the kernel takes a map in one write only
            os.close(descriptor)

    return Identity(description="user namespace", uid=uid, gid=gid, become=become)


def _other_user(entry: pwd.struct_passwd, *, directory: Path) -> Identity:
    def become() -> None:
        os.setgroups([])
        os.setgid(entry.pw_gid)
        os.setuid(entry.pw_uid)
        os.chdir(directory)  # proves that every parent lets this user through

    return Identity(description=f"user {entry.pw_name}", uid=entry.pw_uid, gid=entry.pw_gid, become=become)
