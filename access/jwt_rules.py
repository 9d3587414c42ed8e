"""What a JSON web token must say, and from where keys may come. Light: settings know it too."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from urllib.parse import urlsplit

# Only those where the server has no key that could sign: never HMAC, never "none".
ALGORITHMS = ("RS256", "RS384", "RS512", "PS256", "PS384", "PS512", "ES256", "ES384", "ES512", "EdDSA")


@dataclass(frozen=True, slots=True, kw_only=True)
class JwtRules:
    """What a token must say."""

    issuer: str
    audience: str
    algorithms: Sequence[str] = ("RS256", "ES256")
    principal_claim: str = "sub"
    grants_claim: str | None = None  # a list of grants, or a text of them with spaces between


def is_allowed_source(source: str) -> bool:
    """Say whether keys from there can be trusted: nobody on the way may change them."""
    parts = urlsplit(source)
    on_this_machine = parts.hostname in {"localhost", "127.0.0.1", "::1"}
    return "://" not in source or parts.scheme == "https" or (parts.scheme == "http" and on_this_machine)
