# SPDX-License-Identifier: Apache-2.0
"""The one way kernels are compiled: without the GIL, cached on disk, safe from stale caches.

Numba's cache notices a change of the file that a function stands in, but not of the functions and
constants that it was compiled with. So the digest of every file that kernels are made of goes into
the name under which a kernel is cached.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable
from pathlib import Path
from typing import Any, TypeVar, cast

import numpy as np
from numba import njit, types
from numba.extending import intrinsic

F = TypeVar("F", bound=Callable[..., object])


def kernel(function: F) -> F:
    """Compile ``function`` at its first call, or load it from the cache.

    Its float literals are made single precision: one double in a formula makes all of it double.
    """
    function.__qualname__ = f"{function.__qualname__}_{_DIGEST}"
    code = function.__code__
    literals = (np.float32(c) if isinstance(c, float) else c for c in code.co_consts)
    function.__code__ = code.replace(co_consts=tuple(literals))
    compiled: Any = njit(nogil=True, cache=True, fastmath=True, error_model="numpy")(function)
    return cast(F, compiled)


def _pointer(typing_context: Any, array: Any) -> Any:

    def codegen(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
        return context.make_array(signature.args[0])(context, builder, value=arguments[0]).data

    address: Any = types.CPointer
    return address(array.dtype)(array), codegen


# In a kernel, pointer(array) is the address of a contiguous array's data, to be indexed flat. Numba
# counts references to arrays: passing one on, alone or in a tuple, costs two calls, and a kernel
# that does this per pixel spends more than half its time there. Pointers cost nothing. The caller
# keeps the array alive as long as the kernel runs.
pointer: Any = intrinsic(_pointer)


def _source_digest() -> str:
    here = Path(__file__).parent
    scenery = here.parent / "scenery"
    files = [*sorted(here.glob("*.py")), scenery / "materials.py", scenery / "paint.py"]
    return hashlib.sha256(b"".join(f.read_bytes() for f in files)).hexdigest()[:8]


_DIGEST = _source_digest()
