# SPDX-License-Identifier: Apache-2.0
"""Random numbers that belong to (step, micro-batch, unit) and not to whoever runs the unit.

Dropout then falls the same wherever a unit runs, in whatever order, and also after a failure: no
state of a generator has to be kept or moved.
"""

from __future__ import annotations

import hashlib
import threading
from collections.abc import Iterator
from contextlib import contextmanager

import torch
from torch.random import fork_rng

# PyTorch's default generator is the process's: two threads with a unit each take turns.
_ONE_AT_A_TIME = threading.Lock()


def unit_seed(seed: int, step: int, micro_batch: int, unit: int) -> int:
    """63 bits that no other (seed, step, micro-batch, unit) shares, as far as SHA-256 goes."""
    text = f"{seed}/{step}/{micro_batch}/{unit}".encode()
    return int.from_bytes(hashlib.sha256(text).digest()[:8], "big") >> 1


@contextmanager
def seeded(seed: int, device: torch.device) -> Iterator[None]:
    """Let PyTorch's default generator begin from ``seed``; afterwards it is as it was."""
    devices = [device] if device.type == "cuda" else []
    with _ONE_AT_A_TIME, fork_rng(devices=devices):
        torch.manual_seed(seed)
        yield
