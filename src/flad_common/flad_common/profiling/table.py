# SPDX-License-Identifier: Apache-2.0
"""The profile as a table for people."""

from __future__ import annotations

from flad_common.profiling.check import Check
from flad_common.profiling.profile import Cost, Profile

_COLUMNS = ("GFLOP fwd", "bwd", "ms fwd", "bwd", "GFLOP/s", "params", "opt", "out", "saved", "peak")
_WIDTHS = (9, 8, 8, 8, 8, 9, 9, 9, 9, 9)


def table(profile: Profile, depth: int = 1) -> str:
    """Blocks down to ``depth`` names, the total, and the checks."""
    blocks = profile.blocks(depth)
    name_width = max([24, *(len(_indented(path)) for path in blocks)])
    head = "".join(f" {c:>{w}}" for c, w in zip(_COLUMNS, _WIDTHS, strict=True))
    lines = [f"{'block':{name_width}}{head}"]
    lines += [f"{_indented(path):{name_width}}{_cells(cost)}" for path, cost in blocks.items()]
    lines.append(f"{'total':{name_width}}{_cells(profile.total())}")
    lines += ["", f"{'check':{name_width}} {'counted':>12} {'measured':>12} {'ratio':>8}  by"]
    lines += [_check(check, name_width) for check in profile.checks]
    if unknown := _without_formula(profile):
        lines += ["", f"FLOPs without a formula, taken from PyTorch's counter: {unknown}"]
    return "\n".join(lines)


def _indented(path: str) -> str:
    return "  " * path.count(".") + path.rpartition(".")[2]


def _cells(cost: Cost) -> str:
    cells = (
        f"{cost.flops_forward / 1e9:.4f}",
        f"{cost.flops_backward / 1e9:.4f}",
        f"{cost.forward_s * 1e3:.2f}",
        f"{cost.backward_s * 1e3:.2f}",
        f"{cost.gflops_per_s:.1f}",
        _count(cost.num_parameters),
        _size(cost.optimizer_bytes),
        _size(cost.output_bytes),
        _size(cost.saved_bytes),
        _size(cost.peak_bytes),
    )
    return "".join(f" {cell:>{width}}" for cell, width in zip(cells, _WIDTHS, strict=True))


def _check(check: Check, name_width: int) -> str:
    scale, unit = {
        "FLOP": (1e9, "GFLOP"),
        "B": (2.0**20, "MiB"),
        "s": (1e-3, "ms"),
    }[check.unit]
    ours, theirs = check.counted / scale, check.measured / scale
    return (
        f"{check.name + ', ' + unit:{name_width}} {ours:>12.4f} {theirs:>12.4f} "
        f"{check.ratio:>8.3f}  {check.by}"
    )


def _without_formula(profile: Profile) -> str:
    operations = profile.recording.operations
    return ", ".join(sorted({o.kind for o in operations if not o.by_formula}))


def _count(number: int) -> str:
    return f"{number / 1e6:.3f} M" if number >= 1e5 else str(number)


def _size(number: int) -> str:
    return f"{number / 2**20:.2f} Mi" if number >= 2**20 / 10 else f"{number / 2**10:.1f} Ki"
