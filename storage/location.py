"""What a storage URL says: ``<scheme>://<bucket>/<prefix>``."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass

from storage.paths import MAX_PATH_BYTES
from timestore.errors import TimestoreError, error

MAX_NAME_BYTES = 1024  # of an object, in S3, Azure and GCS
_SECRETS = frozenset(
    {
        *("access_key", "account_key", "aws_access_key_id", "aws_secret_access_key", "aws_session_token"),
        *("client_secret", "connection_string", "credential", "key", "password", "sas_token", "secret", "secret_key"),
        *("token", "username"),
    }
)

Option = Callable[[str], object]


@dataclass(frozen=True, slots=True, kw_only=True)
class Location:
    """A bucket (or container) and the prefix of all names in it; ``account`` is what an Azure URL may have."""

    url: str  # as it was given, without a slash at its end
    scheme: str
    bucket: str
    account: str
    prefix: str

    @classmethod
    def parse(cls, url: str) -> Location:
        """Parse a URL; raises ``unsupported``, and never repeats what could be a password."""
        scheme, _, rest = url.partition("://")
        authority, _, path = rest.partition("/")
        owner, at, host = authority.rpartition("@")
        if ":" in owner or (at and scheme not in ("abfs", "abfss", "az")):
            raise _unusable(
                scheme,
                "cannot have a user or password in them; give credentials as the store's other tools take them "
                "(environment, profile, role)",
            )
        prefix = path.rstrip("/")
        if any(each in rest for each in "?#") or not rest.isprintable():
            raise _unusable(scheme, "have a bucket and a prefix, and no ?, # or control characters")
        if not (owner or host) or any(part in ("", ".", "..") for part in prefix.split("/") if prefix):
            raise _unusable(scheme, f"look like {scheme}://bucket/prefix, and no part of them is empty, . or ..")
        if len(prefix.encode()) > MAX_NAME_BYTES - MAX_PATH_BYTES - 1:
            limit = MAX_NAME_BYTES - MAX_PATH_BYTES - 1
            raise _unusable(scheme, f"may have a prefix of {limit} bytes; this one's has {len(prefix.encode())}")
        return cls(
            url=url.rstrip("/"),
            scheme=scheme,
            bucket=owner if at else host,
            account=host if at else "",
            prefix=f"{prefix}/" if prefix else "",
        )


def parse_options(
    options: Mapping[str, str], known: Mapping[str, Option], *, store: str, credentials: str
) -> dict[str, object]:
    """Parse options by name; raises ``unsupported`` for unknown ones and for secrets, and repeats no value."""
    parsed = {}
    for name, value in options.items():
        if name.lower() in _SECRETS:
            raise error("unsupported", f"the storage option {name} is a secret; give credentials by {credentials}")
        if name not in known:
            raise error("unsupported", f"{store} has no storage option {name!r}; it has {', '.join(sorted(known))}")
        try:
            parsed[name] = known[name](value)
        except ValueError as exc:
            raise error("unsupported", f"the storage option {name} {exc}") from None
    return parsed


def endpoint(value: str) -> str:
    """Parse the address of a server, which has no password."""
    scheme, found, rest = value.partition("://")
    if scheme not in ("http", "https") or not found or not rest or "@" in rest or not rest.isprintable():
        raise ValueError("is an address like https://s3.example.com:9000, without user or password")
    return value.rstrip("/")


def yes_or_no(value: str) -> bool:
    """Parse true or false."""
    if value.lower() not in ("true", "false"):
        raise ValueError("is true or false")
    return value.lower() == "true"


def one_of(*values: str) -> Option:
    """Return a parser that takes these values."""

    def parse(value: str) -> str:
        if value not in values:
            raise ValueError(f"is one of {', '.join(values)}")
        return value

    return parse


def _unusable(scheme: str, why: str) -> TimestoreError:
    return error("unsupported", f"storage URLs with {scheme}:// {why}")
