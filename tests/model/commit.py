"""The commit function and ``abandon``, as the catalog runs them: one transaction each, in one step."""

from __future__ import annotations

from enum import StrEnum
from typing import NamedTuple

from tests.model.guards import Guard
from tests.model.state import Append, Call, Catalog, Put, Slice, Stage


class Verdict(StrEnum):
    """What a call of the commit function answers."""

    COMMITTED = "committed"
    REPLAYED = "replayed"
    CONFLICT = "conflict"
    ABANDONED = "abandoned"
    STALE = "planned with an older schema"
    FENCED = "an intent is condemned or gone"


class Outcome(NamedTuple):
    """A verdict, the append that it is about, and the catalog afterwards."""

    verdict: Verdict
    append: Append | None
    catalog: Catalog
    unfinished: bool = False  # an unguarded commit that has published its first slice only


def commit(catalog: Catalog, call: Call, put: Put, guards: frozenset[Guard]) -> Outcome:
    """Publish a put, or say why not: the order is that of ``commit_appends``."""
    if call.rest:
        return _commit_rest(catalog, put)
    before_lock = call.seen or catalog
    looked_at = catalog if Guard.KEY_LOOKED_UP_UNDER_LOCK in guards else before_lock
    if Guard.ABANDONED_KEY_REFUSED in guards and put.key in looked_at.abandoned:
        return Outcome(Verdict.ABANDONED, None, catalog)
    if known := find_append(looked_at, put.key):
        return Outcome(_judge(known, put, guards), known, _maybe_bumped(catalog, guards))
    if Guard.SCHEMA_REVALIDATED in guards and call.schema != catalog.schema:
        return Outcome(Verdict.STALE, None, catalog)
    if not _has_intents(catalog, put, guards):
        return Outcome(Verdict.FENCED, None, catalog)
    counted_from = catalog if Guard.VERSION_TAKEN_UNDER_LOCK in guards else before_lock
    return _publish(catalog, put, counted_from.version + 1, guards)


def find_append(catalog: Catalog, key: str) -> Append | None:
    """Return what a key stands for."""
    return next((append for append in catalog.appends if append.key == key), None)


def stages(catalog: Catalog) -> dict[str, Stage]:
    """Return the stage of each intent, by file."""
    return dict(catalog.intents)


def with_stages(catalog: Catalog, changed: dict[str, Stage | None]) -> Catalog:
    """Return a catalog in which these intents have these stages; None is a forgotten one."""
    merged: dict[str, Stage | None] = {**stages(catalog), **changed}
    kept = frozenset((file, stage) for file, stage in merged.items() if stage is not None)
    return catalog._replace(intents=kept)


def _judge(known: Append, put: Put, guards: frozenset[Guard]) -> Verdict:
    if Guard.OWN_APPEND_IS_SUCCESS in guards and known.put == put.name:
        return Verdict.COMMITTED
    if Guard.FINGERPRINT_COMPARED not in guards or known.fingerprint == put.fingerprint:
        return Verdict.REPLAYED
    return Verdict.CONFLICT


def _maybe_bumped(catalog: Catalog, guards: frozenset[Guard]) -> Catalog:
    if Guard.LOSERS_DO_NOT_BUMP in guards:
        return catalog
    return catalog._replace(version=catalog.version + 1)


def _has_intents(catalog: Catalog, put: Put, guards: frozenset[Guard]) -> bool:
    at = stages(catalog)
    for file in put.files:
        if file not in at:
            if Guard.MISSING_INTENT_REFUSED in guards:
                return False
        elif at[file] is not Stage.RECORDED and Guard.CONDEMNED_INTENT_REFUSED in guards:
            return False
    return True


def _publish(catalog: Catalog, put: Put, version: int, guards: frozenset[Guard]) -> Outcome:
    append = Append(put.key, put.name, put.fingerprint, version)
    files = put.files if Guard.ONE_TRANSACTION in guards else put.files[:1]
    changes_schema = bool(put.column) and put.column != catalog.column
    after = catalog._replace(
        version=version,
        schema=catalog.schema + changes_schema,
        column=put.column or catalog.column,
        appends=catalog.appends | {append},
        slices=catalog.slices | {Slice(put.name, file, version) for file in files},
    )
    if Guard.INTENTS_TAKEN in guards:
        after = with_stages(after, dict.fromkeys(files))
    return Outcome(Verdict.COMMITTED, append, after, unfinished=len(files) < len(put.files))


def _commit_rest(catalog: Catalog, put: Put) -> Outcome:
    rest = {Slice(put.name, file, catalog.version) for file in put.files[1:]}
    after = with_stages(catalog._replace(slices=catalog.slices | rest), dict.fromkeys(put.files[1:]))
    return Outcome(Verdict.COMMITTED, find_append(catalog, put.key), after)
