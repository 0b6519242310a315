# SPDX-License-Identifier: Apache-2.0
"""What Linux says of memory: of this process, of its container, of the computer."""

from __future__ import annotations

import contextlib
import gc
from dataclasses import dataclass
from pathlib import Path

import torch

_UNLIMITED_BYTES = 1 << 60


@dataclass(frozen=True, kw_only=True)
class Reading:
    """Memory at one moment."""

    process_bytes: int
    """Resident memory of this process."""
    available_bytes: int
    """That the computer can still give without swapping."""


def read_memory() -> Reading:
    """Now; the narrower of the computer and of this process's container."""
    available = _line_bytes(Path("/proc/meminfo"), "MemAvailable")
    return Reading(
        process_bytes=process_bytes(), available_bytes=min(available, _container_room_bytes())
    )


def process_bytes(*, peak: bool = False) -> int:
    """Resident memory of this process; its peak since the start, or since it was reset."""
    return _line_bytes(Path("/proc/self/status"), "VmHWM" if peak else "VmRSS")


def reset_peak() -> None:
    """Let the peak be what is resident now; where the kernel refuses, it stays."""
    with contextlib.suppress(OSError):
        Path("/proc/self/clear_refs").write_text("5", encoding="ascii")


def live_tensor_bytes() -> int:
    """Memory of all tensors that Python knows, each piece once; those of autograd are not seen."""
    gc.collect()
    pieces = {}
    for found in gc.get_objects():
        if type(found) in (torch.Tensor, torch.nn.Parameter) and found.layout == torch.strided:
            storage = found.untyped_storage()
            if found.device.type == "cpu":
                pieces[storage.data_ptr()] = storage.nbytes()
    return sum(pieces.values())


def _container_room_bytes() -> int:
    """Of cgroup 2, or 1; a page cache that could go counts as used, so this is the lower bound."""
    for limit, used in (("memory.max", "memory.current"), ("memory/memory.limit_in_bytes", "")):
        root = Path("/sys/fs/cgroup")
        with contextlib.suppress(OSError, ValueError):
            most = int((root / limit).read_text(encoding="ascii"))
            now = root / (used or "memory/memory.usage_in_bytes")
            if most < _UNLIMITED_BYTES:
                return max(0, most - int(now.read_text(encoding="ascii")))
    return _UNLIMITED_BYTES


def _line_bytes(file: Path, name: str) -> int:
    for line in file.read_text(encoding="ascii").splitlines():
        if line.startswith(f"{name}:"):
            return int(line.split()[1]) * 1024
    raise OSError(f"{file} has no {name}; memory can only be watched on Linux")
