"""Bulk: one load of rows, as fast as it goes, by everybody."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import ExitStack, closing
from dataclasses import dataclass
from functools import partial

from bench.contenders import Contender
from bench.contenders.disk import Disk
from bench.contenders.duckdb_files import DuckDBFiles
from bench.contenders.flight_drop import FlightDrop
from bench.contenders.our_writers import OurWriters
from bench.contenders.peer import PEERS, Peer
from bench.contenders.timestore_put import TimestorePut
from bench.data import SHAPES, Shape
from bench.environments import environment_of
from bench.load import Load, Rows
from bench.measuring import AbsentError
from bench.results import Absence
from bench.session import Session, in_turns

PART = "bulk"


@dataclass(frozen=True, slots=True, kw_only=True)
class Turn:
    """One contender under one load."""

    contender: Contender
    load: Load
    labels: dict[str, str]


def measure_bulk(session: Session) -> None:
    """Let all contenders take turns on each shape."""
    with ExitStack() as stack:
        drop = stack.enter_context(FlightDrop())
        files = [
            stack.enter_context(closing(DuckDBFiles(folder=session.folder, enums=enums))) for enums in (False, True)
        ]
        writers = stack.enter_context(closing(OurWriters(folder=session.folder)))
        alone: list[Contender] = [writers, Disk(folder=session.folder), *_peers(session)]
        for name in session.plan.shapes:
            _measure_shape(session, SHAPES[name], _Field(drop=drop, files=files, alone=alone))


@dataclass(frozen=True, slots=True, kw_only=True)
class _Field:
    """Who runs beside Timestore."""

    drop: FlightDrop
    files: list[DuckDBFiles]  # each number of windows
    alone: list[Contender]  # one stream, one window


def _measure_shape(session: Session, shape: Shape, field: _Field) -> None:
    plan = session.plan
    data = {
        days: Rows.make(shape, shape.rows_of(plan.bulk_bytes), days=days) for days in sorted({d for _, d in plan.loads})
    }
    first = next(iter(data.values()))
    session.tell(f"bulk, {shape.name}: {shape.about}; {first.rows:,} rows, {first.bytes / 1e6:,.0f} MB")
    with session.server() as server:
        order = "any" if shape.late_share else "ordered"
        turns = list(_turns(session, field, TimestorePut(server), data, order))
        for number in session.rounds():
            in_turns(number, [partial(_take, session, turn, number) for turn in turns])


def _turns(session: Session, field: _Field, put: TimestorePut, data: dict[int, Rows], order: str) -> Iterator[Turn]:
    def turn(contender: Contender, days: int, **labels: int) -> Turn:
        rows = data[days]
        texts = {"shape": rows.shape, **{name: str(value) for name, value in labels.items()}}
        load = Load(rows=rows, streams=labels.get("streams", 1), order=order)
        return Turn(contender=contender, load=load, labels=texts)

    first = min(data)
    for streams, days in session.plan.loads:
        yield turn(put, days, streams=streams, windows=days)
    for streams in sorted({streams for streams, _ in session.plan.loads}):
        yield turn(field.drop, first, streams=streams)
    for days in data:
        yield from (turn(files, days, windows=days) for files in field.files if files.fits(data[days].schema))
    yield from (turn(contender, first, windows=first) for contender in field.alone)


def _take(session: Session, turn: Turn, number: int) -> None:
    """Let a contender run, and note what it gave, unless it has dropped out of this shape."""
    shape, recorder = turn.load.rows.shape, session.recorder
    name = turn.contender.name
    if any((absence.contender, absence.shape) == (name, shape) for absence in recorder.absences):
        return
    recorder.durability[name] = turn.contender.durability
    try:
        figures = turn.contender.run(turn.load)
    except AbsentError as exc:
        session.tell(f"  without {name}: {exc}")
        recorder.leave_out(Absence(part=PART, contender=name, shape=shape, reason=str(exc)))
        return
    if number:
        recorder.add(PART, name, turn.labels, figures, rows=turn.load.rows.rows, size=turn.load.rows.bytes)


def _peers(session: Session) -> Iterator[Peer]:
    """Make the peers' environments; who cannot be installed is absent from every shape."""
    for name in session.plan.peers:
        facts = PEERS[name]
        session.tell(f"environment of {name}")
        try:
            python = environment_of(facts.requirements, parent=session.environments)
        except AbsentError as exc:
            session.tell(f"  without {name}: {exc}")
            for shape in session.plan.shapes:
                session.recorder.leave_out(Absence(part=PART, contender=name, shape=shape, reason=str(exc)))
            continue
        yield Peer(
            facts,
            python=python,
            folder=session.folder,
            postgres_dsn=session.postgres.dsn,
            postgres_cpu_s=session.postgres.cpu_s,
        )
