"""Payload digests: what a put carried, whatever form it was carried in.

Two streams have the same digest if and only if (up to the collisions of a 128-bit hash) they hold the same logical rows
in the same order under the same column names and logical types. How the rows were cut into batches, compressed, sliced
or encoded does not matter. The format is ``d1``, fixed for ever; docs/reference/payload-digest.md defines it byte by
byte. The hash is fast, not cryptographic: it tells an honest retry from another payload and proves nothing about
malice.
"""

from timestore.digest.logical import logical_schema
from timestore.digest.payload import PayloadDigest, fingerprint

__all__ = ["PayloadDigest", "fingerprint", "logical_schema"]
