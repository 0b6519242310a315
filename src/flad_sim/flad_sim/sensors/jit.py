# SPDX-License-Identifier: Apache-2.0
"""The one way kernels are compiled here: without the GIL, cached on disk, safe against stale caches.

Numba's cache notices a change of the file that a function stands in, but not of the functions and
constants that it was compiled with. So the digest of every file that kernels are made of goes into
the name under which a kernel is cached.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable
from pathlib import Path
from typing import Any, TypeVar

from numba import njit
from numba.core import cgutils
from numba.extending import intrinsic

F = TypeVar("F", bound=Callable[..., object])


def kernel(function: F) -> F:
    """Compile ``function`` at its first call, or load it from the cache."""
    function.__qualname__ = f"{function.__qualname__}_{_DIGEST}"
    compiled: F = njit(nogil=True, cache=True, fastmath=True, error_model="numpy")(function)
    return compiled


@intrinsic  # type: ignore[untyped-decorator]
def borrowed(typing_context: Any, array: Any) -> Any:
    """In a kernel: the same array without its reference count.

    Every array that is passed on or sliced costs two atomic operations; a kernel that does this per
    pixel spends half its time there. The caller keeps the array alive as long as the kernel runs.
    """

    def codegen(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
        view = context.make_array(signature.args[0])(context, builder, value=arguments[0])
        view.meminfo = cgutils.get_null_value(view.meminfo.type)
        view.parent = cgutils.get_null_value(view.parent.type)
        return view._getvalue()

    return array(array), codegen


def _source_digest() -> str:
    here = Path(__file__).parent
    files = [*sorted(here.glob("*.py")), here.parent / "scenery" / "materials.py"]
    return hashlib.sha256(b"".join(f.read_bytes() for f in files)).hexdigest()[:8]


_DIGEST = _source_digest()
