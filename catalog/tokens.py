"""Bearer tokens as the catalog keeps them: what each may do, and a hash of its secret."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta

from catalog.connections import Connections


@dataclass(frozen=True, slots=True, kw_only=True)
class NewToken:
    """A token that is to be."""

    token_id: str
    secret_hash: bytes
    principal: str
    grants: Sequence[str]
    max_running_puts: int | None
    bytes_per_s: int | None
    lifetime: timedelta | None  # None: for ever


@dataclass(frozen=True, slots=True, kw_only=True)
class StoredToken:
    """A token without its secret."""

    token_id: str
    principal: str
    grants: tuple[str, ...]
    max_running_puts: int | None
    bytes_per_s: int | None
    created_at: datetime
    expires_at: datetime | None
    revoked_at: datetime | None

    @property
    def state(self) -> str:
        """What it is good for, by this machine's clock: for people. Servers ask the catalog's."""
        if self.revoked_at is not None:
            return "revoked"
        return "expired" if self.expires_at is not None and self.expires_at <= datetime.now(UTC) else "valid"


@dataclass(frozen=True, slots=True, kw_only=True)
class FoundToken:
    """What it takes to judge a token that was sent, by the catalog's clock."""

    token: StoredToken
    secret_hash: bytes
    expires_in_s: float | None  # negative once it has expired; None: never

    @property
    def is_expired(self) -> bool:
        return self.expires_in_s is not None and self.expires_in_s <= 0


class Tokens:
    """The catalog's tokens. Thread safe; each method is one transaction."""

    def __init__(self, *, connections: Connections) -> None:
        self._connections = connections

    def create(self, new: NewToken) -> StoredToken:
        """Remember a new token."""
        parameters: dict[str, object] = {
            "token_id": new.token_id,
            "secret_hash": new.secret_hash,
            "principal": new.principal,
            "grants": list(new.grants),
            "max_running_puts": new.max_running_puts,
            "bytes_per_s": new.bytes_per_s,
            "lifetime": new.lifetime,
        }
        return _stored(self._connections.write("create_token", parameters)[0])

    def all(self) -> list[StoredToken]:
        """Return all tokens, also those that are over, oldest first."""
        return [_stored(row) for row in self._connections.read("list_tokens")]

    def find(self, token_id: str) -> FoundToken | None:
        """Return a token by its id."""
        rows = self._connections.read("find_token", {"token_id": token_id})
        if not rows:
            return None
        *stored, secret_hash, expires_in_s = rows[0]
        return FoundToken(token=_stored(tuple(stored)), secret_hash=bytes(secret_hash), expires_in_s=expires_in_s)

    def revoke(self, token_id: str) -> bool:
        """End a token for ever; return whether there is one of that id. Doing it again changes nothing."""
        return bool(self._connections.write("revoke_token", {"token_id": token_id}))


def _stored(row: tuple[object, ...]) -> StoredToken:
    token_id, principal, grants, *rest = row
    values = (token_id, principal, tuple(grants), *rest)  # type: ignore[arg-type]  # an array of texts
    return StoredToken(**dict(zip(StoredToken.__slots__, values, strict=True)))  # type: ignore[arg-type]
