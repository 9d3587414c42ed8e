"""A client process of the soak: threads that put, repeat, contradict themselves, give up, and stop halfway.

``python -m tests.soak.client`` is given its part as JSON on one line of its standard input, and tells on its standard
output what it does. It judges nothing. Killed at any moment, all that it told is known.
"""

from __future__ import annotations

import json
import random
import sys
import threading
import time
from collections import deque
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pyarrow as pa

import timestore
from tests.fixtures.raw_put import RawPut, command
from tests.soak.events import Abandoned, Answered, Event, HalfSent, Refused, Sending, Stage, Turn, encode
from tests.soak.sent import RETENTION, sent
from tests.soak.servers import Servers
from timestore.errors import RetryableError, TimestoreError

PATIENCE_S = 45.0
HALF_TIMEOUT_S = 10.0
REMEMBERED = 20  # puts of a thread, to be repeated or contradicted
EXPIRING, DROPPED = "expiring", "dropped"  # what is done to a dataset; nothing, in the others

Tell = Callable[[Event], None]


@dataclass(frozen=True, slots=True, kw_only=True)
class Place:
    """Where a put goes: a dataset, and the idempotency key in it."""

    kind: str
    dataset: str
    key: str


class Voice:
    """Tells events, each at once and whole. Thread safe."""

    def __init__(self) -> None:
        self._lock = threading.Lock()

    def tell(self, event: Event) -> None:
        """Write one line; when this returns, it survives us."""
        with self._lock:
            sys.stdout.write(encode(event))
            sys.stdout.flush()


class Thread:
    """One thread of a client: everything it does follows from its name, and from what servers answer."""

    def __init__(self, *, name: str, number: int, data_dirs: list[Path], stage: Path, tell: Tell) -> None:
        self._name = name
        self._number = number
        self._data_dirs = data_dirs
        self._stage = stage
        self._tell = tell
        self._dice = random.Random(name)
        self._servers = self._some_servers()
        self._made = 0
        self._done: deque[tuple[Place, str]] = deque(maxlen=REMEMBERED)

    def run(self, in_doubt: list[tuple[Place, str]]) -> None:
        """Repeat what another life of this client left in doubt, then do one thing after another until all is over."""
        first = Stage.from_text(self._stage.read_text())
        for place, put in in_doubt:
            if place.dataset in first.datasets.values():
                self._put(place, put)
        actions = (
            self._put_new,
            self._repeat,
            self._contradict,
            self._abandon,
            self._race,
            self._twins,
            self._stop_halfway,
        )
        while not (stage := Stage.from_text(self._stage.read_text())).over:
            self._tell(Turn(thread=self._number, stage=stage.number))
            [action] = self._dice.choices(actions, weights=(12, 4, 3, 1, 1, 1, 1))
            action(stage)
            time.sleep(self._dice.uniform(0, stage.pause_s))

    def _put_new(self, stage: Stage) -> None:
        self._put(self._new_place(stage), self._new_put())

    def _repeat(self, stage: Stage) -> None:
        """Send again what is done, as a client that did not hear of it."""
        if (done := self._one_done(stage)) is not None:
            self._put(*done)

    def _contradict(self, stage: Stage) -> None:
        """Send other rows under a key that is used."""
        if (done := self._one_done(stage)) is not None:
            self._put(done[0], self._new_put())

    def _abandon(self, stage: Stage) -> None:
        """Give a key up, whatever became of it before, and try to use it all the same."""
        place, put = self._new_place(stage), self._new_put()
        if place.kind == DROPPED:
            return  # a key is given up in one incarnation of a dataset only
        if self._dice.random() < 0.3:
            self._put(place, put)
        self._give_up(place, self._servers)
        self._put(place, put)

    def _race(self, stage: Stage) -> None:
        """Give a key up while a put with it is under way."""
        place, put = self._new_place(stage), self._new_put()
        if place.kind == DROPPED:
            return
        with ThreadPoolExecutor(1) as other:
            done = other.submit(self._put, place, put)
            self._give_up(place, self._some_servers())
            done.result()

    def _twins(self, stage: Stage) -> None:
        """Send the same put twice at once, to any servers."""
        place, put = self._new_place(stage), self._new_put()
        if place.kind == DROPPED:
            return  # either could be of another incarnation, and what a killed client has not told would be unclear
        with ThreadPoolExecutor(1) as other:
            done = other.submit(self._put, place, put, self._some_servers())
            self._put(place, put)
            done.result()

    def _stop_halfway(self, stage: Stage) -> None:
        """Send half of a put and end without its sign, then send the whole one with the same key."""
        place, put = self._new_place(stage), self._new_put()
        content = sent(put)
        self._tell(Sending(dataset=place.dataset, key=place.key, put=put))
        try:
            half = RawPut(
                self._servers.url(),
                command(dataset=place.dataset, key={"site": content.site}, idempotency_key=place.key),
                content.rows.schema,
                timeout_s=HALF_TIMEOUT_S,
            )
            half.send(content.rows.slice(0, max(1, content.rows.num_rows // 2)))
            half.finish()
            kind = "committed"
        except TimestoreError as exc:
            kind = exc.kind
        except (AssertionError, OSError, pa.ArrowException):  # the connection broke: nobody said anything
            kind = "unreachable"
        self._tell(HalfSent(dataset=place.dataset, key=place.key, put=put, kind=kind))
        self._put(place, put)

    def _put(self, place: Place, put: str, servers: Servers | None = None) -> None:
        content = sent(put)
        create = {"retention": RETENTION} if place.kind == EXPIRING else None

        def append(client: timestore.Client) -> timestore.Receipt:
            return client.append(
                place.dataset, content.rows, key={"site": content.site}, idempotency_key=place.key, create=create
            )

        self._tell(Sending(dataset=place.dataset, key=place.key, put=put))
        try:
            receipt = (servers or self._servers).call(append, deadline_s=PATIENCE_S)
        except TimestoreError as exc:
            self._tell(
                Refused(
                    dataset=place.dataset,
                    key=place.key,
                    put=put,
                    kind=exc.kind,
                    message=exc.message,
                    in_doubt=isinstance(exc, RetryableError),
                )
            )
            return
        self._done.append((place, put))
        self._tell(Answered(dataset=place.dataset, key=place.key, put=put, receipt=receipt.as_json()))

    def _give_up(self, place: Place, servers: Servers) -> None:
        try:
            answer = servers.call(lambda client: client.abandon(place.dataset, place.key), deadline_s=PATIENCE_S)
        except TimestoreError:  # the dataset is not there yet, or nobody answers: then nothing is certain of the key
            return
        self._tell(Abandoned(dataset=place.dataset, key=place.key, receipt=answer["receipt"]))

    def _some_servers(self) -> Servers:
        return Servers(self._data_dirs, dice=random.Random(self._dice.random()))

    def _new_place(self, stage: Stage) -> Place:
        kind = self._dice.choice(sorted(stage.datasets))
        return Place(kind=kind, dataset=stage.datasets[kind], key=f"key-{self._next_name()}")

    def _new_put(self) -> str:
        return f"put-{self._next_name()}"

    def _next_name(self) -> str:
        self._made += 1
        return f"{self._name}-{self._made}"

    def _one_done(self, stage: Stage) -> tuple[Place, str] | None:
        done = [each for each in self._done if each[0].dataset in stage.datasets.values()]
        return self._dice.choice(done) if done else None


def main() -> None:
    """Run all threads until the stage says that it is over."""
    part: dict[str, Any] = json.loads(sys.stdin.readline())
    voice = Voice()
    in_doubt = [(Place(kind=kind, dataset=dataset, key=key), put) for kind, dataset, key, put in part["in_doubt"]]
    with ThreadPoolExecutor(part["threads"]) as pool:
        running = [
            pool.submit(
                Thread(
                    name=f"{part['name']}.{number}",
                    number=number,
                    data_dirs=[Path(path) for path in part["data_dirs"]],
                    stage=Path(part["stage"]),
                    tell=voice.tell,
                ).run,
                in_doubt[number :: part["threads"]],
            )
            for number in range(part["threads"])
        ]
        for thread in running:
            thread.result()


if __name__ == "__main__":
    main()
