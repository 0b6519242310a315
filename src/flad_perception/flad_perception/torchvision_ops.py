# SPDX-License-Identifier: Apache-2.0
"""Import this before torchvision: it declares operators that a torch without CUDA may lack.

torchvision's compiled operators load only beside the torch they were built for. Beside another
build (the CPU build of the same release) ``import torchvision`` fails with "operator
torchvision::nms does not exist", although its models need none of them.
"""

from __future__ import annotations

import importlib.util
from pathlib import Path

import torch

_SCHEMAS = {
    "nms": "nms(Tensor dets, Tensor scores, float iou_threshold) -> Tensor",
    "qnms": "qnms(Tensor dets, Tensor scores, float iou_threshold) -> Tensor",
}


def _declare_missing() -> torch.library.Library | None:
    """Declare the schemas, unless torchvision's own library brings them."""
    if _compiled_operators_load():
        return None
    library = torch.library.Library("torchvision", "FRAGMENT")
    for name, schema in _SCHEMAS.items():
        if not hasattr(torch.ops.torchvision, name):
            library.define(schema)
    return library


def _compiled_operators_load() -> bool:
    """Load torchvision's operators as it would itself; False where they do not fit this torch."""
    spec = importlib.util.find_spec("torchvision")
    if spec is None or spec.origin is None:
        return False
    for path in sorted(Path(spec.origin).parent.glob("_C*.so")):
        try:
            torch.ops.load_library(path)
        except OSError:
            return False
        return True
    return False


# Kept alive: the schemas go with it.
LIBRARY = _declare_missing()
