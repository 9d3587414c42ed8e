"""Every setting, once: its name, default, limits and help.

Command line > ``TIMESTORE_*`` environment > ``--config timestore.toml`` > default. Nothing else reads the environment.
"""

from __future__ import annotations

import ipaddress
import os
import tomllib
from pathlib import Path
from typing import Annotated, Any, Literal, Self

from pydantic import BeforeValidator, Field, SecretStr, ValidationError, model_validator
from pydantic_settings import BaseSettings, PydanticBaseSettingsSource, SettingsConfigDict, TomlConfigSettingsSource

from timestore.durations import Duration
from timestore.errors import TimestoreError
from timestore_app.machine import available_memory_bytes, default_data_dir
from timestore_app.units import Bytes, Seconds

ENV_PREFIX = "TIMESTORE_"
CLIENT_VARIABLES = ("TIMESTORE_URL",)  # no settings of the server
GIB = 1 << 30
MINIMUM_BUDGET = 256 << 20


def _duration(value: object) -> object:
    """Parse a duration as datasets spell theirs."""
    try:
        return Duration.parse(value) if isinstance(value, str) else value
    except TimestoreError as exc:
        raise ValueError(exc.message) from exc


class Settings(BaseSettings):
    """The frozen settings of a server."""

    model_config = SettingsConfigDict(env_prefix=ENV_PREFIX, frozen=True, extra="forbid", validate_default=True)

    data_dir: Path = Field(
        default_factory=default_data_dir, description="Everything the server keeps: catalog, staging, data files."
    )
    host: str = Field("127.0.0.1", description="Address to listen on.")
    port: int = Field(8815, ge=0, le=65535, description="Port to listen on; 0 picks a free one.")
    insecure_network: bool = Field(
        False,
        description="Listen where others can reach the server, although nobody is authenticated and nothing encrypted.",
    )
    catalog_dsn: SecretStr | None = Field(
        None, description="A Postgres >= 15 to keep the catalog in, instead of the embedded one."
    )
    catalog_schema: str = Field("timestore", min_length=1, max_length=63, description="Schema of the catalog's tables.")
    storage_url: str | None = Field(
        None, description="Where data files go: a directory or a file:// URL. Default: data/ in the data directory."
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

    @model_validator(mode="after")
    def _check(self) -> Self:
        if self.memory_budget < MINIMUM_BUDGET:
            raise ValueError(f"memory_budget is {self.memory_budget}, at least {MINIMUM_BUDGET} (256MiB) is needed")
        if not self.insecure_network and not _is_loopback(self.host):
            raise ValueError(
                f"host {self.host!r} can be reached by others, but this server authenticates nobody and encrypts "
                "nothing: use 127.0.0.1, or say --insecure-network as well"
            )
        return self


def client_url() -> str | None:
    """Return the server that TIMESTORE_URL names for client commands."""
    return os.environ.get("TIMESTORE_URL") or None


class SettingsError(Exception):
    """A setting that cannot be used; the message says which and why."""


def _problems(exc: ValidationError) -> list[str]:
    return [
        f"{'.'.join(str(part) for part in problem['loc']) or 'settings'}: {problem['msg']}" for problem in exc.errors()
    ]


def _is_known(variable: str) -> bool:
    return variable in CLIENT_VARIABLES or variable.removeprefix(ENV_PREFIX).lower() in Settings.model_fields


def _is_loopback(host: str) -> bool:
    if host == "localhost":
        return True
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return False
