"""A put, message by message, as any Flight client makes it: our own client would cut large batches."""

from __future__ import annotations

import json
import time
from contextlib import suppress
from uuid import uuid4

import pyarrow as pa
import pyarrow.flight as flight

from bench.measuring import check
from timestore.descriptor import Landing, PutDescriptor
from timestore.json_object import canonical_json

TIMEOUT_S = 1_800.0  # a server that is stuck must not hold up a night's run


class RawPut:
    """One put stream on a connection of its own. ``longest_pause_s`` is the longest that the server took no batch."""

    def __init__(self, url: str, dataset: str, schema: pa.Schema) -> None:
        self._client = flight.FlightClient(url)
        descriptor = PutDescriptor(dataset=dataset, idempotency_key=str(uuid4()), landing=Landing.FILE)
        self._writer, self._answers = self._client.do_put(
            flight.FlightDescriptor.for_command(descriptor.to_command()),
            schema,
            flight.FlightCallOptions(timeout=TIMEOUT_S),
        )
        ready = self._answers.read()
        if ready is None:
            self._writer.close()  # raises why
        self.rows = 0
        self.longest_pause_s = 0.0

    def send(self, batch: pa.RecordBatch) -> None:
        """Send a batch as one message."""
        started = time.perf_counter()
        self._writer.write_batch(batch)
        self.longest_pause_s = max(self.longest_pause_s, time.perf_counter() - started)
        self.rows += batch.num_rows

    def finish(self) -> None:
        """Say that this was all, and wait for the receipt; raises ``WrongResultError`` if it is for other rows."""
        self._writer.write_metadata(canonical_json({"end": True, "rows": self.rows}).encode())
        self._writer.done_writing()
        stored = 0
        while (answer := self._answers.read()) is not None:
            fields = json.loads(answer.to_pybytes())
            stored = fields["rows"] if fields["type"] == "receipt" else stored
        self._writer.close()
        self._client.close()
        check(stored == self.rows, f"a receipt is for {stored:,} of {self.rows:,} rows")

    def break_off(self) -> None:
        """Go away without saying that this was all; the server's refusal is what is wanted."""
        with suppress(flight.FlightError):
            self._writer.close()
        self._client.close()
