"""The digest of many types in many forms, fixed for ever in a file that another language can use as well."""

import base64
import json
from pathlib import Path

import pyarrow as pa
import pytest

from timestore.digest import PayloadDigest, fingerprint

VECTORS = json.loads((Path(__file__).parent / "digest_vectors.json").read_text())
KEY = {"site": "Zürich", "region": "eu"}


@pytest.mark.parametrize("name", VECTORS)
def test_every_form_has_the_digest_in_the_file(name):
    """Each entry has Arrow IPC streams of the same rows, in other forms, batches and compressions: one digest and one
    fingerprint for all of them, which no later version may change.
    """
    for encoded in VECTORS[name]["streams"]:
        reader = pa.ipc.open_stream(base64.b64decode(encoded))
        running = PayloadDigest(reader.schema)
        for batch in reader:
            running.update(batch)
        found = running.finish()
        assert found == VECTORS[name]["digest"]
        assert fingerprint(key=KEY, schema=reader.schema, payload_digest=found) == VECTORS[name]["fingerprint"]


def test_no_two_entries_are_alike():
    """The vectors tell what they are about apart."""
    assert len({vector["digest"] for vector in VECTORS.values()}) == len(VECTORS)
    assert len({vector["fingerprint"] for vector in VECTORS.values()}) == len(VECTORS)
