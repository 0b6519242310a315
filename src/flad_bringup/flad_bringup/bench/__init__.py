# SPDX-License-Identifier: Apache-2.0
"""The benchmarks: one module per name, registered here.

A benchmark's module offers ``SUMMARY`` (one line), ``MINUTES`` (how long it takes on two cores),
``add_arguments(parser)`` and ``measure(args) -> list[Row]`` (:mod:`flad_bringup.bench.rows`).
"""

from __future__ import annotations

import importlib
from types import ModuleType

NAMES: tuple[str, ...] = (
    "setup",
    "sim",
    "expert",
    "soak",
    "loader",
    "encoder",
    "node",
    "edge",
    "adm",
    "fleet",
    "learning",
    "exactness",
    "transport",
    "recovery",
    "soak_federate",
    "throughput",
    "memory",
    "privacy",
    "stages",
    "swift",
    "traffic",
)
"""Every benchmark, in the order of ``docs/benchmarks.md``."""


def load(name: str) -> ModuleType:
    """The module of one benchmark; imported only when it is asked for."""
    return importlib.import_module(f"flad_bringup.bench.{name}")
