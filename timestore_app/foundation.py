"""What both sides of a server stand on: its directory, its catalog and its storage targets."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from uuid import UUID

from catalog.connections import Connections
from catalog.ledger import Ledger
from catalog.lifecycle import Lifecycle
from catalog.manifests import Manifests
from catalog.migrate import migrate
from catalog.storage_targets import TargetRegister
from storage.opening import open_store
from storage.targets import Targets
from timestore_app.catalog_postgres import START_TIMEOUT_S
from timestore_app.closing import OnClose
from timestore_app.data_directory import DataDirectory
from timestore_app.settings import Settings


@dataclass(frozen=True, slots=True, kw_only=True)
class Foundation:
    """``on_close`` is told of each part how it is closed, in the order of their start."""

    settings: Settings
    directory: DataDirectory
    on_close: OnClose
    connections: Connections
    ledger: Ledger
    lifecycle: Lifecycle
    manifests: Manifests
    register: TargetRegister
    targets: Targets


def lay_foundation(
    settings: Settings, directory: DataDirectory, dsn: Callable[[], str], run_id: UUID, on_close: OnClose
) -> Foundation:
    """Bring the catalog up to date, connect to it and open the storage; raises ``TimestoreError``."""
    migrate(dsn(), settings.catalog_schema)
    connections = Connections(dsn=dsn, schema=settings.catalog_schema)
    on_close("catalog connections", connections.close)
    connections.open(timeout_s=START_TIMEOUT_S)
    register = TargetRegister(connections=connections)
    default = open_store(settings.storage_url or str(directory.data), settings.plain_storage_options())
    return Foundation(
        settings=settings,
        directory=directory,
        on_close=on_close,
        connections=connections,
        ledger=Ledger(connections=connections, run_id=run_id),
        lifecycle=Lifecycle(connections=connections),
        manifests=Manifests(connections=connections),
        register=register,
        targets=Targets(default=default, added=register.targets),
    )
