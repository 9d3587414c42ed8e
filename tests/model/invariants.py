"""What must hold at every moment, and what at the end. Each answers with the sentence that is broken, or nothing."""

from __future__ import annotations

from collections.abc import Callable

from tests.model.state import Answer, State, World


def broken_now(world: World, state: State) -> str | None:
    """Return the first invariant that a state breaks."""
    for invariant in _INVARIANTS:
        if broken := invariant(world, state):
            return broken
    return None


def broken_at_the_end(state: State) -> str | None:
    """Return what is wrong when nobody has anything left to do."""
    if state.catalog.intents:
        return "intents are left over at the end"
    if state.storage != {part.file for part in state.catalog.slices}:
        return "the storage does not hold exactly what is visible at the end"
    return None


def _one_append_for_each_key(world: World, state: State) -> str | None:
    keys = [append.key for append in state.catalog.appends]
    return "a key has two appends" if len(set(keys)) < len(keys) else None


def _receipts_hold(world: World, state: State) -> str | None:
    appends = {(append.key, append.put, append.version) for append in state.catalog.appends}
    for receipt in state.receipts:
        if (receipt.key, receipt.put, receipt.version) not in appends:
            return "a receipt was given for what is not in the catalog"
        if receipt.fingerprint != receipt.sent_fingerprint:
            return "a receipt was given for other rows than were sent"
    if len({(receipt.key, receipt.put, receipt.version) for receipt in state.receipts}) > len(
        {receipt.key for receipt in state.receipts}
    ):
        return "a key has two receipts"
    return None


def _visible_is_there(world: World, state: State) -> str | None:
    missing = any(part.file not in state.storage for part in state.catalog.slices)
    return "a visible slice has no bytes" if missing else None


def _bytes_are_known(world: World, state: State) -> str | None:
    known = {part.file for part in state.catalog.slices} | {file for file, _ in state.catalog.intents}
    return "there are bytes that neither a slice nor an intent knows" if state.storage - known else None


def _appends_are_whole(world: World, state: State) -> str | None:
    files = {put.name: set(put.files) for put in world.puts}
    for append in state.catalog.appends:
        seen = {part.file for part in state.catalog.slices if part[::2] == (append.put, append.version)}
        if seen != files[append.put]:
            return "an append is not whole at its one version"
    return None


def _versions_have_no_gaps(world: World, state: State) -> str | None:
    versions = sorted(append.version for append in state.catalog.appends)
    if versions != list(range(1, state.catalog.version + 1)):
        return "versions are not counted 1, 2, 3 with one commit each"
    return None


def _refused_is_invisible(world: World, state: State) -> str | None:
    visible = {append.put for append in state.catalog.appends}
    for put, attempt in zip(world.puts, state.attempts, strict=True):
        if put.name in visible and attempt.answer is Answer.REFUSED:
            return "a put that was refused is visible"
        if put.name in visible and attempt.answer is Answer.REPLAYED:
            return "a put was answered as a replay though its own append committed"
    return None


def _abandoned_never_commits(world: World, state: State) -> str | None:
    abandoning = state.abandoning
    if abandoning is None or abandoning.answer is not Answer.ABANDONED:
        return None
    committed = any(append.key == abandoning.key for append in state.catalog.appends)
    return "a key was abandoned and has committed" if committed else None


def _schema_fits(world: World, state: State) -> str | None:
    visible = {append.put for append in state.catalog.appends}
    for put in world.puts:
        if put.name in visible and put.column and put.column != state.catalog.column:
            return "visible rows do not fit the dataset's schema"
    return None


def _fsck_tells_the_truth(world: World, state: State) -> str | None:
    false = state.fsck is not None and state.fsck.false_alarms
    return "fsck calls a file an orphan that the catalog knows" if false else None


_INVARIANTS: tuple[Callable[[World, State], str | None], ...] = (
    _one_append_for_each_key,
    _receipts_hold,
    _visible_is_there,
    _bytes_are_known,
    _appends_are_whole,
    _versions_have_no_gaps,
    _refused_is_invisible,
    _abandoned_never_commits,
    _schema_fits,
    _fsck_tells_the_truth,
)
