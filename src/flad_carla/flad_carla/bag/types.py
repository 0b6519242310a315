# SPDX-License-Identifier: Apache-2.0
"""Message types for a bag, from the ``.msg`` files of the checkout or of an installed workspace."""

from __future__ import annotations

import functools
import importlib.util
from pathlib import Path
from typing import Any

import numpy as np
from rosbags.interfaces import Nodetype
from rosbags.typesys import Stores, get_types_from_msg, get_typestore
from rosbags.typesys.store import Typestore

# Beside Humble's own types. Where a file is missing, its topic is left out of the bag.
CUSTOM_TYPES = (
    "carla_msgs/msg/CarlaEgoVehicleControl",
    "flad_msgs/msg/Plan",
    "flad_msgs/msg/ScenePrediction",
    "flad_msgs/msg/SceneTokens",
)


class MessageTypes:
    """Humble's types and ours, and messages made of them."""

    def __init__(self) -> None:
        self.store: Typestore = get_typestore(Stores.ROS2_HUMBLE)
        for name in CUSTOM_TYPES:
            path = find_definition(name)
            if path is not None:
                self.store.register(get_types_from_msg(path.read_text(encoding="utf-8"), name))
        self._blanks: dict[str, dict[str, Any]] = {}

    def __contains__(self, name: str) -> bool:
        """Whether messages of this type can be made."""
        return name in self.store.types

    def new(self, type_name: str, /, **fields: Any) -> Any:
        """Make a message; fields that are not given are zero or empty, as in ROS.

        Messages share their blank parts: they are written, not changed.

        Raises:
            TypeError: on a field that the type does not have.
        """
        blank = self._blanks.get(type_name)
        if blank is None:
            _, definition = self.store.fielddefs[type_name]
            blank = {name: self._blank(*kind) for name, kind in definition}
            self._blanks[type_name] = blank
        return self.store.types[type_name](**{**blank, **fields})

    def _blank(self, node: Nodetype, of: Any) -> Any:
        if node is Nodetype.NAME:
            return self.new(of)
        if node is Nodetype.BASE:
            kind = of[0]
            return "" if kind == "string" else False if kind == "bool" else np.dtype(kind).type(0)
        (inner, inner_of), size = of
        if inner is Nodetype.BASE and inner_of[0] != "string":
            return np.zeros(size, dtype=inner_of[0])
        return [self._blank(inner, inner_of) for _ in range(size)]


@functools.cache
def find_definition(type_name: str) -> Path | None:
    """The ``.msg`` file of ``package/msg/Name``: in this checkout or in an installed workspace."""
    package, _, name = type_name.split("/")
    relative = Path(package) / "msg" / f"{name}.msg"
    places = []
    for parent in Path(__file__).resolve().parents:
        places += [parent / "src" / relative, parent / "overlay" / relative]
    try:
        spec = importlib.util.find_spec(package)
    except ImportError:
        spec = None
    if spec is not None and spec.origin is not None:
        places += [parent / "share" / relative for parent in Path(spec.origin).parents]
    return next((place for place in places if place.is_file()), None)
