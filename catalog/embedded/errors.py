"""Why the embedded Postgres did not start, by what the operator should do about it.

    EmbeddedPostgresError            read the message: it says what to do
    ├── BinariesMissingError         install them, or use an external Postgres
    ├── RootRefusedError             run as an ordinary user, or open a path for one
    ├── WrongMajorVersionError       install the other binaries, or migrate the cluster
    ├── ClusterBusyError             an earlier Postgres of this cluster still runs: wait, then start again
    └── StartFailedError             Postgres said why: the message ends with the last lines of its log

Calls that break the contract of a method (a second start, a start outside the main thread) raise a plain RuntimeError.
"""

from __future__ import annotations


class EmbeddedPostgresError(RuntimeError):
    """Root of all errors of the embedded Postgres."""


class BinariesMissingError(EmbeddedPostgresError):
    """The Postgres programs are not installed, or do not run on this machine."""


class RootRefusedError(EmbeddedPostgresError):
    """We are root, Postgres refuses root, and no other identity works here."""


class WrongMajorVersionError(EmbeddedPostgresError):
    """The cluster on disk was made by another major version of Postgres."""


class ClusterBusyError(EmbeddedPostgresError):
    """Processes of an earlier Postgres of this cluster are still alive at the deadline."""


class StartFailedError(EmbeddedPostgresError):
    """Postgres or initdb ended, or was not ready by the deadline."""
