"""Credentials as agents of InfluxDB send them, said as other clients would."""

from __future__ import annotations

from base64 import b64encode
from collections.abc import Sequence


def authorization_of(headers: Sequence[str], *, user: str, password: str) -> list[str]:
    """Return the authorization headers of a request: a token counts as a bearer's, the query's password as Basic's.

    Agents that were given no token send an empty one. That is none: they may have a certificate.
    """
    said = [_as_bearer(header) for header in headers if header.strip().lower() not in ("", "token")]
    if not said and password:
        said.append(f"Basic {b64encode(f'{user}:{password}'.encode()).decode()}")
    return said


def _as_bearer(header: str) -> str:
    scheme, _, token = header.strip().partition(" ")
    return f"Bearer {token.strip()}" if scheme.lower() == "token" else header
