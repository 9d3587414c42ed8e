"""The keys of a JWT issuer (JWKS), from a file or a URL, fetched again in bounds."""

from __future__ import annotations

import threading
import time
import urllib.error
import urllib.request
from collections.abc import Callable
from pathlib import Path
from urllib.parse import urlsplit

import jwt
import structlog

from timestore.errors import TimestoreError, error

FRESH_S = 600.0  # keys are fetched again after this
RETRY_S = 30.0  # and no more often than this, whatever tokens name
FETCH_TIMEOUT_S = 5.0
MAX_BYTES = 1 << 20

log = structlog.get_logger()


def read_jwks(source: str) -> bytes:
    """Read a JWKS document from a file, or by HTTPS (HTTP from this machine only)."""
    if "://" not in source:
        return Path(source).read_bytes()
    with urllib.request.build_opener(_NoRedirects).open(source, timeout=FETCH_TIMEOUT_S) as answer:
        document: bytes = answer.read(MAX_BYTES + 1)
    if len(document) > MAX_BYTES:
        raise ValueError(f"the document has more than {MAX_BYTES} bytes")
    return document


class _NoRedirects(urllib.request.HTTPRedirectHandler):
    """Refuses to go on elsewhere: that could be by HTTP."""

    def redirect_request(self, *_: object, **__: object) -> None:
        return None


class KeySet:
    """The keys that may have signed a token. Thread safe.

    Known keys go on being used while the source does not answer.
    """

    def __init__(self, source: str, *, read: Callable[[str], bytes] = read_jwks) -> None:
        self._source = source
        self._read = read
        self._fetching = threading.Lock()
        self._keys: list[jwt.PyJWK] = []
        self._fetched_at = self._tried_at = float("-inf")

    def find(self, key_id: str | None) -> jwt.PyJWK | None:
        """Return the key of an id, or the only key there is for a token that names none; None if there is none.

        Raises ``overloaded`` while keys were never had.
        """
        # One fetches; only those wait for it who have no key without it.
        if self._is_due(key_id) and self._fetching.acquire(blocking=self._choose(key_id) is None):
            try:
                if self._is_due(key_id):
                    self._fetch()
            finally:
                self._fetching.release()
        if not self._keys:
            raise _no_keys()
        return self._choose(key_id)

    def _is_due(self, key_id: str | None) -> bool:
        now = time.monotonic()
        is_wanted = now - self._fetched_at > FRESH_S or self._choose(key_id) is None
        return is_wanted and now - self._tried_at > RETRY_S

    def _choose(self, key_id: str | None) -> jwt.PyJWK | None:
        if key_id is None:
            return self._keys[0] if len(self._keys) == 1 else None
        return next((key for key in self._keys if key.key_id == key_id), None)

    def _fetch(self) -> None:
        now = time.monotonic()
        try:
            self._keys = jwt.PyJWKSet.from_json(self._read(self._source).decode()).keys
            self._fetched_at = now
        except (OSError, urllib.error.URLError, ValueError, jwt.PyJWTError) as exc:
            log.warning("jwks.not_fetched", source=_without_secrets(self._source), error=type(exc).__name__)
        self._tried_at = now


def _without_secrets(source: str) -> str:
    parts = urlsplit(source)
    return f"{parts.scheme}://{parts.hostname}{parts.path}" if "://" in source else source


def _no_keys() -> TimestoreError:
    return error(
        "overloaded",
        "the keys of the JWT issuer are not known yet; try again shortly, and see the server's log if it stays so",
        retry_after_s=5.0,
    )
