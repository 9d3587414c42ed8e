"""The soak in short, and that it would notice."""

from __future__ import annotations

import re
import subprocess
import sys
from typing import Any

import pytest

from tests.fixtures.server import same_user_environment
from tests.soak.book import Book
from tests.soak.checks import ALL_DAYS, by_put, same_rows
from tests.soak.events import Abandoned, Answered, HalfSent, Refused, Sending, decode, encode
from tests.soak.sent import OLD_DAYS, sent

MINUTES = "0.13"
DONE = ("receipts, first", "receipts, replayed", "refused, idempotency_conflict", "manifests compared", "rows compared")


@pytest.mark.timeout(300)
def test_nothing_is_lost_and_nothing_twice() -> None:
    """Clients, servers and Postgres die, connections are cut: every receipt holds, and no file is left over."""
    command = [sys.executable, "-m", "tests.soak", "--minutes", MINUTES, "--appends-per-dataset", "20"]
    command += [f"--until={name}" for name in DONE]
    run = subprocess.run(command, capture_output=True, text=True, check=False, env=same_user_environment())

    assert run.returncode == 0, run.stdout[-4000:] + run.stderr[-8000:]
    for name in DONE:
        assert re.search(rf"^{name} +[1-9]", run.stdout, re.MULTILINE), f"{name}:\n{run.stdout}"


class Heard:
    """A book, and the violations that it reported."""

    def __init__(self) -> None:
        self.violations: list[str] = []
        self.book = Book(violation=self.violations.append)

    def receipt(self, put: str, *, key: str = "k", version: int = 1, incarnation: str = "i", **changes: Any) -> None:
        """A put was sent and got a receipt."""
        receipt = {"incarnation": incarnation, "version": version, "rows": sent(put).rows.num_rows, "replayed": False}
        self.book.hear(Sending(dataset="d", key=key, put=put))
        self.book.hear(Answered(dataset="d", key=key, put=put, receipt=receipt | changes))

    def saw(self, version: int, *puts: str) -> None:
        """A read at a version showed these puts."""
        self.book.saw("d", "i", version, set(puts), judged=set(), some_expired=False)


@pytest.fixture(name="heard")
def _heard() -> Heard:
    return Heard()


def test_honest_answers_are_no_violations(heard: Heard) -> None:
    """First receipts, replays, conflicts, given-up keys and reads at any version, as they must be."""
    heard.receipt("a", version=1)
    heard.receipt("a", version=1, replayed=True)
    heard.book.hear(_refused("b", "idempotency_conflict"))
    heard.book.hear(Sending(dataset="d", key="k2", put="c"))
    heard.saw(1, "a")
    heard.saw(2, "a", "c")
    heard.receipt("c", key="k2", version=2)
    heard.saw(0)
    heard.book.hear(Abandoned(dataset="d", key="k3", receipt=None))
    heard.book.hear(_refused("e", "idempotency_abandoned", key="k3"))
    heard.receipt("b", incarnation="another")  # dropped meanwhile, so the key was free again
    heard.book.close("d")

    assert heard.violations == []


def test_changed_receipts_are_noticed(heard: Heard) -> None:
    """A receipt never changes."""
    heard.receipt("a", version=1)
    heard.receipt("a", version=2, replayed=True)

    assert "changed" in heard.violations[0]


def test_accepted_conflicts_are_noticed(heard: Heard) -> None:
    """A key stands for one put."""
    heard.receipt("a")
    heard.receipt("b", replayed=True)

    assert any("stands for a, and b got a receipt" in each for each in heard.violations)


def test_invented_conflicts_are_noticed(heard: Heard) -> None:
    """A put is not in conflict with itself."""
    heard.receipt("a")
    heard.book.hear(_refused("a", "idempotency_conflict"))
    heard.book.close("d")

    assert "refused as a conflict" in heard.violations[0]


def test_lost_and_early_puts_are_noticed(heard: Heard) -> None:
    """What has committed is there from its version on and not before, whether the read or the receipt came first."""
    heard.receipt("a", version=2)
    heard.saw(2)
    heard.saw(1, "a")
    heard.book.hear(Sending(dataset="d", key="k2", put="b"))
    heard.saw(5, "a")
    heard.receipt("b", key="k2", version=4)

    assert [each.split(", but ")[1] for each in heard.violations] == [
        "its rows were missing at version 2",
        "its rows were visible at version 1",
        "its rows were missing at version 5",
    ]


def test_rows_without_an_append_are_noticed(heard: Heard) -> None:
    """What was visible once, got a receipt, or gets one by being repeated."""
    heard.saw(1, "a")
    heard.book.close("d")

    assert "it has no receipt" in heard.violations[0]


def test_abandoned_keys_that_commit_are_noticed(heard: Heard) -> None:
    """Whichever is heard of first."""
    heard.book.hear(Abandoned(dataset="d", key="k", receipt=None))
    heard.receipt("a")
    heard.receipt("b", key="k2")
    heard.book.hear(Abandoned(dataset="d", key="k2", receipt=None))

    assert len(heard.violations) == 2


def test_other_refusals_and_halves_are_noticed(heard: Heard) -> None:
    """Nothing that clients do here is refused otherwise, and half a stream never commits."""
    heard.book.hear(_refused("a", "internal"))
    heard.book.hear(HalfSent(dataset="d", key="k", put="a", kind="committed"))

    assert len(heard.violations) == 2


def test_rows_are_compared_one_by_one() -> None:
    """A row that is missing, twice, changed, in another order or under another key is not what was sent."""
    put = next(name for name in map(str, range(100)) if len(sent(name).rows_by_day) > 1 and not sent(name).is_all_old)
    content = sent(put)
    whole = content.rows.append_column("site", [[content.site] * content.rows.num_rows])
    [(_, rows)] = by_put(whole)

    assert same_rows(rows, content, ALL_DAYS)
    last = whole.num_rows - 1
    for wrong in (whole.slice(1), whole.take([*range(last), last, last]), whole.take([*range(1, last + 1), 0])):
        assert not same_rows(wrong, content, ALL_DAYS)
    assert not same_rows(whole.set_column(whole.num_columns - 1, "site", [["east"] * (last + 1)]), content, ALL_DAYS)
    if content.rows_by_day.keys() & set(OLD_DAYS):
        assert not same_rows(rows, content, ALL_DAYS - set(OLD_DAYS))


def test_events_survive_their_line() -> None:
    """What a client tells is what is heard."""
    event = Refused(dataset="d", key="k", put="p", kind="internal", message='a "quote"\n', in_doubt=True)

    assert decode(encode(event)) == event


def _refused(put: str, kind: str, key: str = "k") -> Refused:
    return Refused(dataset="d", key=key, put=put, kind=kind, message="", in_doubt=False)
