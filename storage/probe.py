"""What a store lets one do: tried with a small object, which is gone afterwards."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from uuid import uuid4

from storage.store import Store
from timestore.errors import TimestoreError

_PREFIX = "timestore.trial/"  # no dataset's name has a dot
_CONTENT = b"written by timestore storage test; it may be deleted"


@dataclass(frozen=True, slots=True, kw_only=True)
class ProbeStep:
    """One thing that was tried."""

    step: str
    ok: bool
    reason: str | None = None  # why it does not work

    def as_json(self) -> dict[str, object]:
        return {"step": self.step, "ok": self.ok, "reason": self.reason}


def is_probe(path: str) -> bool:
    """Say whether an object is one that a probe left which could not delete it, or died."""
    return path.startswith(_PREFIX)


def probe(store: Store) -> list[ProbeStep]:
    """Write, read back, list, create once more and delete an object; of what cannot be written, no more is tried."""
    path = f"{_PREFIX}{uuid4()}"
    steps = [_try("write", lambda: _write(store, path))]
    if steps[0].ok:
        steps += _with_object(store, path)
    return steps


def _with_object(store: Store, path: str) -> Iterator[ProbeStep]:
    yield _try("read", lambda: _read(store, path))
    yield _try("list", lambda: _list(store, path))
    yield _try("create only if absent", lambda: _create_again(store, path))
    yield _try("delete", lambda: _delete(store, path))


def _try(step: str, work: Callable[[], str | None]) -> ProbeStep:
    try:
        reason = work()
    except TimestoreError as failure:
        reason = failure.message
    except FileNotFoundError:
        reason = "the object that was just written is not found"
    return ProbeStep(step=step, ok=reason is None, reason=reason)


def _write(store: Store, path: str) -> str | None:
    return None if store.put_bytes(_CONTENT, path) else "an object that was never written is there already"


def _read(store: Store, path: str) -> str | None:
    with store.open(path) as stream:
        return None if stream.read() == _CONTENT else "other bytes come back than were written"


def _list(store: Store, path: str) -> str | None:
    found = [each.path for each in store.list(_PREFIX)]
    return None if path in found else "the object that was just written is not listed"


def _create_again(store: Store, path: str) -> str | None:
    if store.put_bytes(_CONTENT, path):
        return "the store writes over what is there; Timestore needs one that can create only if absent"
    return None


def _delete(store: Store, path: str) -> str | None:
    store.delete(path)
    return None if store.stat(path) is None else "the object is still there after it was deleted"
