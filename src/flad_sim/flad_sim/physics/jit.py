# SPDX-License-Identifier: Apache-2.0
"""How the physics kernels are compiled: strict IEEE arithmetic, so that runs repeat bit for bit.

Numba's cache sees changes only of the file that a kernel stands in, so a kernel calls nothing and
reads no constant from another file.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, TypeVar, cast

from numba import njit

F = TypeVar("F", bound=Callable[..., object])


def kernel(function: F) -> F:
    """Compile ``function`` at its first call, or load it from the cache on disk."""
    compiled: Any = njit(cache=True, error_model="numpy")(function)
    return cast(F, compiled)
