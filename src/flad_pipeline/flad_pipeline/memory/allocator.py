# SPDX-License-Identifier: Apache-2.0
"""Lets the C library give back what training frees.

glibc raises the size from which a piece of memory is mapped for itself to that of the largest piece
that was freed, up to 32 MiB: from then on tensors lie in heaps, one for every few threads, and a
heap shrinks only from its end. Measured, see docs/testbed.md.
"""

from __future__ import annotations

import ctypes
import platform

_M_TRIM_THRESHOLD, _M_MMAP_THRESHOLD, _M_ARENA_MAX = -1, -3, -8


def give_back_freed(*, mapped_from_bytes: int, num_heaps: int = 2) -> bool:
    """From now on, for the whole process; call it before much is allocated.

    Args:
        mapped_from_bytes: pieces of so many bytes are mapped, and given back when they are freed.
        num_heaps: of all threads together.

    Returns:
        Whether the C library took it; only GNU's can.
    """
    if platform.libc_ver()[0] != "glibc":
        return False
    mallopt = ctypes.CDLL(None).mallopt
    wanted = (
        (_M_MMAP_THRESHOLD, mapped_from_bytes),
        (_M_TRIM_THRESHOLD, mapped_from_bytes),
        (_M_ARENA_MAX, num_heaps),
    )
    return all([bool(mallopt(name, value)) for name, value in wanted])
