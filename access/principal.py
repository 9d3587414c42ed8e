"""Principals: who calls, as every method of floor 3 is told, and the one place where grants are checked."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field

import structlog

from access.grants import EVERYTHING, Grants, Permission
from timestore.errors import TimestoreError, error

log = structlog.get_logger()


@dataclass(frozen=True, slots=True, kw_only=True)
class Limits:
    """What a principal may ask of one server, all its calls together; None: as much as the server takes."""

    max_running_puts: int | None = None
    bytes_per_s: int | None = None  # of Arrow data received by puts

    def or_else(self, default: Limits) -> Limits:
        """Return these limits, with those of ``default`` where there are none."""
        return Limits(
            max_running_puts=default.max_running_puts if self.max_running_puts is None else self.max_running_puts,
            bytes_per_s=default.bytes_per_s if self.bytes_per_s is None else self.bytes_per_s,
        )


@dataclass(frozen=True, slots=True, kw_only=True)
class Principal:
    """Who makes a call. ``name`` says by what it is known (``token:``, ``cert:``, ``jwt:``); None: nobody was asked."""

    name: str | None
    grants: Grants
    limits: Limits = Limits()
    # Judges its credentials anew. They are in there: never shown, never compared.
    renew: Callable[[], Principal] | None = field(default=None, repr=False, compare=False)

    def require(self, dataset: str, *permissions: Permission) -> None:
        """See to it that one of some permissions is granted on a dataset, whether or not there is one of that name.

        Comes before the catalog is asked for anything, so that neither answer nor time tell what there is. Raises
        ``permission_denied``.
        """
        if not self.grants.permit(dataset, permissions):
            raise self.denied(dataset, *permissions)

    def require_everywhere(self, permission: Permission) -> None:
        """See to it that a permission is granted on all datasets; raises ``permission_denied``."""
        if not self.grants.permit_everywhere(permission):
            raise self.denied("*", permission)

    def may(self, dataset: str, *permissions: Permission) -> bool:
        return self.grants.permit(dataset, permissions)

    def patterns(self, *permissions: Permission) -> list[str] | None:
        """Return what narrows a listing to names on which one of some permissions is granted; None for all names."""
        if any(self.grants.permit_everywhere(permission) for permission in permissions):
            return None
        return self.grants.patterns(permissions)

    def now(self) -> Principal:
        """Return this principal as it is now; raises ``unauthenticated`` if it has been revoked or has expired."""
        return self.renew() if self.renew is not None else self

    def denied(self, dataset: str, *permissions: Permission) -> TimestoreError:
        """Build the refusal, and log it."""
        needed = " or ".join(f"{permission}:{dataset}" for permission in permissions)
        log.warning("access.denied", principal=self.name, dataset=dataset, needs=needed)
        return error(
            "permission_denied",
            f"{self.name!r} lacks the grant {needed}, which this call needs whether or not there is such a dataset; "
            "ask whoever runs the server for it",
            details={"needs": needed},
        )


EVERYBODY = Principal(name=None, grants=EVERYTHING)  # where nobody is authenticated
