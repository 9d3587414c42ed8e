"""The authenticator: what a door got from a caller in, a principal out. Doors of any kind share it."""

from __future__ import annotations

import base64
import binascii
from collections.abc import Mapping, Sequence
from dataclasses import replace
from functools import partial

import structlog

from access.grants import Grants
from access.principal import EVERYBODY, Limits, Principal
from access.token_text import PREFIX
from access.verifiers import CachedVerifier, not_accepted
from timestore.errors import TimestoreError

MAX_HEADER_LENGTH = 32 << 10

log = structlog.get_logger()


class Authenticator:
    """Knows whom a call is from. Thread safe."""

    def __init__(
        self,
        *,
        required: bool,
        tokens: CachedVerifier | None = None,
        web_tokens: CachedVerifier | None = None,
        assigned: Mapping[str, Grants] | None = None,
        default_limits: Limits | None = None,
    ) -> None:
        self.required = required  # if not, everybody may do everything, whatever they send
        self._tokens = tokens
        self._web_tokens = web_tokens
        self._assigned = assigned or {}
        self._default_limits = default_limits or Limits()

    def by_header(self, values: Sequence[str | bytes]) -> Principal:
        """Return who sent an ``authorization`` header, which may be repeated as it is; raises ``unauthenticated``."""
        if not self.required:
            return EVERYBODY
        try:
            text = _bearer_of(values)
            principal = partial(self._verifier(text).principal, text)
            return replace(principal(), renew=principal)
        except TimestoreError as failure:
            raise _noted(failure) from None

    def by_certificate(self, identity: str) -> Principal:
        """Return who a verified client certificate belongs to, by the first of its alternative names, or its CN."""
        name = f"cert:{identity}"
        return Principal(name=name, grants=self._assigned.get(name, Grants()), limits=self._default_limits)

    def by_nothing(self) -> Principal:
        """Return who sent no credentials; raises ``unauthenticated`` unless everybody is welcome."""
        if not self.required:
            return EVERYBODY
        raise _noted(not_accepted("this server wants to know who calls, and the call has no credentials"))

    def _verifier(self, text: str) -> CachedVerifier:
        verifier = self._tokens if text.startswith(PREFIX) else self._web_tokens
        if verifier is None:
            raise not_accepted("the token is not known here")
        return verifier


def _noted(failure: TimestoreError) -> TimestoreError:
    if failure.kind == "unauthenticated":
        log.warning("access.unauthenticated", reason=failure.message.partition(";")[0])
    return failure


def bearer_header(values: Sequence[str | bytes]) -> str:
    """Return the ``authorization`` header that a client should send from now on, having sent these."""
    return f"Bearer {_bearer_of(values)}"


def _bearer_of(values: Sequence[str | bytes]) -> str:
    """Return the token of a header: of ``Bearer``, or of ``Basic``, where it is the password, whatever the user."""
    texts = {value if isinstance(value, str) else value.decode("latin-1") for value in values}
    if len(texts) != 1:
        raise not_accepted("the authorization header is given more than once, with different values")
    [text] = texts
    scheme, _, value = text.strip().partition(" ")
    if len(text) > MAX_HEADER_LENGTH or scheme.lower() not in {"bearer", "basic"}:
        raise not_accepted("the authorization header is neither Bearer nor Basic")
    return value.strip() if scheme.lower() == "bearer" else _password_of(value.strip())


def _password_of(encoded: str) -> str:
    """Return the password of Basic credentials, which some clients send without padding."""
    try:
        decoded = base64.b64decode(encoded + "=" * (-len(encoded) % 4), validate=True).decode()
    except (binascii.Error, ValueError):
        raise not_accepted("the Basic credentials are not base64 of user:token") from None
    _, colon, password = decoded.partition(":")
    if not colon:
        raise not_accepted("the Basic credentials are not base64 of user:token")
    return password
