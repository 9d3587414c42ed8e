"""What the C library does with freed memory: keep it for the next batch, as long as there is little of it.

A batch comes in messages of megabytes, which gRPC takes from ``malloc`` and gives back as soon as the batch is written.
By default they come from the kernel each time and go back to it, page by page. That was a fifth of a put's processor
time.
"""

from __future__ import annotations

import ctypes

# From malloc.h. Only glibc has them; where they do not exist, memory is as it was.
_M_TRIM_THRESHOLD = -1
_M_MMAP_THRESHOLD = -3
_M_ARENA_MAX = -8
_LARGEST_MMAP_THRESHOLD = 32 << 20  # glibc takes no larger one


def keep_freed_memory(most_bytes: int) -> None:
    """Let ``malloc`` keep up to so many free bytes at the end of its heap. Call it before other threads start.

    There is one heap for all threads: with one for each, a batch that one thread reads and another frees lies in many,
    each of which keeps memory for itself. Batches larger than 32 MiB go on coming from the kernel.
    """
    mallopt = getattr(ctypes.CDLL(None), "mallopt", None)
    if mallopt is None:
        return
    mallopt(_M_ARENA_MAX, 1)
    mallopt(_M_MMAP_THRESHOLD, _LARGEST_MMAP_THRESHOLD)
    mallopt(_M_TRIM_THRESHOLD, min(most_bytes, 2**31 - 1))
