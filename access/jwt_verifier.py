"""JSON web tokens of one issuer, as OpenID Connect providers give out: PyJWT judges them."""

from __future__ import annotations

import time
from collections.abc import Mapping
from typing import Any

import jwt

from access.grants import Grants
from access.jwks import KeySet
from access.jwt_rules import JwtRules
from access.principal import Limits, Principal
from access.verifiers import Verified, not_accepted
from timestore.errors import TimestoreError

LEEWAY_S = 10.0  # how far the issuer's clock may be from ours
MAX_TOKEN_BYTES = 16 << 10
MAX_PRINCIPAL_LENGTH = 200


class JwtTokens:
    """Judges JSON web tokens. Thread safe."""

    def __init__(
        self, *, keys: KeySet, rules: JwtRules, assigned: Mapping[str, Grants], default_limits: Limits
    ) -> None:
        self._keys = keys
        self._rules = rules
        self._assigned = assigned
        self._default_limits = default_limits

    def verify(self, text: str) -> Verified:
        claims = self._claims(text)
        subject = claims[self._rules.principal_claim]
        if not isinstance(subject, str) or not 1 <= len(subject) <= MAX_PRINCIPAL_LENGTH or not subject.isprintable():
            raise not_accepted(f"the JWT's claim {self._rules.principal_claim!r} is not a short, printable text")
        name = f"jwt:{subject}"
        principal = Principal(
            name=name,
            grants=self._grants(claims) + self._assigned.get(name, Grants()),
            limits=self._default_limits,
        )
        return Verified(principal=principal, valid_s=float(claims["exp"]) + LEEWAY_S - time.time())

    def _claims(self, text: str) -> dict[str, Any]:
        rules = self._rules
        try:
            if len(text) > MAX_TOKEN_BYTES:
                raise jwt.InvalidTokenError("it is too long")
            header = jwt.get_unverified_header(text)
            if header.get("alg") not in rules.algorithms:
                raise jwt.InvalidAlgorithmError("its algorithm is not allowed here")
            key = self._keys.find(header.get("kid"))
            if key is None:
                raise jwt.InvalidKeyError("no key of the issuer has signed it")
            claims: dict[str, Any] = jwt.decode(
                text,
                key,
                algorithms=list(rules.algorithms),
                issuer=rules.issuer,
                audience=rules.audience,
                leeway=LEEWAY_S,
                options={"require": ["exp", "iss", "aud", rules.principal_claim]},
            )
        except (jwt.PyJWTError, ValueError, TypeError, RecursionError) as exc:  # the last three: of what is no JWT
            raise not_accepted(f"the JWT is not accepted ({_reason(exc)})") from exc
        return claims

    def _grants(self, claims: Mapping[str, Any]) -> Grants:
        """Read the claim that has grants. What in it is none of ours is left out: it may be meant for others."""
        said = claims.get(self._rules.grants_claim) if self._rules.grants_claim is not None else None
        texts = said.split() if isinstance(said, str) else said if isinstance(said, list) else []
        found = Grants()
        for text in texts:
            try:
                found += Grants.parse([text] if isinstance(text, str) else [])
            except TimestoreError:
                continue
        return found


def _reason(exc: Exception) -> str:
    """Say what is wrong in words of ours: the library's may quote the token."""
    match exc:
        case jwt.ExpiredSignatureError():
            return "it has expired"
        case jwt.ImmatureSignatureError():
            return "it is not valid yet"
        case jwt.InvalidIssuerError():
            return "it is another issuer's"
        case jwt.InvalidAudienceError():
            return "it is meant for another audience"
        case jwt.MissingRequiredClaimError():
            return "a claim is missing that must be there"
        case jwt.InvalidAlgorithmError():
            return "its algorithm is not allowed here"
        case jwt.InvalidKeyError():
            return "no key of the issuer has signed it"
        case jwt.InvalidSignatureError():
            return "its signature is wrong"
    return "it is malformed"
