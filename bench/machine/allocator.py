"""How the C library keeps freed memory: brought to one stated state before anything is timed on a CPU.

glibc gives blocks above a threshold back to the system when they are freed, and takes them anew, page by page, when
they are asked for again: one page fault for every 4 KiB. The threshold begins at 128 KiB and rises to the size of the
largest block that was ever freed, up to 32 MiB (mallopt(3), M_MMAP_THRESHOLD), and the heap's end is given back from
twice that on. So the first network of a process paid for page faults that the second did not see: ResNet-18 under
amp_bf16 had 6,816 in each step as first row and none as second (two cores, glibc 2.36, torch 2.14.1). `settle` puts
both thresholds where glibc would raise them to, so that every row of every process finds the same; and it gives back
what is free now, which a network would otherwise fill before the process grows.
"""

from __future__ import annotations

import ctypes
import os
from contextlib import suppress

MIB = 2**20
THRESHOLDS = {-3: 32 * MIB, -1: 64 * MIB}
"""<malloc.h>: M_MMAP_THRESHOLD and M_TRIM_THRESHOLD, in bytes. 32 MiB is the most that glibc takes."""

SETTLED = "32 MiB, 64 MiB"
"""What a record says of them."""

OTHERS_SAY = ("GLIBC_TUNABLES", "LD_PRELOAD")
"""Variables that may bring other thresholds, or another allocator."""


def settle() -> None:
    """Set the thresholds, unless the user's environment says otherwise or there is no glibc."""
    if state() is not None:
        library = ctypes.CDLL(None)
        for parameter, size in THRESHOLDS.items():
            library.mallopt(parameter, size)
        library.malloc_trim(0)


def state() -> str | None:
    """What `settle` brings a process to, in words; None where it does nothing."""
    if any(name.startswith("MALLOC_") or (name in OTHERS_SAY and "malloc" in os.environ[name]) for name in os.environ):
        return None
    with suppress(OSError, AttributeError, ValueError):  # another C library has no such name
        if os.confstr("CS_GNU_LIBC_VERSION"):
            return SETTLED
    return None
