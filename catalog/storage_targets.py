"""The storage targets that the catalog knows beside 'default', which each server is told by its settings."""

from __future__ import annotations

from dataclasses import dataclass
from uuid import UUID

from psycopg.types.json import Jsonb

from catalog.connections import Connections
from timestore.errors import error
from timestore.storage_target import StorageTarget, no_such_storage


@dataclass(frozen=True, slots=True, kw_only=True)
class StorageUse:
    """What is visible in a storage target."""

    datasets: int = 0
    slices: int = 0
    bytes: int = 0  # of data files


class TargetRegister:
    """Knows and remembers storage targets. Thread safe; a name stands for one root for ever."""

    def __init__(self, *, connections: Connections) -> None:
        self._connections = connections

    def targets(self) -> list[StorageTarget]:
        """Return all targets but 'default', by name."""
        rows = self._connections.read("list_storage_targets")
        return [StorageTarget(name=name, url=url, options=options) for name, url, options in rows]

    def uses(self) -> dict[str, StorageUse]:
        """Return how much is in each target that has a dataset."""
        rows = self._connections.read("count_storage_targets")
        return {name: StorageUse(datasets=datasets, slices=slices, bytes=size) for name, datasets, slices, size in rows}

    def add(self, target: StorageTarget, root_id: UUID, *, horizon: int) -> None:
        """Remember a target whose root is marked as its own; raises ``storage_exists`` if name or root is taken."""
        parameters: dict[str, object] = {
            "name": target.name,
            "url": target.url,
            "options": Jsonb(dict(target.options)),
            "root_id": root_id,
            "horizon": horizon,
        }
        if not self._connections.write("add_storage_target", parameters):
            raise error(
                "storage_exists",
                f"there is a storage named {target.name!r} already, or one at {target.url}; see timestore storage list",
                details={"storage": target.name},
            )

    def change(self, target: StorageTarget) -> None:
        """Say where a target's root is now. No server may be running. Raises ``storage_not_found``."""
        parameters: dict[str, object] = {
            "name": target.name,
            "url": target.url,
            "options": Jsonb(dict(target.options)),
        }
        if not self._connections.write("change_storage_target", parameters):
            raise no_such_storage(target.name, [each.name for each in self.targets()])
