"""From credentials to principals: tokens of the catalog, and a cache over whatever verifies."""

from __future__ import annotations

import hashlib
import threading
import time
from collections import OrderedDict
from dataclasses import dataclass
from typing import Protocol

from access.grants import Grants
from access.principal import Limits, Principal
from access.token_text import TokenText
from catalog.tokens import Tokens
from timestore.errors import TimestoreError, error

CACHE_S = 5.0  # for how long a token that was revoked may work on
MAX_CACHED = 10_000
_NO_HASH = bytes(32)  # what an unknown token is compared with, so that it takes as long as a known one


@dataclass(frozen=True, slots=True, kw_only=True)
class Verified:
    """Who somebody proved to be, and for how many seconds at most that may be believed."""

    principal: Principal
    valid_s: float


class Verifier(Protocol):
    """Judges what a caller sent as a bearer token. Thread safe."""

    def verify(self, text: str) -> Verified:
        """Return whose token this is; raises ``unauthenticated``, or what keeps it from being judged."""


class CatalogTokens:
    """Judges the tokens that ``timestore token create`` made."""

    def __init__(self, *, tokens: Tokens, default_limits: Limits) -> None:
        self._tokens = tokens
        self._default_limits = default_limits

    def verify(self, text: str) -> Verified:
        sent = TokenText.parse(text)
        found = self._tokens.find(sent.token_id) if sent is not None else None
        if sent is None or not sent.matches(found.secret_hash if found is not None else _NO_HASH) or found is None:
            raise not_accepted("the token is not known here")
        token = found.token
        if token.revoked_at is not None:
            raise not_accepted(f"the token {token.token_id} was revoked")
        if found.is_expired:
            raise not_accepted(f"the token {token.token_id} has expired")
        limits = Limits(max_running_puts=token.max_running_puts, bytes_per_s=token.bytes_per_s)
        principal = Principal(
            name=f"token:{token.principal}",
            grants=Grants.parse(token.grants),
            limits=limits.or_else(self._default_limits),
        )
        return Verified(principal=principal, valid_s=CACHE_S if found.expires_in_s is None else found.expires_in_s)


class CachedVerifier:
    """Remembers for a few seconds what another verifier said, yes or no. Thread safe."""

    def __init__(self, verifier: Verifier, *, cache_s: float = CACHE_S) -> None:
        self._verifier = verifier
        self._cache_s = cache_s
        self._lock = threading.Lock()
        # By a hash: until when, and whose token it is, or else why it is refused. No secret, and no exception, whose
        # traceback would keep one.
        self._known: OrderedDict[bytes, tuple[float, Principal | str]] = OrderedDict()

    def principal(self, text: str) -> Principal:
        """Return whose token this is; raises like ``Verifier.verify``."""
        digest = hashlib.sha256(text.encode(errors="surrogatepass")).digest()
        with self._lock:
            until, known = self._known.get(digest, (0.0, None))
        if known is None or time.monotonic() >= until:
            known = self._look_up(text, digest)
        if isinstance(known, str):
            raise error("unauthenticated", known)
        return known

    def _look_up(self, text: str, digest: bytes) -> Principal | str:
        asked_at = time.monotonic()  # what is revoked while the answer is on its way counts from here
        answer: Principal | str
        try:
            verified = self._verifier.verify(text)
        except TimestoreError as failure:
            if failure.kind != "unauthenticated":
                raise
            answer, valid_s = failure.message, self._cache_s
        else:
            answer, valid_s = verified.principal, verified.valid_s
        with self._lock:
            self._known[digest] = (asked_at + min(valid_s, self._cache_s), answer)
            self._known.move_to_end(digest)
            while len(self._known) > MAX_CACHED:
                self._known.popitem(last=False)
        return answer


def not_accepted(why: str) -> TimestoreError:
    """Build the refusal of credentials."""
    return error(
        "unauthenticated",
        f"{why}; ask whoever runs the server for a token, and send it as authorization: Bearer: in Python "
        "connect(url, token=...), on the command line by --token-file or TIMESTORE_TOKEN",
    )
