"""Every step that somebody can take next: puts, their clients, the network, the sweeper, ``abandon`` and fsck.

Any lease may be over at any moment, so the sweeper may take any intent at any moment: a server that is only slow, one
that was taken over, and one that is dead look the same here. Safety rests on no clock, with one exception: within a day
an upload has landed or is lost, and a server that had recorded an intent has begun to write or never will.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from tests.model.commit import Outcome, Verdict, commit, find_append, stages, with_stages
from tests.model.guards import Guard
from tests.model.state import Answer, Append, Attempt, Call, Put, Receipt, Stage, State, Step, World

Steps = Iterator[tuple[str, State]]

MOST_CALLS = 2  # of one put: the second one is made after the first one's connection broke, or with a new plan

_BEFORE_THE_CALL = (Step.INTENDED, Step.WRITING, Step.STALE)
_OVER = (Step.ENDED, Step.CRASHED)


class Protocol:
    """The rules of one world, with all guards or with some of them broken."""

    def __init__(self, *, world: World, guards: frozenset[Guard]) -> None:
        self._world = world
        self._guards = guards
        self._owner = {file: index for index, put in enumerate(world.puts) for file in put.files}
        self._remembers_seen = not {Guard.KEY_LOOKED_UP_UNDER_LOCK, Guard.VERSION_TAKEN_UNDER_LOCK} <= guards

    def steps(self, state: State) -> Steps:
        """Yield each possible next step with the state after it."""
        for index, attempt in enumerate(state.attempts):
            if attempt.step not in _OVER:
                yield from self._put_steps(state, index, attempt, self._world.puts[index])
        for call in state.calls:
            yield from self._call_steps(state, call)
        for file in state.uploads:
            yield from self._upload_ends(state, file)
        for file in state.echoes:
            yield from self._echo_ends(state, file)
        for file, stage in state.catalog.intents:
            yield from self._sweep(state, file, stage)
        yield from self._abandon(state)
        yield from self._fsck(state)

    # A put, on its server.

    def _put_steps(self, state: State, index: int, attempt: Attempt, put: Put) -> Steps:
        yield from self._own_steps(state, index, attempt, put)
        if attempt.step in _BEFORE_THE_CALL:
            yield f"{put.name}: its client dies", _refuse(state, index)
        if attempt.step is not Step.NEW:
            yield f"{put.name}: its server crashes", _end(state, index, attempt.answer, step=Step.CRASHED)

    def _own_steps(self, state: State, index: int, attempt: Attempt, put: Put) -> Steps:
        match attempt.step:
            case Step.NEW:
                yield self._plan(state, index, put)
            case Step.PLANNED:
                yield from self._record(state, index, put)
            case Step.INTENDED:
                yield f"{put.name} begins to write its files", self._write(state, index, put)
            case Step.WRITING:
                yield from self._wait_for_writes(state, index, put)
            case Step.STALE:
                yield self._plan_again(state, index, put)
            case Step.IN_DOUBT:
                yield from self._resolve_doubt(state, index, attempt, put)
            case Step.REFUSED | Step.CONDEMNED | Step.DELETED:
                yield from self._clean_up(state, index, attempt, put)

    def _plan(self, state: State, index: int, put: Put) -> tuple[str, State]:
        """Look the key up, and the schema: a hint, for the commit looks again."""
        catalog = state.catalog
        if put.key in catalog.abandoned and Guard.ABANDONED_KEY_REFUSED in self._guards:
            return f"{put.name} is refused: its key is abandoned", _end(state, index, Answer.REFUSED)
        if known := find_append(catalog, put.key):
            if known.fingerprint == put.fingerprint or Guard.FINGERPRINT_COMPARED not in self._guards:
                return f"{put.name} is answered with the receipt of {known.put}", _answer(state, index, put, known)
            return f"{put.name} is refused: its key stands for other rows", _end(state, index, Answer.REFUSED)
        if _contradicts(state, put):
            return f"{put.name} is refused: its schema does not fit", _end(state, index, Answer.REFUSED)
        return f"{put.name} is planned", _to(state, index, step=Step.PLANNED, schema=catalog.schema)

    def _record(self, state: State, index: int, put: Put) -> Steps:
        if Guard.INTENT_BEFORE_BYTES not in self._guards:
            begun = state._replace(uploads=state.uploads | set(put.files))
            yield f"{put.name} begins to write its files", _to(begun, index, step=Step.INTENDED)
            return
        recorded = with_stages(state.catalog, dict.fromkeys(put.files, Stage.RECORDED))
        after = _to(state._replace(catalog=recorded), index, step=Step.INTENDED)
        yield f"{put.name} records its intents", after

    def _write(self, state: State, index: int, put: Put) -> State:
        if Guard.INTENT_BEFORE_BYTES not in self._guards:
            recorded = with_stages(state.catalog, dict.fromkeys(put.files, Stage.RECORDED))
            return _to(state._replace(catalog=recorded), index, step=Step.WRITING)
        begun = state._replace(uploads=state.uploads | set(put.files))
        return _to(begun, index, step=Step.WRITING, begun=self._world.is_distant)

    def _wait_for_writes(self, state: State, index: int, put: Put) -> Steps:
        under_way = state.uploads & set(put.files)
        if under_way:
            yield f"{put.name} gives up waiting for its uploads", _refuse(state, index)
        if not under_way or Guard.BYTES_BEFORE_COMMIT not in self._guards:
            yield f"{put.name} calls the commit", self._call(state, index)

    def _upload_ends(self, state: State, file: str) -> Steps:
        ended = state._replace(uploads=state.uploads - {file})
        landed = ended._replace(storage=state.storage | {file})
        yield f"the upload of {file} lands", landed
        if self._world.is_distant:
            repeated = landed._replace(echoes=state.echoes | {file})
            yield f"the upload of {file} lands by a second request; the first is under way still", repeated
        owner = self._owner[file]
        is_awaited = state.attempts[owner].step is Step.WRITING
        yield f"the upload of {file} fails", _refuse(ended, owner) if is_awaited else ended

    def _echo_ends(self, state: State, file: str) -> Steps:
        ended = state._replace(echoes=state.echoes - {file})
        yield f"the first request of the upload of {file} lands late", ended._replace(storage=state.storage | {file})
        yield f"the first request of the upload of {file} is lost", ended

    def _call(self, state: State, index: int) -> State:
        attempt = state.attempts[index]
        number = attempt.calls + 1
        seen = state.catalog if self._remembers_seen else None
        call = Call(put=index, number=number, schema=attempt.schema, seen=seen)
        return _to(state._replace(calls=state.calls | {call}), index, step=Step.CALLING, calls=number)

    def _plan_again(self, state: State, index: int, put: Put) -> tuple[str, State]:
        if _contradicts(state, put):
            return f"{put.name} finds that its schema does not fit any more", _refuse(state, index)
        planned = _to(state, index, schema=state.catalog.schema)
        return f"{put.name} plans again and calls the commit", self._call(planned, index)

    def _resolve_doubt(self, state: State, index: int, attempt: Attempt, put: Put) -> Steps:
        """Make the same call again, with the same append id; at the deadline, say that nobody knows."""
        if attempt.calls < MOST_CALLS:
            yield f"{put.name} calls the commit again", self._call(state, index)
            return
        if Guard.RECEIPT_FROM_THE_CATALOG not in self._guards:
            guessed = Append(put.key, put.name, put.fingerprint, state.catalog.version + 1)
            yield f"{put.name} takes it for committed", _answer(state, index, put, guessed)
            return
        if Guard.NOTHING_DELETED_AFTER_UNKNOWN not in self._guards:
            state = state._replace(storage=state.storage - set(put.files))
        yield f"{put.name} gives up: the outcome is unknown", _end(state, index, Answer.UNKNOWN)

    def _clean_up(self, state: State, index: int, attempt: Attempt, put: Put) -> Steps:
        """Condemn, delete, forget: each may be the last that a server does."""
        at = stages(state.catalog)
        if attempt.step is Step.REFUSED:
            own = frozenset(file for file in put.files if at.get(file) is Stage.RECORDED)
            condemned = with_stages(state.catalog, dict.fromkeys(own, Stage.CONDEMNED))
            after = _to(state._replace(catalog=condemned), index, step=Step.CONDEMNED, condemned=own)
            yield f"{put.name} condemns its intents", after
        elif attempt.step is Step.CONDEMNED and attempt.begun and Guard.BEGUN_IS_LEFT in self._guards:
            yield f"{put.name} leaves what it has uploaded to the sweeper", _end(state, index, attempt.answer)
        elif attempt.step is Step.CONDEMNED:
            # What may land later yet is left to the sweeper.
            late = state.uploads if Guard.FORGOTTEN_WHEN_UPLOAD_ENDED in self._guards else frozenset()
            after = state._replace(storage=state.storage - attempt.condemned)
            after = _to(after, index, step=Step.DELETED, condemned=attempt.condemned - late)
            yield f"{put.name} deletes its files", after
        else:
            catalog = with_stages(state.catalog, dict.fromkeys(attempt.condemned & at.keys()))
            yield f"{put.name} forgets its intents", _end(state._replace(catalog=catalog), index, attempt.answer)

    # Calls of the commit function, between a server and the catalog.

    def _call_steps(self, state: State, call: Call) -> Steps:
        put, attempt = self._world.puts[call.put], state.attempts[call.put]
        awaited = attempt.step is Step.CALLING and attempt.calls == call.number
        what = f"call {call.number} of {put.name}"
        outcome = commit(state.catalog, call, put, self._guards)
        done = state._replace(catalog=outcome.catalog, calls=state.calls - {call})
        if outcome.unfinished:
            unfinished = done._replace(calls=done.calls | {call._replace(rest=True)})
            yield f"{what} publishes its first slice", unfinished
        elif awaited:
            yield f"{what} answers: {outcome.verdict}", self._answered(done, call.put, outcome)
        else:
            yield f"{what}, of which nobody hears, ends: {outcome.verdict}", done
        if not awaited:
            yield f"{what} is lost", state._replace(calls=state.calls - {call})
        else:
            yield f"the connection of {what} breaks", _to(state, call.put, step=Step.IN_DOUBT)

    def _answered(self, state: State, index: int, outcome: Outcome) -> State:
        put = self._world.puts[index]
        match outcome.verdict:
            case Verdict.COMMITTED | Verdict.REPLAYED:
                assert outcome.append is not None  # such a verdict is about one
                answered = _answer(state, index, put, outcome.append, replayed=outcome.verdict is Verdict.REPLAYED)
                return answered if outcome.verdict is Verdict.COMMITTED else _to(answered, index, step=Step.REFUSED)
            case Verdict.STALE:
                return _to(state, index, step=Step.STALE)
            case _:
                return _refuse(state, index)

    # The sweeper, on any server.

    def _sweep(self, state: State, file: str, stage: Stage) -> Steps:
        match stage:
            case Stage.RECORDED:
                if Guard.CONDEMNED_BEFORE_DELETED not in self._guards and file in state.storage:
                    yield f"the sweeper deletes {file}", state._replace(storage=state.storage - {file})
                yield f"the sweeper condemns {file}", _staged(state, file, Stage.CONDEMNED)
            case Stage.CONDEMNED:
                gone = state._replace(storage=state.storage - {file})
                yield f"the sweeper deletes {file}", _staged(gone, file, Stage.DELETED)
            case Stage.DELETED:
                if Guard.FORGOTTEN_AFTER_A_DAY not in self._guards:
                    yield f"nobody waits a day for {file}", _staged(state, file, Stage.AGED)
                elif not self._may_come_yet(state, file):
                    yield f"a day passes for {file}", _staged(state, file, Stage.AGED)
            case Stage.AGED:
                yield from self._forget(state, file)

    def _may_come_yet(self, state: State, file: str) -> bool:
        """Say whether bytes may still be written: then a day cannot have passed."""
        may_land = state.uploads | state.echoes
        return file in may_land or state.attempts[self._owner[file]].step is Step.INTENDED

    def _forget(self, state: State, file: str) -> Steps:
        forgotten = _staged(state, file, None)
        if Guard.DELETED_AGAIN in self._guards:
            deleted = forgotten._replace(storage=state.storage - {file})
            yield f"the sweeper deletes {file} again and forgets it", deleted
        if Guard.DELETED_AGAIN not in self._guards or Guard.DELETION_CHECKED not in self._guards:
            yield f"the sweeper forgets {file}, whatever became of its deletion", forgotten

    # Clients and operators.

    def _abandon(self, state: State) -> Steps:
        abandoning, catalog = state.abandoning, state.catalog
        if abandoning is None or abandoning.answer is not Answer.NONE:
            return
        key = abandoning.key
        if not abandoning.looked and find_append(catalog, key):
            receipt = abandoning._replace(answer=Answer.RECEIPT)
            yield f"abandoning {key} is answered with its receipt", state._replace(abandoning=receipt)
        elif not abandoning.looked and Guard.ABANDONED_UNDER_LOCK not in self._guards:
            yield f"abandoning {key} finds it free", state._replace(abandoning=abandoning._replace(looked=True))
        else:
            fenced = catalog._replace(abandoned=catalog.abandoned | {key})
            abandoned = abandoning._replace(answer=Answer.ABANDONED)
            yield f"{key} is abandoned", state._replace(catalog=fenced, abandoning=abandoned)

    def _fsck(self, state: State) -> Steps:
        fsck, catalog = state.fsck, state.catalog
        if fsck is None or (fsck.listed is not None and fsck.known is not None):
            return
        known = frozenset(part.file for part in catalog.slices) | frozenset(file for file, _ in catalog.intents)
        lists_now = fsck.listed is None and (fsck.known is not None or Guard.STORAGE_LISTED_FIRST in self._guards)
        after = fsck._replace(listed=state.storage) if lists_now else fsck._replace(known=known)
        if after.listed is not None and after.known is not None:
            after = after._replace(false_alarms=(after.listed - after.known) & known)
        yield f"fsck {'lists the storage' if lists_now else 'asks the catalog'}", state._replace(fsck=after)


def _contradicts(state: State, put: Put) -> bool:
    return bool(put.column) and state.catalog.column not in ("", put.column)


def _to(state: State, index: int, **changes: Any) -> State:
    return _with_attempt(state, index, state.attempts[index]._replace(**changes))


def _with_attempt(state: State, index: int, attempt: Attempt) -> State:
    before, after = state.attempts[:index], state.attempts[index + 1 :]
    return state._replace(attempts=(*before, attempt, *after))


def _refuse(state: State, index: int) -> State:
    """Answer a put with an error; its files are cleaned up next."""
    begun = state.attempts[index].begun
    return _with_attempt(state, index, Attempt(step=Step.REFUSED, answer=Answer.REFUSED, begun=begun))


def _end(state: State, index: int, answer: Answer, *, step: Step = Step.ENDED) -> State:
    """Let a put end. What its server knew is gone, so that equal worlds are equal states."""
    return _with_attempt(state, index, Attempt(step=step, answer=answer))


def _answer(state: State, index: int, put: Put, append: Append, *, replayed: bool = False) -> State:
    """Give the client a receipt. Whether it arrives makes no difference to what must hold."""
    receipt = Receipt(put.key, append.put, append.version, put.fingerprint, append.fingerprint)
    answer = Answer.REPLAYED if replayed else Answer.RECEIPT
    return _end(state._replace(receipts=state.receipts | {receipt}), index, answer)


def _staged(state: State, file: str, stage: Stage | None) -> State:
    return state._replace(catalog=with_stages(state.catalog, {file: stage}))
