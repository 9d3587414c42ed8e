"""A storage target: the name, place and options of a root that data files go to. It never has a secret."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from urllib.parse import urlsplit

from timestore.errors import TimestoreError, error

DEFAULT_STORAGE = "default"  # the target that each server is told by its setting storage_url

MAX_URL_BYTES = 2_000
MAX_OPTIONS = 30
MAX_OPTION_BYTES = 1_000

_NAME = re.compile(r"[a-z][a-z0-9_-]{0,62}\Z")
_SCHEME = re.compile(r"[a-z][a-z0-9+.-]*://")
_CONTAINER_SCHEMES = ("abfs", "abfss", "az", "adl")  # container@account, where others have a user
_SECRET_NAME = re.compile(
    r"secret|passw|passphrase|token|credential|signature|connection_?string|customer_?key(?!_?md5)"
    r"|(account|access|api|private|shared)_?key|\bsas\b|sas_|\bkey\b|\bauth",
    re.IGNORECASE,
)
_SECRET_VALUE = re.compile(r"-----BEGIN|AccountKey=|SharedAccessSignature|[?&]sig=|://[^/@]*:[^/@]*@", re.IGNORECASE)
_HOW_TO_LOG_IN = (
    "credentials are never kept in the catalog: give them to each server, in the way of the store's own tools "
    "(environment, profile or instance role)"
)


@dataclass(frozen=True, slots=True, kw_only=True)
class StorageTarget:
    """Where data files go."""

    name: str
    url: str
    options: Mapping[str, str] = field(default_factory=dict)  # of the driver

    @classmethod
    def parse(cls, *, name: str, url: str, options: Mapping[str, str]) -> StorageTarget:
        """Check what a target is to be; raises ``name_invalid`` or ``descriptor_invalid``, without the secret."""
        return cls(name=parse_storage_name(name), url=parse_storage_url(url), options=parse_storage_options(options))


def parse_storage_name(text: str) -> str:
    """Check the name of a storage target; raises ``name_invalid``."""
    if not _NAME.match(text):
        raise error(
            "name_invalid",
            f"the storage name {text[:80]!a} is not allowed: use a lower-case letter, then up to 62 lower-case "
            "letters, digits, '_' or '-'",
        )
    return text


def parse_storage_url(text: str) -> str:
    """Check the URL of a storage target, and spell a directory as one; raises ``descriptor_invalid``."""
    url = f"file://{text}" if text.startswith("/") else text
    if not (scheme := _SCHEME.match(url)) or len(url.encode("utf-8", "replace")) > MAX_URL_BYTES:
        raise _invalid(
            f"a storage URL is like s3://bucket/prefix or file:///directory, at most {MAX_URL_BYTES} bytes long; a "
            "directory needs its whole path, for each server looks from where it is"
        )
    if any(char in url for char in "?#\\") or any(ord(char) < 32 for char in url):
        raise _invalid(f"a storage URL has no query, no fragment and no backslash; {_HOW_TO_LOG_IN}")
    if _has_user(url, scheme[0].removesuffix("://")):
        raise _invalid(f"the storage URL has a user or password; {_HOW_TO_LOG_IN}")
    return url


def parse_storage_options(options: Mapping[str, str]) -> dict[str, str]:
    """Check the options of a storage target; raises ``descriptor_invalid`` if one looks like a secret."""
    if len(options) > MAX_OPTIONS:
        raise _invalid(f"there are {len(options)} storage options, at most {MAX_OPTIONS} are allowed")
    for name, value in options.items():
        if _SECRET_NAME.search(name) or _SECRET_VALUE.search(value):
            raise _invalid(f"the storage option {name[:80]!a} looks like a secret; {_HOW_TO_LOG_IN}")
        if not name or len(name) > MAX_OPTION_BYTES or len(value.encode("utf-8", "replace")) > MAX_OPTION_BYTES:
            raise _invalid(f"the storage option {name[:80]!a} is empty or longer than {MAX_OPTION_BYTES} bytes")
    return dict(options)


def no_such_storage(name: str, others: Iterable[str]) -> TimestoreError:
    """Describe a name that no target has; ``others`` are those there are beside 'default'."""
    known = ", ".join(repr(each) for each in [DEFAULT_STORAGE, *others])
    return error(
        "storage_not_found",
        f"there is no storage named {name!r}; there are: {known}. Add one with timestore storage add",
        details={"storage": name},
    )


def _has_user(url: str, scheme: str) -> bool:
    try:
        user, at, _ = urlsplit(url).netloc.rpartition("@")
    except ValueError as exc:
        raise _invalid("the storage URL cannot be read; it is like s3://bucket/prefix or file:///directory") from exc
    return bool(at) and (scheme not in _CONTAINER_SCHEMES or ":" in user)


def _invalid(message: str) -> TimestoreError:
    return error("descriptor_invalid", message)
