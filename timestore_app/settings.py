"""Every setting, once: its name, default, limits and help.

Command line > ``TIMESTORE_*`` environment > ``--config timestore.toml`` > default. Nothing else reads the environment.
"""

from __future__ import annotations

import json
import os
import tomllib
from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Any, Literal, Self

from pydantic import BeforeValidator, Field, SecretStr, ValidationError, model_validator
from pydantic_settings import (
    BaseSettings,
    NoDecode,
    PydanticBaseSettingsSource,
    SettingsConfigDict,
    TomlConfigSettingsSource,
)

from access.jwt_rules import ALGORITHMS, is_allowed_source
from timestore.durations import Duration
from timestore.errors import TimestoreError
from timestore_app.machine import available_memory_bytes, default_data_dir
from timestore_app.units import Bytes, Seconds

ENV_PREFIX = "TIMESTORE_"
# No settings of the server.
CLIENT_VARIABLES = (
    "TIMESTORE_URL",
    "TIMESTORE_TOKEN",
    "TIMESTORE_TOKEN_FILE",
    "TIMESTORE_TLS_ROOT_CERTS",
    "TIMESTORE_TLS_CLIENT_CERT",
    "TIMESTORE_TLS_CLIENT_KEY",
)
GIB = 1 << 30
MINIMUM_BUDGET = 256 << 20
MINIMUM_STAGING = 16 << 20


def _duration(value: object) -> object:
    """Parse a duration as datasets spell theirs."""
    try:
        return Duration.parse(value) if isinstance(value, str) else value
    except TimestoreError as exc:
        raise ValueError(exc.message) from exc


def _port_or_off(value: object) -> object:
    """Parse a port that may be ``off``."""
    return None if value == "off" else value


def _named_values(value: object) -> object:
    """Parse options: a table, such a JSON object as text, or ``NAME=VALUE`` each. Messages repeat no value."""
    if isinstance(value, str):
        try:
            value = json.loads(value)
        except ValueError:
            raise ValueError('is a JSON object such as {"region_name": "eu-central-1"}') from None
    if isinstance(value, (list, tuple)):
        if any("=" not in str(each) for each in value):
            raise ValueError("each is NAME=VALUE, such as region_name=eu-central-1")
        value = dict(str(each).split("=", 1) for each in value)
    if not isinstance(value, Mapping) or not all(
        isinstance(each, (str, int, float, SecretStr)) for each in value.values()
    ):
        raise ValueError("are names with one value each")
    return {name: str(each).lower() if isinstance(each, bool) else _text(each) for name, each in value.items()}


def _text(value: object) -> object:
    return value if isinstance(value, SecretStr) else str(value)


class Settings(BaseSettings):
    """The frozen settings of a server."""

    model_config = SettingsConfigDict(env_prefix=ENV_PREFIX, frozen=True, extra="forbid", validate_default=True)

    data_dir: Path = Field(
        default_factory=default_data_dir, description="Everything the server keeps: catalog, staging, data files."
    )
    host: str = Field("127.0.0.1", description="Address to listen on.")
    port: int = Field(8815, ge=0, le=65535, description="Port to listen on; 0 picks a free one.")
    http_port: Annotated[int | None, BeforeValidator(_port_or_off)] = Field(
        None, ge=0, le=65535, description="Port for HTTP, 0 picks a free one; default: off."
    )
    http_host: str | None = Field(None, description="Address to listen on for HTTP; default: the same as host.")
    tls_cert: Path | None = Field(
        None, description="PEM file of the server's certificate, with its chain. Turns TLS and authentication on."
    )
    tls_key: Path | None = Field(None, description="PEM file of the certificate's private key.")
    tls_client_ca: Path | None = Field(
        None, description="PEM file of the authorities whose client certificates are asked for (mTLS)."
    )
    require_auth: bool = Field(False, description="Refuse callers that nobody knows, without TLS or a JWT issuer too.")
    insecure_no_tls: bool = Field(False, description="Listen where others can reach the server, and encrypt nothing.")
    insecure_no_auth: bool = Field(False, description="Let everybody who reaches the server do everything.")
    grants_file: Path | None = Field(
        None, description="TOML file of grants for the principals of certificates and JWTs."
    )
    jwt_issuer: str | None = Field(None, min_length=1, description="Accept JSON web tokens of this issuer.")
    jwt_audience: str | None = Field(None, min_length=1, description="The audience that a JWT must be meant for.")
    jwt_jwks: str | None = Field(None, min_length=1, description="The issuer's keys: a file, or an https:// URL.")
    jwt_algorithms: str = Field("RS256,ES256", description="Algorithms that may sign a JWT, with commas between.")
    jwt_principal_claim: str = Field("sub", min_length=1, description="The claim that says who it is.")
    jwt_grants_claim: str | None = Field(None, min_length=1, description="A claim with grants of Timestore.")
    principal_max_running_puts: int | None = Field(
        None, ge=1, description="Puts that one principal may run at once, unless its token says otherwise."
    )
    principal_bytes_per_s: Bytes | None = Field(
        None, gt=0, description="Bytes a second that one principal's puts may send, unless its token says otherwise."
    )
    catalog_dsn: SecretStr | None = Field(
        None, description="A Postgres >= 15 to keep the catalog in, instead of the embedded one."
    )
    catalog_schema: str = Field("timestore", min_length=1, max_length=63, description="Schema of the catalog's tables.")
    storage_url: str | None = Field(
        None,
        description="Where data files go: a directory, s3://bucket/prefix, abfs://container/prefix or "
        "gs://bucket/prefix. Default: data/ in the data directory.",
    )
    storage_options: Annotated[dict[str, SecretStr], NoDecode, BeforeValidator(_named_values)] = Field(
        default_factory=dict,
        description="What an object store has to be told beside its URL, such as endpoint_url=https://s3.example.com; "
        "never credentials.",
    )
    read_cache: Bytes | None = Field(
        None,
        gt=0,
        description="Disk for copies of remote files that are read, such as 10GiB; default: a tenth of what is free in "
        "the data directory at the start, at most 10GiB. Not used where the storage is on this machine.",
    )
    writer_threads: int = Field(
        default_factory=lambda: os.cpu_count() or 1,
        ge=1,
        le=256,
        description="Threads that write files; default: cores.",
    )
    memory_budget: Bytes = Field(
        default_factory=lambda: min(available_memory_bytes() // 4, 4 * GIB),
        description="Memory for all that is buffered, written and read, such as 2GiB; default: a quarter of the memory "
        "there is, at most 4GiB.",
    )
    upload_threads: int = Field(
        8, ge=1, le=256, description="Files that are uploaded at once, where the storage is not on this machine."
    )
    upload_timeout_s: Seconds = Field(
        300.0, gt=0, le=86_400, description="Seconds after which an upload that has not ended is given up."
    )
    staging_limit: Bytes = Field(
        4 * GIB,
        ge=MINIMUM_STAGING,
        description="Disk for files that wait for their upload and for spilled rows; full, it slows clients down.",
    )
    max_running_puts: int = Field(128, ge=1, le=10_000, description="Puts that may run at once.")
    max_batch_bytes: Bytes = Field(256 << 20, gt=0, description="Largest record batch.")
    max_windows_per_put: int = Field(1_000, ge=1, le=100_000, description="Time windows that one put may touch.")
    put_idle_timeout_s: Seconds = Field(
        60.0, gt=0, le=86_400, description="Seconds after which a put whose client sends nothing is given up."
    )
    shutdown_grace_s: Seconds = Field(30.0, ge=0, description="Seconds that running puts get to finish at shutdown.")
    lease_s: Seconds = Field(30.0, ge=5, description="Seconds after which a silent server counts as gone.")
    retention: Annotated[Duration, BeforeValidator(_duration)] = Field(
        Duration.parse("7d"),
        description="How long removed rows stay readable at older versions, and their files in storage: 7d, 12h, 30m.",
    )
    duckdb_storage_version: str = Field(
        "v1.5.0", pattern=r"^v\d+\.\d+\.\d+$", description="Format of data files: what this DuckDB and later can open."
    )
    log_format: Literal["auto", "json", "console"] = Field(
        "auto", description="Log lines as JSON or for people; auto: for people on a terminal."
    )
    log_level: Literal["debug", "info", "warning", "error"] = Field("info", description="Least severe lines to log.")

    @classmethod
    def load(cls, config: Path | None, overrides: dict[str, Any]) -> Self:
        """Read all sources; raises ``SettingsError`` with a message for people."""

        class Configured(cls):  # type: ignore[misc, valid-type]  # pydantic-settings takes the file from the class
            @classmethod
            def settings_customise_sources(
                cls, settings_cls: type[BaseSettings], **sources: PydanticBaseSettingsSource
            ) -> tuple[PydanticBaseSettingsSource, ...]:
                file = (TomlConfigSettingsSource(settings_cls, config),) if config is not None else ()
                return (sources["init_settings"], sources["env_settings"], *file)

        if config is not None and not config.is_file():
            raise SettingsError(f"there is no configuration file {config}")
        if unknown := sorted(name for name in os.environ if name.startswith(ENV_PREFIX) and not _is_known(name)):
            raise SettingsError(
                f"the environment has {unknown}, and no setting is named so; see timestore serve --help"
            )
        try:
            loaded: Self = Configured(**overrides)
        except ValidationError as exc:
            raise SettingsError("; ".join(_problems(exc))) from exc
        except (tomllib.TOMLDecodeError, UnicodeDecodeError, OSError) as exc:
            raise SettingsError(f"the configuration file {config} cannot be read: {exc}") from exc
        return loaded

    def plain_storage_options(self) -> dict[str, str]:
        """Return the options of the storage as they were given: for opening it, and nothing else."""
        return {name: value.get_secret_value() for name, value in self.storage_options.items()}

    @model_validator(mode="after")
    def _check(self) -> Self:
        if self.memory_budget < MINIMUM_BUDGET:
            raise ValueError(f"memory_budget is {self.memory_budget}, at least {MINIMUM_BUDGET} (256MiB) is needed")
        self._check_access()
        return self

    def _check_access(self) -> None:
        if (self.tls_cert is None) != (self.tls_key is None):
            raise ValueError("tls_cert and tls_key belong together: give both or neither")
        if self.tls_client_ca is not None and self.tls_cert is None:
            raise ValueError("tls_client_ca needs tls_cert and tls_key: without TLS there are no client certificates")
        if len({each is None for each in (self.jwt_issuer, self.jwt_audience, self.jwt_jwks)}) != 1:
            raise ValueError("jwt_issuer, jwt_audience and jwt_jwks belong together: give all or none")
        if self.jwt_jwks is not None and not is_allowed_source(self.jwt_jwks):
            raise ValueError("jwt_jwks must be a file or an https:// URL: anybody on the way could change the keys")
        if unknown := sorted(set(self.pinned_jwt_algorithms) - set(ALGORITHMS)) or not self.pinned_jwt_algorithms:
            raise ValueError(f"jwt_algorithms has {unknown}; there are {', '.join(ALGORITHMS)}")
        if self.insecure_no_auth and (self.require_auth or self.jwt_issuer is not None or self.tls_client_ca):
            raise ValueError("insecure_no_auth contradicts require_auth, jwt_issuer and tls_client_ca; leave it out")

    @property
    def authenticates(self) -> bool:
        """Whether callers must say who they are."""
        configured = self.require_auth or self.tls_cert is not None or self.jwt_issuer is not None
        return configured and not self.insecure_no_auth

    @property
    def pinned_jwt_algorithms(self) -> tuple[str, ...]:
        return tuple(name.strip() for name in self.jwt_algorithms.split(",") if name.strip())


def client_variable(name: str) -> str | None:
    """Return what one of ``CLIENT_VARIABLES`` says for client commands; None if it says nothing."""
    assert name in CLIENT_VARIABLES
    return os.environ.get(name) or None


class SettingsError(Exception):
    """A setting that cannot be used; the message says which and why."""


def _problems(exc: ValidationError) -> list[str]:
    return [
        f"{'.'.join(str(part) for part in problem['loc']) or 'settings'}: {problem['msg']}" for problem in exc.errors()
    ]


def _is_known(variable: str) -> bool:
    return variable in CLIENT_VARIABLES or variable.removeprefix(ENV_PREFIX).lower() in Settings.model_fields
