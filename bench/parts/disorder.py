"""Disorder: rows in random order over many windows, and very many windows, against rows in order."""

from __future__ import annotations

from functools import partial

from bench.contenders.timestore_put import TimestorePut
from bench.data import SHAPES
from bench.load import Load, Rows
from bench.session import Session, in_turns

PART = "disorder"
SHAPE = "plain"

IN_ORDER = "in order"
RANDOM_SORT = "random, sort"
RANDOM_ANY = "random, any"
MANY_WINDOWS = "in order, many windows"


def measure_disorder(session: Session) -> None:
    """Let the four kinds of put take turns."""
    plan, shape = session.plan, SHAPES[SHAPE]
    rows = shape.rows_of(plan.disorder_bytes)
    in_order = Rows.make(shape, rows, days=plan.random_windows)
    shuffled = Rows.make(shape, rows, days=plan.random_windows, shuffled=True)
    many = Rows.make(shape, rows, days=plan.many_windows)
    session.tell(
        f"disorder, {SHAPE}: {rows:,} rows; {plan.random_windows} windows, in order and at random; "
        f"{plan.many_windows} windows"
    )
    loads = {
        IN_ORDER: Load(rows=in_order),
        RANDOM_SORT: Load(rows=shuffled, order="sort"),
        RANDOM_ANY: Load(rows=shuffled, order="any"),
        MANY_WINDOWS: Load(rows=many),
    }
    with session.server() as server:
        put = TimestorePut(server)
        session.recorder.durability[put.name] = put.durability
        for number in session.rounds():
            turns = [partial(_take, session, put, kind, load, number) for kind, load in loads.items()]
            in_turns(number, turns)


def _take(session: Session, put: TimestorePut, kind: str, load: Load, number: int) -> None:
    figures = put.run(load)
    if number:
        labels = {"shape": load.rows.shape, "rows": kind, "windows": str(load.rows.days)}
        session.recorder.add(PART, put.name, labels, figures, rows=load.rows.rows, size=load.rows.bytes)
