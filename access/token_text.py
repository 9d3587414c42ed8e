"""What a token looks like: ``tst_<id>_<secret>``. The id is no secret; the catalog has a hash of the secret alone."""

from __future__ import annotations

import hashlib
import hmac
import re
import secrets
from dataclasses import dataclass, field

PREFIX = "tst_"
_ID_BYTES = 8
_SECRET_BYTES = 32
_TOKEN = re.compile(r"tst_([0-9a-f]{16})_([A-Za-z0-9_-]{43})\Z")


@dataclass(frozen=True, slots=True, kw_only=True)
class TokenText:
    """A token as its holder sends it. Its secret has 256 random bits, so that a fast hash protects it."""

    token_id: str
    secret: str = field(repr=False)

    @classmethod
    def new(cls) -> TokenText:
        return cls(token_id=secrets.token_hex(_ID_BYTES), secret=secrets.token_urlsafe(_SECRET_BYTES))

    @classmethod
    def parse(cls, text: str) -> TokenText | None:
        """Read a token; None if this is not one of ours."""
        found = _TOKEN.match(text)
        return cls(token_id=found[1], secret=found[2]) if found else None

    @property
    def secret_hash(self) -> bytes:
        return hashlib.sha256(self.secret.encode()).digest()

    def matches(self, secret_hash: bytes) -> bool:
        """Compare in constant time."""
        return hmac.compare_digest(self.secret_hash, secret_hash)

    def reveal(self) -> str:
        """Spell the whole token: for its holder's eyes, once."""
        return f"{PREFIX}{self.token_id}_{self.secret}"
